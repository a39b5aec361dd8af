-- Contents that lie in place: objects of other buckets, imported as they are. `id` is a digest of the other columns that begins with
-- 'in-place' (docs/adr/0012); no SHA-256 of an uploaded content may begin so. `sha256` is known once somebody read all of it.
CREATE TABLE dataforge.places (
    project_id uuid NOT NULL,
    id bytea NOT NULL CHECK (length(id) = 32 AND starts_with(encode(id, 'hex'), '696e2d706c616365')),
    bucket text NOT NULL,
    key text NOT NULL,
    etag text NOT NULL,
    version_id text,
    size_bytes bigint NOT NULL,
    sha256 bytea,
    touched_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, id)
);
SELECT cluster.wall_by_project('dataforge.places');
ALTER TABLE dataforge.blobs ADD CHECK (NOT starts_with(encode(sha256, 'hex'), '696e2d706c616365'));

ALTER TABLE dataforge.collections ADD COLUMN places bigint NOT NULL DEFAULT 0;

-- Imports under way and done. `cursor` is the last key that is in `tree`: whoever takes the row over goes on behind it.
CREATE TABLE dataforge.imports (
    project_id uuid NOT NULL,
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    bucket text NOT NULL,
    prefix text NOT NULL,
    branch text NOT NULL,
    message text NOT NULL,
    parent_id uuid,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'failed', 'canceled')),
    cursor text,
    tree bytea,
    files bigint NOT NULL DEFAULT 0,
    size_bytes bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    skipped_keys jsonb NOT NULL DEFAULT '[]',
    commit_id uuid,
    error text,
    created_by text NOT NULL,
    creator_kind text NOT NULL,
    creator_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    lock_token uuid,
    locked_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    CHECK ((state = 'running') = (finished_at IS NULL)),
    FOREIGN KEY (project_id, dataset_id) REFERENCES dataforge.datasets ON DELETE CASCADE
);
CREATE INDEX imports_dataset ON dataforge.imports (project_id, dataset_id, id DESC);
CREATE INDEX imports_running ON dataforge.imports (next_attempt_at) WHERE state = 'running';
SELECT cluster.wall_by_project('dataforge.imports');

-- Verifications read every file in place of a commit. `cursor` is the last path that was looked at.
CREATE TABLE dataforge.verifications (
    project_id uuid NOT NULL,
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    commit_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'failed', 'canceled')),
    cursor text NOT NULL DEFAULT '',
    files bigint NOT NULL DEFAULT 0,
    size_bytes bigint NOT NULL DEFAULT 0,
    faults bigint NOT NULL DEFAULT 0,
    error text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    lock_token uuid,
    locked_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    UNIQUE (project_id, id),
    CHECK ((state = 'running') = (finished_at IS NULL)),
    FOREIGN KEY (project_id, dataset_id, commit_id) REFERENCES dataforge.commits (project_id, dataset_id, id) ON DELETE CASCADE
);
CREATE INDEX verifications_dataset ON dataforge.verifications (project_id, dataset_id, id DESC);
CREATE INDEX verifications_running ON dataforge.verifications (next_attempt_at) WHERE state = 'running';
SELECT cluster.wall_by_project('dataforge.verifications');

CREATE TABLE dataforge.verification_faults (
    project_id uuid NOT NULL,
    verification_id uuid NOT NULL,
    path text NOT NULL,
    uri text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('changed', 'vanished')),
    reason text NOT NULL,
    PRIMARY KEY (project_id, verification_id, path),
    FOREIGN KEY (project_id, verification_id) REFERENCES dataforge.verifications (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('dataforge.verification_faults');
