-- Who may let a version serve: reviews, checks, protected aliases and where they pointed, deprecation.
ALTER TABLE modelhub.models ADD COLUMN self_approval boolean NOT NULL DEFAULT false;
-- `author_id`: the person or program behind the session, key or job that `created_by` names.
ALTER TABLE modelhub.versions
    ADD COLUMN author_id uuid,
    ADD COLUMN deprecation jsonb;

CREATE TABLE modelhub.reviews (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    version_id uuid NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('request', 'approve', 'reject')),
    reason text NOT NULL,
    author text NOT NULL,
    author_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (project_id, version_id) REFERENCES modelhub.versions (project_id, id) ON DELETE CASCADE
);
CREATE INDEX reviews_version ON modelhub.reviews (version_id, id);
SELECT cluster.wall_by_project('modelhub.reviews');

-- `metrics` are texts, for JSON has no NaN.
CREATE TABLE modelhub.checks (
    project_id uuid NOT NULL,
    version_id uuid NOT NULL,
    name text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'passed', 'failed')),
    summary text NOT NULL,
    url text,
    metrics jsonb NOT NULL,
    run_id uuid,
    author text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (version_id, name),
    FOREIGN KEY (project_id, version_id) REFERENCES modelhub.versions (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, run_id) REFERENCES modelhub.runs (project_id, id)
);
SELECT cluster.wall_by_project('modelhub.checks');

CREATE TABLE modelhub.protections (
    project_id uuid NOT NULL,
    model_id uuid NOT NULL,
    alias text NOT NULL,
    required_approvals int NOT NULL,
    required_checks text[] NOT NULL,
    thresholds text[] NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model_id, alias),
    FOREIGN KEY (project_id, model_id) REFERENCES modelhub.models (project_id, id)
);
SELECT cluster.wall_by_project('modelhub.protections');

-- `version` NULL: the alias was deleted.
CREATE TABLE modelhub.alias_moves (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    model_id uuid NOT NULL,
    alias text NOT NULL,
    moved_from int,
    version int,
    moved_by text NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (project_id, model_id) REFERENCES modelhub.models (project_id, id)
);
CREATE INDEX alias_moves_newest ON modelhub.alias_moves (model_id, alias, id DESC);
SELECT cluster.wall_by_project('modelhub.alias_moves');
