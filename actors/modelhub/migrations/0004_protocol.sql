-- What clients of MLflow's protocol log beside runs, params and metrics.
ALTER TABLE modelhub.experiments ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

CREATE TABLE modelhub.experiment_tags (
    project_id uuid NOT NULL,
    experiment_id uuid NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (experiment_id, key),
    FOREIGN KEY (project_id, experiment_id) REFERENCES modelhub.experiments (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.experiment_tags');

-- A dataset as the client saw it: what it calls the data and a digest, not the data.
CREATE TABLE modelhub.run_datasets (
    project_id uuid NOT NULL,
    run_id uuid NOT NULL,
    name text NOT NULL,
    digest text NOT NULL,
    source_type text NOT NULL,
    source text NOT NULL,
    schema text,
    profile text,
    tags jsonb NOT NULL DEFAULT '{}',
    logged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, name, digest),
    FOREIGN KEY (project_id, run_id) REFERENCES modelhub.runs (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.run_datasets');
CREATE INDEX runs_begun ON modelhub.runs (experiment_id, started_at DESC, id DESC);
