CREATE TABLE modelhub.models (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    last_version int NOT NULL DEFAULT 0,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (project_id, id)
);
CREATE UNIQUE INDEX models_name ON modelhub.models (project_id, name) WHERE deleted_at IS NULL;
SELECT cluster.wall_by_project('modelhub.models');

CREATE TABLE modelhub.versions (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    model_id uuid NOT NULL,
    version int NOT NULL,
    run_id uuid NOT NULL,
    flavour text NOT NULL CHECK (flavour IN ('onnx', 'safetensors')),
    state text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'READY', 'REJECTED')),
    reason text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    signature jsonb,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    lock_token uuid,
    locked_until timestamptz,
    attempts int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    UNIQUE (model_id, version),
    UNIQUE (project_id, id),
    FOREIGN KEY (project_id, model_id) REFERENCES modelhub.models (project_id, id),
    FOREIGN KEY (project_id, run_id) REFERENCES modelhub.runs (project_id, id)
);
CREATE INDEX versions_pending ON modelhub.versions (next_attempt_at, id) WHERE state = 'PENDING' AND deleted_at IS NULL;
SELECT cluster.wall_by_project('modelhub.versions');

CREATE TABLE modelhub.version_files (
    project_id uuid NOT NULL,
    version_id uuid NOT NULL,
    path text NOT NULL,
    key text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    PRIMARY KEY (version_id, path),
    FOREIGN KEY (project_id, version_id) REFERENCES modelhub.versions (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.version_files');

CREATE TABLE modelhub.aliases (
    project_id uuid NOT NULL,
    model_id uuid NOT NULL,
    name text NOT NULL,
    version_id uuid NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model_id, name),
    FOREIGN KEY (project_id, model_id) REFERENCES modelhub.models (project_id, id),
    FOREIGN KEY (project_id, version_id) REFERENCES modelhub.versions (project_id, id)
);
CREATE INDEX aliases_version ON modelhub.aliases (version_id);
SELECT cluster.wall_by_project('modelhub.aliases');

-- One graph, walked both ways: the primary key serves down, the index serves up.
CREATE TABLE modelhub.edges (
    project_id uuid NOT NULL,
    source_kind text NOT NULL,
    source_id text NOT NULL,
    target_kind text NOT NULL,
    target_id text NOT NULL,
    relation text NOT NULL,
    source_label text NOT NULL,
    target_label text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, source_kind, source_id, target_kind, target_id, relation)
);
CREATE INDEX edges_up ON modelhub.edges (project_id, target_kind, target_id);
CREATE INDEX edges_source_label ON modelhub.edges (project_id, source_kind, source_label);
CREATE INDEX edges_target_label ON modelhub.edges (project_id, target_kind, target_label);
SELECT cluster.wall_by_project('modelhub.edges');
