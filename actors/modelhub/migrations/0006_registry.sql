-- Models that a client logs before, or without, registering them; and what its registry keeps of models and versions.
CREATE TABLE modelhub.logged_models (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    experiment_id uuid NOT NULL,
    run_id uuid,
    name text NOT NULL,
    model_type text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'READY', 'UPLOAD_FAILED')),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (project_id, id),
    FOREIGN KEY (project_id, experiment_id) REFERENCES modelhub.experiments (project_id, id),
    FOREIGN KEY (project_id, run_id) REFERENCES modelhub.runs (project_id, id)
);
CREATE INDEX logged_models_newest ON modelhub.logged_models (experiment_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
SELECT cluster.wall_by_project('modelhub.logged_models');

-- `kind`: a param or a tag.
CREATE TABLE modelhub.logged_model_texts (
    project_id uuid NOT NULL,
    model_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('param', 'tag')),
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (model_id, kind, key),
    FOREIGN KEY (project_id, model_id) REFERENCES modelhub.logged_models (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.logged_model_texts');

-- A metric that a run measured on a model, and on which data; the newest of each.
CREATE TABLE modelhub.logged_model_metrics (
    project_id uuid NOT NULL,
    model_id uuid NOT NULL,
    run_id uuid NOT NULL,
    key text NOT NULL,
    dataset_name text NOT NULL DEFAULT '',
    dataset_digest text NOT NULL DEFAULT '',
    step bigint NOT NULL,
    at timestamptz NOT NULL,
    value double precision NOT NULL,
    PRIMARY KEY (model_id, key, dataset_name, dataset_digest, run_id),
    FOREIGN KEY (project_id, model_id) REFERENCES modelhub.logged_models (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.logged_model_metrics');

CREATE TABLE modelhub.run_models (
    project_id uuid NOT NULL,
    run_id uuid NOT NULL,
    model_id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('input', 'output')),
    step bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, model_id, role),
    FOREIGN KEY (project_id, run_id) REFERENCES modelhub.runs (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, model_id) REFERENCES modelhub.logged_models (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.run_models');

ALTER TABLE modelhub.models ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE modelhub.versions
    ALTER COLUMN run_id DROP NOT NULL,
    DROP CONSTRAINT versions_flavour_check,
    DROP CONSTRAINT versions_state_check,
    ADD CONSTRAINT versions_flavour_check CHECK (flavour IN ('onnx', 'safetensors', 'mlflow')),
    ADD CONSTRAINT versions_state_check CHECK (state IN ('PENDING', 'READY', 'QUARANTINED', 'REJECTED')),
    ADD COLUMN source text NOT NULL DEFAULT '',
    ADD COLUMN run_link text NOT NULL DEFAULT '',
    ADD COLUMN stage text NOT NULL DEFAULT 'None' CHECK (stage IN ('None', 'Staging', 'Production', 'Archived')),
    ADD COLUMN logged_model_id uuid,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

CREATE TABLE modelhub.model_tags (
    project_id uuid NOT NULL,
    model_id uuid NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (model_id, key),
    FOREIGN KEY (project_id, model_id) REFERENCES modelhub.models (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.model_tags');

CREATE TABLE modelhub.version_tags (
    project_id uuid NOT NULL,
    version_id uuid NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (version_id, key),
    FOREIGN KEY (project_id, version_id) REFERENCES modelhub.versions (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.version_tags');
