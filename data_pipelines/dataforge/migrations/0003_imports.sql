-- Garbage collection. `touched_at`: when somebody last relied on the row; within a day of it the row stays, reachable or not.
-- `condemned_at`: the object is being deleted from S3; to everyone else the content is missing already.
ALTER TABLE dataforge.nodes ADD COLUMN touched_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE dataforge.blobs ADD COLUMN touched_at timestamptz NOT NULL DEFAULT now(), ADD COLUMN condemned_at timestamptz;
CREATE INDEX blobs_object ON dataforge.blobs (project_id, (coalesce(pack_sha256, sha256)));
CREATE INDEX blobs_condemned ON dataforge.blobs (project_id) WHERE condemned_at IS NOT NULL;

-- When a collection first found that no ref leads to the commit.
ALTER TABLE dataforge.commits ADD COLUMN unreachable_since timestamptz;

CREATE TABLE dataforge.retentions (
    project_id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    keep_days integer NOT NULL CHECK (keep_days >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, dataset_id),
    FOREIGN KEY (project_id, dataset_id) REFERENCES dataforge.datasets ON DELETE CASCADE
);
SELECT cluster.wall_by_project('dataforge.retentions');

CREATE TABLE dataforge.collections (
    project_id uuid NOT NULL,
    id uuid PRIMARY KEY,
    dataset_id uuid,
    keep_days integer,
    force boolean NOT NULL DEFAULT false,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    commits bigint NOT NULL DEFAULT 0,
    nodes bigint NOT NULL DEFAULT 0,
    contents bigint NOT NULL DEFAULT 0,
    size_bytes bigint NOT NULL DEFAULT 0,
    uploads bigint NOT NULL DEFAULT 0,
    lock_token uuid,
    locked_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text
);
CREATE UNIQUE INDEX collections_open ON dataforge.collections (project_id) WHERE finished_at IS NULL;
CREATE INDEX collections_project ON dataforge.collections (project_id, id DESC);
SELECT cluster.wall_by_project('dataforge.collections');

-- What the entries of a node lead to (nodes.py: the header's ten bytes, paths, digests, sizes, counts).
CREATE FUNCTION dataforge.node_digests(data bytea) RETURNS SETOF bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    entries integer := get_byte(data, 2) + 256 * get_byte(data, 3) + 65536 * get_byte(data, 4);
    start integer := 11 + get_byte(data, 6) + 256 * get_byte(data, 7) + 65536 * get_byte(data, 8);
BEGIN
    FOR i IN 0 .. entries - 1 LOOP
        RETURN NEXT substring(data FROM start + 32 * i FOR 32);
    END LOOP;
END $$;

-- The nodes under all commits but `without`, and under those that were touched since `young`.
CREATE FUNCTION dataforge.reached_nodes(project uuid, without uuid[], young timestamptz) RETURNS TABLE (sha256 bytea, level smallint)
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE reached AS (
        SELECT n.sha256, n.level
          FROM dataforge.nodes n
         WHERE n.project_id = project
           AND (n.touched_at >= young
                OR n.sha256 IN (SELECT c.tree FROM dataforge.commits c WHERE c.project_id = project AND c.id <> ALL (without)))
         UNION
        SELECT child.sha256, child.level
          FROM reached r JOIN dataforge.nodes n ON n.project_id = project AND n.sha256 = r.sha256
         CROSS JOIN LATERAL dataforge.node_digests(n.data) AS digest
          JOIN dataforge.nodes child ON child.project_id = project AND child.sha256 = digest
         WHERE r.level > 0
    )
    SELECT r.sha256, r.level FROM reached r
$$;
