CREATE SCHEMA modelhub;

-- What is deleted keeps its row: lineage and served versions still point at it, and the name is free again.
CREATE TABLE modelhub.experiments (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (project_id, id)
);
CREATE UNIQUE INDEX experiments_name ON modelhub.experiments (project_id, name) WHERE deleted_at IS NULL;
SELECT cluster.wall_by_project('modelhub.experiments');

CREATE TABLE modelhub.runs (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    experiment_id uuid NOT NULL,
    name text NOT NULL,
    state text NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'FINISHED', 'FAILED', 'KILLED')),
    job_id uuid,
    created_by text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    deleted_at timestamptz,
    UNIQUE (project_id, id),
    FOREIGN KEY (project_id, experiment_id) REFERENCES modelhub.experiments (project_id, id)
);
CREATE INDEX runs_newest ON modelhub.runs (project_id, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX runs_experiment ON modelhub.runs (project_id, experiment_id, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX runs_job ON modelhub.runs (project_id, job_id) WHERE job_id IS NOT NULL;
SELECT cluster.wall_by_project('modelhub.runs');

CREATE TABLE modelhub.run_params (
    project_id uuid NOT NULL,
    run_id uuid NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (run_id, key),
    FOREIGN KEY (project_id, run_id) REFERENCES modelhub.runs (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.run_params');

CREATE TABLE modelhub.run_tags (
    project_id uuid NOT NULL,
    run_id uuid NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (run_id, key),
    FOREIGN KEY (project_id, run_id) REFERENCES modelhub.runs (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.run_tags');

-- A series and its latest point; the points name it by a short number.
CREATE TABLE modelhub.metrics (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id uuid NOT NULL,
    run_id uuid NOT NULL,
    key text NOT NULL,
    step bigint NOT NULL,
    at timestamptz NOT NULL,
    value double precision NOT NULL,
    CONSTRAINT metrics_run_key UNIQUE (run_id, key),
    FOREIGN KEY (project_id, run_id) REFERENCES modelhub.runs (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.metrics');

-- The key is the whole point, so that a batch sent twice is stored once.
CREATE TABLE modelhub.metric_points (
    project_id uuid NOT NULL,
    metric_id bigint NOT NULL,
    step bigint NOT NULL,
    at timestamptz NOT NULL,
    value double precision NOT NULL,
    PRIMARY KEY (metric_id, step, at, value)
) PARTITION BY HASH (metric_id);
DO $$
BEGIN
    FOR n IN 0..7 LOOP
        EXECUTE format('CREATE TABLE modelhub.metric_points_%s PARTITION OF modelhub.metric_points FOR VALUES WITH (MODULUS 8, REMAINDER %s)', n, n);
    END LOOP;
END $$;
SELECT cluster.wall_by_project('modelhub.metric_points');

CREATE TABLE modelhub.artifacts (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    run_id uuid NOT NULL,
    path text NOT NULL,
    key text NOT NULL,
    sha256 text NOT NULL,
    size_bytes bigint NOT NULL,
    stored boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT artifacts_path UNIQUE (run_id, path),
    FOREIGN KEY (project_id, run_id) REFERENCES modelhub.runs (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('modelhub.artifacts');
