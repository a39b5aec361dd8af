-- History is a graph: a merge has a second parent. A commit's generation is one above its parents', so the ancestors of a
-- commit are walked from the tip down and no further than a question needs.
ALTER TABLE dataforge.commits
    ADD COLUMN merge_parent_id uuid,
    ADD COLUMN generation integer NOT NULL DEFAULT 0,
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
    ADD FOREIGN KEY (project_id, dataset_id, merge_parent_id) REFERENCES dataforge.commits (project_id, dataset_id, id);
CREATE INDEX commits_merge_parent ON dataforge.commits (project_id, dataset_id, merge_parent_id) WHERE merge_parent_id IS NOT NULL;

SET LOCAL ROLE aidos_platform;
WITH RECURSIVE log AS (
    SELECT project_id, id, 0 AS generation FROM dataforge.commits WHERE parent_id IS NULL
     UNION ALL
    SELECT c.project_id, c.id, log.generation + 1 FROM log JOIN dataforge.commits c ON c.project_id = log.project_id AND c.parent_id = log.id
)
UPDATE dataforge.commits c SET generation = log.generation FROM log WHERE c.project_id = log.project_id AND c.id = log.id;
RESET ROLE;

-- Paths that are not in folded form (policy.fold), by a digest of that form: where another spelling of a path may stand.
-- Whether it does stands in the tree; a row is never wrong, so none is taken back.
CREATE TABLE dataforge.spellings (
    project_id uuid NOT NULL,
    folded bytea NOT NULL,
    path text NOT NULL,
    PRIMARY KEY (project_id, folded, path)
);
SELECT cluster.wall_by_project('dataforge.spellings');

CREATE TABLE dataforge.checks (
    project_id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    commit_id uuid NOT NULL,
    name text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'passed', 'failed')),
    summary text NOT NULL,
    url text,
    report_id uuid,
    author text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, commit_id, name),
    FOREIGN KEY (project_id, dataset_id, commit_id) REFERENCES dataforge.commits (project_id, dataset_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('dataforge.checks');

CREATE TABLE dataforge.protections (
    project_id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    branch text NOT NULL,
    required_checks text[] NOT NULL,
    require_pull_request boolean NOT NULL,
    required_approvals integer NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, dataset_id, branch),
    FOREIGN KEY (project_id, dataset_id) REFERENCES dataforge.datasets ON DELETE CASCADE
);
SELECT cluster.wall_by_project('dataforge.protections');

-- Digests do not compress, and a node of some kilobytes is read and written as a whole: it stays in its row as it is.
ALTER TABLE dataforge.nodes ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE dataforge.nodes SET (toast_tuple_target = 8160);

ALTER TABLE dataforge.datasets ADD COLUMN pull_requests integer NOT NULL DEFAULT 0;

-- head_id and base_id are kept when it ends; until then they follow the branches.
CREATE TABLE dataforge.pull_requests (
    project_id uuid NOT NULL,
    id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    number integer NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    source text NOT NULL,
    target text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'merged', 'closed')),
    author text NOT NULL,
    author_id uuid NOT NULL,
    head_id uuid,
    base_id uuid,
    merge_commit_id uuid,
    closed_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, dataset_id, number),
    FOREIGN KEY (project_id, dataset_id) REFERENCES dataforge.datasets ON DELETE CASCADE
);
CREATE UNIQUE INDEX pull_requests_open ON dataforge.pull_requests (project_id, dataset_id, source, target) WHERE state = 'open';
SELECT cluster.wall_by_project('dataforge.pull_requests');

CREATE TABLE dataforge.pull_reviews (
    project_id uuid NOT NULL,
    id uuid NOT NULL,
    pull_request_id uuid NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('approve', 'request_changes', 'comment')),
    body text NOT NULL,
    path text,
    commit_id uuid NOT NULL,
    author text NOT NULL,
    author_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, pull_request_id) REFERENCES dataforge.pull_requests ON DELETE CASCADE
);
CREATE INDEX pull_reviews_order ON dataforge.pull_reviews (project_id, pull_request_id, id);
SELECT cluster.wall_by_project('dataforge.pull_reviews');
