-- When a job that waits is expected to start and to end. The first expectation is its promise: it stays, and is compared with what came.
CREATE TABLE trainos.forecasts (
    project_id uuid NOT NULL,
    job_id uuid PRIMARY KEY,
    made_at timestamptz NOT NULL,
    starts_at timestamptz NOT NULL,
    starts_from timestamptz NOT NULL,
    starts_until timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    ends_from timestamptz NOT NULL,
    ends_until timestamptz NOT NULL,
    promised_at timestamptz NOT NULL,
    promised_start tstzrange NOT NULL,
    promised_end tstzrange NOT NULL,
    FOREIGN KEY (project_id, job_id) REFERENCES trainos.jobs (project_id, id)
);
CREATE INDEX forecasts_promised ON trainos.forecasts (project_id, promised_at);
SELECT cluster.wall_by_project('trainos.forecasts');

-- Its nodes are now [[id, [cpu, gpu, memory_gib] in all, the same of what is free], ...]; the next look writes them.
DELETE FROM trainos.capacity;
