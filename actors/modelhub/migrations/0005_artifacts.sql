-- Files belong to runs, and to models and traces that a client logged on their own.
ALTER TABLE modelhub.artifacts DROP CONSTRAINT artifacts_project_id_run_id_fkey;
ALTER TABLE modelhub.artifacts RENAME COLUMN run_id TO owner_id;

-- Uploads in parts that are under way; the artifact is there when one is completed.
CREATE TABLE modelhub.uploads (
    project_id uuid NOT NULL,
    owner_id uuid NOT NULL,
    path text NOT NULL,
    upload_id text NOT NULL,
    key text NOT NULL,
    parts int NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, owner_id, path, upload_id)
);
SELECT cluster.wall_by_project('modelhub.uploads');
