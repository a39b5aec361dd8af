CREATE SCHEMA dataforge;

CREATE TABLE dataforge.datasets (
    project_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, id),
    CONSTRAINT datasets_name UNIQUE (project_id, name)
);
SELECT cluster.wall_by_project('dataforge.datasets');

-- Manifest nodes (manifest.py), immutable and shared by all commits of a project. Kept as they are hashed: PostgreSQL
-- compresses what is worth it, and a search for a file's digest is a plain scan of the column.
CREATE TABLE dataforge.nodes (
    project_id uuid NOT NULL,
    sha256 bytea NOT NULL,
    level smallint NOT NULL,
    data bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, sha256)
);
SELECT cluster.wall_by_project('dataforge.nodes');

CREATE TABLE dataforge.commits (
    project_id uuid NOT NULL,
    id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    parent_id uuid,
    tree bytea NOT NULL,
    message text NOT NULL,
    author text NOT NULL,
    files bigint NOT NULL,
    size_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, dataset_id, id),
    FOREIGN KEY (project_id, dataset_id) REFERENCES dataforge.datasets ON DELETE CASCADE,
    FOREIGN KEY (project_id, dataset_id, parent_id) REFERENCES dataforge.commits (project_id, dataset_id, id)
);
CREATE INDEX commits_tree ON dataforge.commits (project_id, tree);
CREATE INDEX commits_parent ON dataforge.commits (project_id, dataset_id, parent_id);
SELECT cluster.wall_by_project('dataforge.commits');

CREATE TABLE dataforge.refs (
    project_id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('branch', 'tag')),
    commit_id uuid NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, dataset_id, name),
    FOREIGN KEY (project_id, dataset_id) REFERENCES dataforge.datasets ON DELETE CASCADE,
    FOREIGN KEY (project_id, dataset_id, commit_id) REFERENCES dataforge.commits (project_id, dataset_id, id)
);
SELECT cluster.wall_by_project('dataforge.refs');

-- Contents that were seen in S3 with their size: an object of their own, or a verified slice of a pack.
CREATE TABLE dataforge.blobs (
    project_id uuid NOT NULL,
    sha256 bytea NOT NULL,
    size_bytes bigint NOT NULL,
    pack_sha256 bytea,
    offset_bytes bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, sha256)
);
SELECT cluster.wall_by_project('dataforge.blobs');

-- Multipart uploads in progress, so that an interrupted one goes on with the parts that are there.
CREATE TABLE dataforge.uploads (
    project_id uuid NOT NULL,
    sha256 bytea NOT NULL,
    size_bytes bigint NOT NULL,
    upload_id text NOT NULL,
    part_size_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, sha256)
);
SELECT cluster.wall_by_project('dataforge.uploads');
