-- Secrets of projects: each encrypted under a key of its own, which a master key outside of the database wraps.
CREATE TABLE securityvault.secrets (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    name text NOT NULL,
    version int NOT NULL DEFAULT 1,
    key_id text NOT NULL,
    wrapped_key bytea NOT NULL,
    content bytea NOT NULL,
    set_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz,
    CONSTRAINT secret_name UNIQUE (project_id, name),
    FOREIGN KEY (org_id, project_id) REFERENCES securityvault.projects (org_id, id)
);
SELECT cluster.wall_by_project('securityvault.secrets');
