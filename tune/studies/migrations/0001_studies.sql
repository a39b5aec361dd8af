CREATE SCHEMA studies;

CREATE TABLE studies.studies (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    name text NOT NULL,
    spec jsonb NOT NULL,
    space_version int NOT NULL DEFAULT 1,
    state text NOT NULL,
    reason text NOT NULL DEFAULT '',
    -- The job that drives it now is the last one.
    job_ids uuid[] NOT NULL DEFAULT '{}',
    -- Jobs begun by the platform since a trial last ended.
    restarts int NOT NULL DEFAULT 0,
    -- Time of the stretches before this one, and when this one began.
    ran_s double precision NOT NULL DEFAULT 0,
    running_since timestamptz,
    traceparent text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    lock_token uuid,
    locked_until timestamptz,
    attempts int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    CONSTRAINT studies_name UNIQUE (project_id, name),
    UNIQUE (project_id, id)
);
CREATE INDEX studies_project ON studies.studies (project_id, id DESC);
CREATE INDEX studies_work ON studies.studies (next_attempt_at) WHERE state = 'RUNNING';
SELECT cluster.wall_by_project('studies.studies');

CREATE TABLE studies.trials (
    project_id uuid NOT NULL,
    study_id uuid NOT NULL,
    number int NOT NULL,
    state text NOT NULL,
    params jsonb NOT NULL,
    "values" jsonb NOT NULL DEFAULT '{}',
    step bigint,
    -- The step at which the pruner said that the trial is to end.
    stop_step bigint,
    reason text NOT NULL DEFAULT '',
    attempt int NOT NULL DEFAULT 1,
    run_id uuid NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (study_id, number),
    FOREIGN KEY (project_id, study_id) REFERENCES studies.studies (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('studies.trials');

-- What trials measured on the way. A number of its own type, because JSON has no NaN and a training that diverges has.
CREATE TABLE studies.reports (
    project_id uuid NOT NULL,
    study_id uuid NOT NULL,
    number int NOT NULL,
    metric text NOT NULL,
    step bigint NOT NULL,
    value double precision NOT NULL,
    PRIMARY KEY (study_id, metric, number, step),
    FOREIGN KEY (study_id, number) REFERENCES studies.trials (study_id, number) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('studies.reports');
