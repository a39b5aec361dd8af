-- priority, then queued_at orders the jobs of one project; held_by keeps one back; due_at is when a retry may begin; waits says that it
-- depends on others.
ALTER TABLE trainos.jobs
    ADD COLUMN priority int NOT NULL DEFAULT 0,
    ADD COLUMN held_by text,
    ADD COLUMN waits boolean NOT NULL DEFAULT false,
    ADD COLUMN queued_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN due_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN placement jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN preempted_at timestamptz,
    ADD COLUMN preempted_for text,
    ADD COLUMN preemptions int NOT NULL DEFAULT 0,
    ADD COLUMN restarts int NOT NULL DEFAULT 0;

DROP INDEX trainos.jobs_queue;
CREATE INDEX jobs_queue ON trainos.jobs (project_id, created_by, priority DESC, queued_at, id) WHERE state = 'QUEUED' AND held_by IS NULL AND NOT waits;
CREATE INDEX jobs_oldest ON trainos.jobs (project_id, created_by, queued_at, id) WHERE state = 'QUEUED' AND held_by IS NULL AND NOT waits;
CREATE INDEX jobs_waiting ON trainos.jobs (id) WHERE state = 'QUEUED' AND waits;
CREATE INDEX jobs_leased ON trainos.jobs (id) WHERE state IN ('STARTING', 'RUNNING', 'PREEMPTING', 'CANCELLING');
DROP INDEX trainos.jobs_work;
CREATE INDEX jobs_work ON trainos.jobs (next_attempt_at) WHERE state IN ('STARTING', 'RUNNING', 'PREEMPTING', 'CANCELLING');

-- A job begins once all that it depends on has succeeded.
CREATE TABLE trainos.dependencies (
    project_id uuid NOT NULL,
    job_id uuid NOT NULL,
    on_id uuid NOT NULL,
    PRIMARY KEY (job_id, on_id),
    FOREIGN KEY (project_id, job_id) REFERENCES trainos.jobs (project_id, id),
    FOREIGN KEY (project_id, on_id) REFERENCES trainos.jobs (project_id, id)
);
SELECT cluster.wall_by_project('trainos.dependencies');

-- What a project may hold at once; NULL is unlimited. A project without a row owns nothing and shares what is left.
CREATE TABLE trainos.quotas (
    project_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    nominal jsonb NOT NULL,
    limits jsonb NOT NULL,
    user_limits jsonb NOT NULL,
    weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0),
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
SELECT cluster.wall_by_project('trainos.quotas');

-- Resource-seconds of leases that have ended, decayed to measured_at.
CREATE TABLE trainos.usage (
    project_id uuid PRIMARY KEY,
    cpu_s double precision NOT NULL,
    gpu_s double precision NOT NULL,
    memory_gib_s double precision NOT NULL,
    measured_at timestamptz NOT NULL
);
SELECT cluster.wall_by_project('trainos.usage');

-- What is left of a use after a time: half of it after an hour.
CREATE FUNCTION trainos.decay(passed interval) RETURNS double precision LANGUAGE sql IMMUTABLE
    AS $$ SELECT 0.5 ^ (greatest(extract(epoch FROM passed), 0) / 3600.0)::double precision $$;
