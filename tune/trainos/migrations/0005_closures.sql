-- Projects of which nothing starts, and whose running jobs are asked to save and stop, until they are opened again.
CREATE TABLE trainos.closures (
    project_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    reason text NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT now()
);
SELECT cluster.wall_by_project('trainos.closures');
