-- What in a version's files could run code, and for which of it an owner answers.
ALTER TABLE modelhub.versions ADD COLUMN findings jsonb NOT NULL DEFAULT '[]';

-- `path` '': wherever it is found. The signature covers all but the revocation.
CREATE TABLE modelhub.exceptions (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    version_id uuid NOT NULL,
    finding text NOT NULL,
    path text NOT NULL,
    reason text NOT NULL,
    author text NOT NULL,
    author_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    kid text NOT NULL,
    signature bytea NOT NULL,
    revoked_by text,
    revoked_at timestamptz,
    FOREIGN KEY (project_id, version_id) REFERENCES modelhub.versions (project_id, id) ON DELETE CASCADE
);
CREATE INDEX exceptions_version ON modelhub.exceptions (version_id, id);
SELECT cluster.wall_by_project('modelhub.exceptions');
