-- create_collection --
INSERT INTO dataforge.collections (project_id, id, dataset_id, keep_days, force, dry_run, created_by)
VALUES (%(project_id)s, %(id)s, %(dataset_id)s, %(keep_days)s, %(force)s, %(dry_run)s, %(created_by)s)
ON CONFLICT (project_id, dry_run) WHERE finished_at IS NULL DO NOTHING
RETURNING id, project_id, dataset_id, keep_days, force, dry_run, created_by, created_at, finished_at, commits, nodes, contents, size_bytes, uploads,
          places, unreachable, attempts, last_error;

-- find_collection --
SELECT id, project_id, dataset_id, keep_days, force, dry_run, created_by, created_at, finished_at, commits, nodes, contents, size_bytes, uploads,
       places, unreachable, attempts, last_error
  FROM dataforge.collections
 WHERE project_id = %(project_id)s AND (id = %(id)s OR (%(id)s::uuid IS NULL AND finished_at IS NULL AND dry_run = %(dry_run)s));

-- list_collections --
SELECT id, project_id, dataset_id, keep_days, force, dry_run, created_by, created_at, finished_at, commits, nodes, contents, size_bytes, uploads,
       places, unreachable, attempts, last_error
  FROM dataforge.collections
 WHERE project_id = %(project_id)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- plan_collections --
-- Projects that hold contents or datasets and were not collected for a day; the next project in the key's order is found without reading all rows.
WITH RECURSIVE holding AS (
    SELECT least((SELECT project_id FROM dataforge.blobs ORDER BY project_id LIMIT 1),
                 (SELECT project_id FROM dataforge.places ORDER BY project_id LIMIT 1),
                 (SELECT project_id FROM dataforge.datasets ORDER BY project_id LIMIT 1)) AS project_id
     UNION ALL
    SELECT least((SELECT b.project_id FROM dataforge.blobs b WHERE b.project_id > holding.project_id ORDER BY b.project_id LIMIT 1),
                 (SELECT p.project_id FROM dataforge.places p WHERE p.project_id > holding.project_id ORDER BY p.project_id LIMIT 1),
                 (SELECT d.project_id FROM dataforge.datasets d WHERE d.project_id > holding.project_id ORDER BY d.project_id LIMIT 1))
      FROM holding WHERE holding.project_id IS NOT NULL
)
INSERT INTO dataforge.collections (project_id, id, created_by)
SELECT project_id, uuidv7(), 'platform:dataforge'
  FROM holding
 WHERE project_id IS NOT NULL
   AND NOT EXISTS (SELECT FROM dataforge.collections c
                    WHERE c.project_id = holding.project_id AND NOT c.dry_run AND c.created_at > now() - %(every)s::interval)
    ON CONFLICT (project_id, dry_run) WHERE finished_at IS NULL DO NOTHING;

-- claim_collection --
WITH due AS (
    SELECT id FROM dataforge.collections
     WHERE finished_at IS NULL AND next_attempt_at <= clock_timestamp() AND (locked_until IS NULL OR locked_until < clock_timestamp())
     ORDER BY next_attempt_at, id
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
)
UPDATE dataforge.collections c
   SET lock_token = %(token)s, locked_until = clock_timestamp() + make_interval(secs => %(lock_s)s)
  FROM due
 WHERE c.id = due.id
RETURNING c.id, c.project_id, c.dataset_id, c.keep_days, c.force, c.dry_run, c.created_by, c.created_at, c.finished_at, c.commits, c.nodes,
          c.contents, c.size_bytes, c.uploads, c.places, c.unreachable, c.attempts, c.last_error;

-- finish_collection --
UPDATE dataforge.collections
   SET finished_at = clock_timestamp(), lock_token = NULL, locked_until = NULL, last_error = NULL
 WHERE id = %(id)s AND lock_token = %(token)s;

-- count_collected --
UPDATE dataforge.collections
   SET commits = commits + %(commits)s, nodes = nodes + %(nodes)s, contents = contents + %(contents)s,
       size_bytes = size_bytes + %(size_bytes)s, uploads = uploads + %(uploads)s, places = places + %(places)s
 WHERE id = %(id)s;

-- record_dry_run --
UPDATE dataforge.collections
   SET commits = %(commits)s, nodes = %(nodes)s, contents = %(contents)s, size_bytes = %(size_bytes)s, uploads = %(uploads)s,
       places = %(places)s, unreachable = %(unreachable)s
 WHERE id = %(id)s;

-- set_retention --
INSERT INTO dataforge.retentions (project_id, dataset_id, keep_days)
VALUES (%(project_id)s, %(dataset_id)s, %(keep_days)s)
ON CONFLICT (project_id, dataset_id) DO UPDATE SET keep_days = excluded.keep_days, updated_at = clock_timestamp()
RETURNING keep_days, updated_at;

-- find_retention --
SELECT keep_days, updated_at FROM dataforge.retentions WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s;

-- list_dataset_ids --
SELECT id FROM dataforge.datasets WHERE project_id = %(project_id)s AND (%(only)s::uuid IS NULL OR id = %(only)s) ORDER BY id;

-- lock_dataset --
-- Whoever adds a commit or a ref holds the key of this row: they have ended, or begin after us.
SELECT id FROM dataforge.datasets WHERE project_id = %(project_id)s AND id = %(dataset_id)s FOR UPDATE;

-- note_unreachable --
WITH RECURSIVE reached AS (
    SELECT c.id, c.parent_id, c.merge_parent_id
      FROM dataforge.commits c
     WHERE c.project_id = %(project_id)s AND c.dataset_id = %(dataset_id)s
       AND (c.id = ANY(%(held)s)
            OR c.id IN (SELECT commit_id FROM dataforge.refs WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s)
            OR c.id IN (SELECT commit_id FROM dataforge.labellings WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s))
     UNION
    SELECT c.id, c.parent_id, c.merge_parent_id
      FROM reached r JOIN dataforge.commits c ON c.project_id = %(project_id)s AND c.dataset_id = %(dataset_id)s
                                             AND c.id IN (r.parent_id, r.merge_parent_id)
)
UPDATE dataforge.commits c
   SET unreachable_since = CASE WHEN c.unreachable_since IS NULL THEN clock_timestamp() END
 WHERE c.project_id = %(project_id)s AND c.dataset_id = %(dataset_id)s
   AND (c.unreachable_since IS NULL) <> (c.id IN (SELECT id FROM reached));

-- list_expired --
-- Unreachable for long enough, and no commit that stays comes from it.
WITH RECURSIVE kept AS (
    SELECT c.id, c.parent_id, c.merge_parent_id
      FROM dataforge.commits c
     WHERE c.project_id = %(project_id)s AND c.dataset_id = %(dataset_id)s
       AND (c.id = ANY(%(held)s)
            OR c.id IN (SELECT commit_id FROM dataforge.refs WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s)
            OR c.id IN (SELECT commit_id FROM dataforge.labellings WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s)
            OR (%(keep_days)s > 0
                AND coalesce(c.unreachable_since, clock_timestamp()) > clock_timestamp() - make_interval(days => %(keep_days)s)))
     UNION
    SELECT c.id, c.parent_id, c.merge_parent_id
      FROM kept JOIN dataforge.commits c ON c.project_id = %(project_id)s AND c.dataset_id = %(dataset_id)s
                                        AND c.id IN (kept.parent_id, kept.merge_parent_id)
)
SELECT c.id
  FROM dataforge.commits c
 WHERE c.project_id = %(project_id)s AND c.dataset_id = %(dataset_id)s AND c.id NOT IN (SELECT id FROM kept)
 ORDER BY c.id;

-- delete_commits --
-- A request that is under way may build on the tree of one of them: it stays for as long as any tree that has no commit yet.
WITH gone AS (
    DELETE FROM dataforge.commits WHERE project_id = %(project_id)s AND id = ANY(%(ids)s) RETURNING tree
)
UPDATE dataforge.nodes SET touched_at = clock_timestamp()
 WHERE project_id = %(project_id)s AND sha256 IN (SELECT tree FROM gone);

-- delete_nodes --
WITH dead AS (
    SELECT n.sha256
      FROM dataforge.nodes n
     WHERE n.project_id = %(project_id)s AND n.touched_at < now() - %(grace)s::interval
       AND NOT EXISTS (SELECT FROM dataforge.reached_nodes(%(project_id)s, '{}', now() - %(grace)s::interval) r WHERE r.sha256 = n.sha256)
       FOR UPDATE OF n SKIP LOCKED
)
DELETE FROM dataforge.nodes n USING dead WHERE n.project_id = %(project_id)s AND n.sha256 = dead.sha256;

-- count_dead_nodes --
SELECT count(*) AS nodes
  FROM dataforge.nodes n
 WHERE n.project_id = %(project_id)s
   AND NOT EXISTS (SELECT FROM dataforge.reached_nodes(%(project_id)s, %(without)s, 'infinity') r WHERE r.sha256 = n.sha256);

-- list_dead_objects --
-- Objects none of whose contents is in a commit that stays, or was touched since `young`.
WITH living AS MATERIALIZED (
    SELECT DISTINCT digest
      FROM dataforge.reached_nodes(%(project_id)s, %(without)s, %(young)s) r
      JOIN dataforge.nodes n ON n.project_id = %(project_id)s AND n.sha256 = r.sha256
     CROSS JOIN LATERAL dataforge.node_digests(n.data) AS digest
     WHERE r.level = 0
)
SELECT encode(coalesce(b.pack_sha256, b.sha256), 'hex') AS sha256, count(*) AS contents, sum(b.size_bytes)::bigint AS size_bytes
  FROM dataforge.blobs b LEFT JOIN living ON living.digest = b.sha256
 WHERE b.project_id = %(project_id)s
 GROUP BY coalesce(b.pack_sha256, b.sha256)
HAVING count(living.digest) = 0 AND bool_and(b.condemned_at IS NULL AND b.touched_at < %(young)s)
 ORDER BY coalesce(b.pack_sha256, b.sha256);

-- list_dead_places --
-- Contents in place that are in no commit that stays and were not touched since `young`.
WITH living AS MATERIALIZED (
    SELECT DISTINCT digest
      FROM dataforge.reached_nodes(%(project_id)s, %(without)s, %(young)s) r
      JOIN dataforge.nodes n ON n.project_id = %(project_id)s AND n.sha256 = r.sha256
     CROSS JOIN LATERAL dataforge.node_digests(n.data) AS digest
     WHERE r.level = 0
)
SELECT encode(p.id, 'hex') AS id
  FROM dataforge.places p LEFT JOIN living ON living.digest = p.id
 WHERE p.project_id = %(project_id)s AND p.touched_at < %(young)s AND living.digest IS NULL
 ORDER BY p.id;

-- delete_places --
-- Whoever commits one first touches it, under the same lock: then it stays. Its object is not ours, and is left alone.
WITH dead AS (
    SELECT id FROM dataforge.places
     WHERE project_id = %(project_id)s AND id = ANY(%(ids)b) AND touched_at < %(young)s
     ORDER BY id
       FOR UPDATE
), nowhere AS (
    DELETE FROM dataforge.content_paths p USING dead WHERE p.project_id = %(project_id)s AND p.sha256 = dead.id
)
DELETE FROM dataforge.places p USING dead WHERE p.project_id = %(project_id)s AND p.id = dead.id;

-- now_less --
SELECT clock_timestamp() - %(age)s::interval AS at;

-- lock_objects --
SELECT sha256 FROM dataforge.blobs
 WHERE project_id = %(project_id)s AND coalesce(pack_sha256, sha256) = ANY(%(objects)b)
 ORDER BY sha256
   FOR UPDATE;

-- condemn_objects --
-- After the lock, so that it sees what was touched before: an object goes with all its contents, or stays.
UPDATE dataforge.blobs b SET condemned_at = clock_timestamp()
 WHERE b.project_id = %(project_id)s AND coalesce(b.pack_sha256, b.sha256) = ANY(%(objects)b) AND b.condemned_at IS NULL
   AND NOT EXISTS (SELECT FROM dataforge.blobs o
                    WHERE o.project_id = %(project_id)s AND coalesce(o.pack_sha256, o.sha256) = coalesce(b.pack_sha256, b.sha256)
                      AND o.touched_at >= %(young)s);

-- list_condemned --
SELECT DISTINCT encode(coalesce(pack_sha256, sha256), 'hex') AS sha256
  FROM dataforge.blobs
 WHERE project_id = %(project_id)s AND condemned_at IS NOT NULL
 LIMIT %(limit)s;

-- delete_condemned --
WITH gone AS (
    DELETE FROM dataforge.blobs
     WHERE project_id = %(project_id)s AND coalesce(pack_sha256, sha256) = ANY(%(objects)b) AND condemned_at IS NOT NULL
    RETURNING sha256, size_bytes
), nowhere AS (
    DELETE FROM dataforge.content_paths p USING gone WHERE p.project_id = %(project_id)s AND p.sha256 = gone.sha256
)
SELECT count(*) AS contents, coalesce(sum(size_bytes), 0)::bigint AS size_bytes FROM gone;

-- adopt_objects --
-- As contents that somebody relied on just now: a commit takes them up, or they go like any other in a day.
INSERT INTO dataforge.blobs (project_id, sha256, size_bytes)
SELECT %(project_id)s, given.*
  FROM unnest(%(digests)b::bytea[], %(sizes)b::bigint[]) AS given (sha256, size_bytes)
 WHERE NOT EXISTS (SELECT FROM dataforge.blobs b WHERE b.project_id = %(project_id)s AND coalesce(b.pack_sha256, b.sha256) = given.sha256)
    ON CONFLICT DO NOTHING;

-- list_stale_uploads --
SELECT encode(sha256, 'hex') AS sha256, size_bytes, upload_id, part_size_bytes
  FROM dataforge.uploads
 WHERE project_id = %(project_id)s AND created_at < now() - %(lifetime)s::interval
 ORDER BY created_at;

-- forget_upload --
DELETE FROM dataforge.uploads WHERE project_id = %(project_id)s AND upload_id = %(upload_id)s;
