-- What pipelines found out about commits. One row a question (commit, kind, parameters): asking again gives the same row.
-- The job of the row may change: a question whose job failed is asked anew. Whether it failed is TrainOS's to say.
CREATE TABLE dataforge.reports (
    project_id uuid NOT NULL,
    id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    commit_id uuid NOT NULL,
    kind text NOT NULL,
    params jsonb NOT NULL,
    params_sha256 bytea NOT NULL,
    job_id uuid,
    progress jsonb,
    result jsonb,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (project_id, id),
    CONSTRAINT reports_question UNIQUE (project_id, commit_id, kind, params_sha256),
    CHECK ((result IS NULL) = (finished_at IS NULL)),
    FOREIGN KEY (project_id, dataset_id, commit_id) REFERENCES dataforge.commits (project_id, dataset_id, id) ON DELETE CASCADE
);
CREATE INDEX reports_dataset ON dataforge.reports (project_id, dataset_id, id DESC);
SELECT cluster.wall_by_project('dataforge.reports');
