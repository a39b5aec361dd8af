-- A job that is queued anew at the times of a cron expression. next_at: when it is due; times that were missed are made up for once.
CREATE TABLE trainos.schedules (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    project_name text NOT NULL,
    name text NOT NULL,
    cron text NOT NULL,
    timezone text NOT NULL,
    spec jsonb NOT NULL,
    submitter jsonb NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    next_at timestamptz NOT NULL,
    paused_by text,
    last_at timestamptz,
    last_job_id uuid,
    last_reason text NOT NULL DEFAULT '',
    CONSTRAINT schedules_name UNIQUE (project_id, name)
);
CREATE INDEX schedules_due ON trainos.schedules (next_at) WHERE paused_by IS NULL;
SELECT cluster.wall_by_project('trainos.schedules');
