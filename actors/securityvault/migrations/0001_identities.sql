CREATE SCHEMA securityvault;

CREATE TABLE securityvault.organisations (
    id uuid PRIMARY KEY,
    name text NOT NULL CONSTRAINT organisation_name UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
SELECT cluster.wall('securityvault.organisations', 'id = (SELECT cluster.current_org())');

CREATE TABLE securityvault.projects (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES securityvault.organisations,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    rate_limit_per_minute int,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    archived_at timestamptz,
    CONSTRAINT project_name UNIQUE (org_id, name),
    UNIQUE (org_id, id)
);
SELECT cluster.wall_by_org('securityvault.projects');

-- Users and service accounts: both are members, own keys and stand in audit records.
CREATE TABLE securityvault.accounts (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES securityvault.organisations,
    kind text NOT NULL CHECK (kind IN ('user', 'service_account')),
    name text NOT NULL,
    password_hash text,
    org_admin boolean NOT NULL DEFAULT false,
    operator boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deactivated_at timestamptz,
    CONSTRAINT account_name UNIQUE (org_id, name),
    UNIQUE (org_id, id)
);
SELECT cluster.wall_by_org('securityvault.accounts');

CREATE TABLE securityvault.invitations (
    token_sha256 bytea PRIMARY KEY,
    org_id uuid NOT NULL,
    account_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    FOREIGN KEY (org_id, account_id) REFERENCES securityvault.accounts (org_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_org('securityvault.invitations');

CREATE TABLE securityvault.memberships (
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    account_id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('viewer', 'annotator', 'developer', 'maintainer', 'owner')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project_id, account_id),
    FOREIGN KEY (org_id, project_id) REFERENCES securityvault.projects (org_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES securityvault.accounts (org_id, id) ON DELETE CASCADE
);
CREATE INDEX memberships_account ON securityvault.memberships (account_id);
SELECT cluster.wall_by_org('securityvault.memberships');

CREATE TABLE securityvault.api_keys (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid,
    account_id uuid NOT NULL,
    name text NOT NULL,
    grade text NOT NULL,
    scopes text[],
    secret_hmac bytea NOT NULL,
    rate_limit_per_minute int,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    FOREIGN KEY (org_id, project_id) REFERENCES securityvault.projects (org_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES securityvault.accounts (org_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX api_key_name ON securityvault.api_keys (org_id, project_id, name) NULLS NOT DISTINCT WHERE revoked_at IS NULL;
SELECT cluster.wall_by_org('securityvault.api_keys');

-- A session is the family of one chain of refresh tokens.
CREATE TABLE securityvault.sessions (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    account_id uuid NOT NULL,
    client_ip text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    refreshed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz,
    UNIQUE (org_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES securityvault.accounts (org_id, id) ON DELETE CASCADE
);
CREATE INDEX sessions_account ON securityvault.sessions (account_id);
SELECT cluster.wall_by_org('securityvault.sessions');

CREATE TABLE securityvault.refresh_tokens (
    token_sha256 bytea PRIMARY KEY,
    org_id uuid NOT NULL,
    session_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz,
    FOREIGN KEY (org_id, session_id) REFERENCES securityvault.sessions (org_id, id) ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_session ON securityvault.refresh_tokens (session_id);
SELECT cluster.wall_by_org('securityvault.refresh_tokens');

-- What a job may still do: a token is good while its epoch is the job's newest and the job has not ended.
CREATE TABLE securityvault.job_grants (
    job_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    account_id uuid,
    role text NOT NULL,
    epoch bigint NOT NULL,
    revoked_at timestamptz,
    FOREIGN KEY (org_id, project_id) REFERENCES securityvault.projects (org_id, id)
);
SELECT cluster.wall_by_org('securityvault.job_grants');

-- Requests granted to replicas in a window; losing it in a crash only restarts the minute.
CREATE UNLOGGED TABLE securityvault.rate_windows (
    subject text NOT NULL,
    window_start bigint NOT NULL,
    used int NOT NULL,
    granted int NOT NULL,
    ends_at timestamptz NOT NULL,
    PRIMARY KEY (subject, window_start)
);
CREATE INDEX rate_windows_age ON securityvault.rate_windows (ends_at);
SELECT cluster.wall('securityvault.rate_windows', 'false');

CREATE TABLE securityvault.audit_heads (
    org_id uuid PRIMARY KEY,
    seq bigint NOT NULL,
    hash bytea NOT NULL
);
SELECT cluster.wall_by_org('securityvault.audit_heads');
REVOKE DELETE ON securityvault.audit_heads FROM aidos_app, aidos_platform;

CREATE TABLE securityvault.audit_log (
    org_id uuid NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    resource text NOT NULL,
    project_id uuid,
    client_ip text NOT NULL,
    request_id text NOT NULL,
    data text NOT NULL,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (org_id, seq)
);
SELECT cluster.wall_by_org('securityvault.audit_log');
REVOKE UPDATE, DELETE ON securityvault.audit_log FROM aidos_app, aidos_platform;

CREATE TABLE securityvault.audit_checkpoints (
    org_id uuid NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    at timestamptz NOT NULL,
    kid text NOT NULL,
    signature bytea NOT NULL,
    PRIMARY KEY (org_id, seq)
);
SELECT cluster.wall_by_org('securityvault.audit_checkpoints');
REVOKE UPDATE, DELETE ON securityvault.audit_checkpoints FROM aidos_app, aidos_platform;
