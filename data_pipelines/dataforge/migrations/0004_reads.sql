-- What runs read. A source is what a stream goes over: files one after the other, each with as many ordinals as it has rows. It is
-- named by its content, so all runs over the same files share it, and what a run has read of it is one row with ranges of ordinals.
-- Nothing here ends with a dataset: what a model has seen stays known when the data is deleted.
CREATE TABLE dataforge.read_sources (
    project_id uuid NOT NULL,
    sha256 bytea NOT NULL,
    unit text NOT NULL CHECK (unit IN ('file', 'row')),
    size bigint NOT NULL CHECK (size >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, sha256)
);
SELECT cluster.wall_by_project('dataforge.read_sources');

CREATE TABLE dataforge.read_files (
    project_id uuid NOT NULL,
    source bytea NOT NULL,
    ordinals int8range NOT NULL CHECK (NOT isempty(ordinals)),
    sha256 bytea NOT NULL,
    path text NOT NULL,
    PRIMARY KEY (project_id, source, ordinals),
    FOREIGN KEY (project_id, source) REFERENCES dataforge.read_sources (project_id, sha256) ON DELETE CASCADE
);
CREATE INDEX read_files_content ON dataforge.read_files (project_id, sha256);
SELECT cluster.wall_by_project('dataforge.read_files');

CREATE TABLE dataforge.reads (
    project_id uuid NOT NULL,
    run_id uuid NOT NULL,
    source bytea NOT NULL,
    dataset text NOT NULL,
    commit_id uuid NOT NULL,
    ordinals int8multirange NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, run_id, source, commit_id),
    FOREIGN KEY (project_id, source) REFERENCES dataforge.read_sources (project_id, sha256) ON DELETE CASCADE
);
CREATE INDEX reads_source ON dataforge.reads (project_id, source, run_id DESC);
SELECT cluster.wall_by_project('dataforge.reads');
