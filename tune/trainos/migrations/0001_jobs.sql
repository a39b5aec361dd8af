CREATE SCHEMA trainos;

CREATE TABLE trainos.jobs (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    project_name text NOT NULL,
    name text NOT NULL,
    origin text NOT NULL,
    spec jsonb NOT NULL,
    inputs jsonb NOT NULL DEFAULT '[]',
    state text NOT NULL,
    reason text NOT NULL DEFAULT '',
    exit_code int,
    run_id uuid,
    attempt int NOT NULL DEFAULT 0,
    submission_id text,
    ray_session text,
    log_directory text,
    lease_id uuid,
    cpu double precision NOT NULL,
    gpu double precision NOT NULL,
    memory_gib double precision NOT NULL,
    admitted_at timestamptz,
    token_renewed_at timestamptz,
    created_by text NOT NULL,
    submitter jsonb NOT NULL,
    traceparent text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    lock_token uuid,
    locked_until timestamptz,
    attempts int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    UNIQUE (project_id, id)
);
CREATE UNIQUE INDEX jobs_submission ON trainos.jobs (submission_id);
CREATE INDEX jobs_project ON trainos.jobs (project_id, id DESC);
CREATE INDEX jobs_work ON trainos.jobs (next_attempt_at) WHERE state IN ('QUEUED', 'STARTING', 'RUNNING', 'CANCELLING');
CREATE INDEX jobs_queue ON trainos.jobs (id) WHERE state = 'QUEUED';
SELECT cluster.wall_by_project('trainos.jobs');

-- The log of a job in pieces. The offset into Ray's file is written with the piece, so a restarted shipper goes on where it was.
CREATE TABLE trainos.log_chunks (
    project_id uuid NOT NULL,
    job_id uuid NOT NULL,
    seq int NOT NULL,
    attempt int NOT NULL,
    key text NOT NULL,
    offset_bytes bigint NOT NULL,
    attempt_offset_bytes bigint NOT NULL,
    size_bytes int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, seq),
    FOREIGN KEY (project_id, job_id) REFERENCES trainos.jobs (project_id, id)
);
SELECT cluster.wall_by_project('trainos.log_chunks');

CREATE TABLE trainos.checkpoints (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    job_id uuid NOT NULL,
    step bigint NOT NULL,
    files jsonb NOT NULL,
    size_bytes bigint NOT NULL,
    metrics jsonb NOT NULL DEFAULT '{}',
    attempt int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT checkpoints_step UNIQUE (project_id, job_id, step),
    FOREIGN KEY (project_id, job_id) REFERENCES trainos.jobs (project_id, id)
);
SELECT cluster.wall_by_project('trainos.checkpoints');
