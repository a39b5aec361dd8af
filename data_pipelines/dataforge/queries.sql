-- create_dataset --
INSERT INTO dataforge.datasets (project_id, id, name, description, created_by)
VALUES (%(project_id)s, %(id)s, %(name)s, %(description)s, %(created_by)s)
RETURNING id, name, description, created_by, created_at;

-- find_dataset --
SELECT id, name, description, created_by, created_at
  FROM dataforge.datasets
 WHERE project_id = %(project_id)s AND name = %(name)s;

-- list_datasets --
SELECT id, name, description, created_by, created_at
  FROM dataforge.datasets
 WHERE project_id = %(project_id)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- delete_dataset --
-- A request that is under way may build on a tree of it: those stay for as long as any tree that has no commit yet.
WITH gone AS (
    DELETE FROM dataforge.refs WHERE project_id = %(project_id)s AND dataset_id = %(id)s
), left_over AS (
    UPDATE dataforge.nodes SET touched_at = clock_timestamp()
     WHERE project_id = %(project_id)s
       AND sha256 IN (SELECT tree FROM dataforge.commits WHERE project_id = %(project_id)s AND dataset_id = %(id)s)
)
DELETE FROM dataforge.datasets WHERE project_id = %(project_id)s AND id = %(id)s;

-- insert_commit --
INSERT INTO dataforge.commits (project_id, id, dataset_id, parent_id, merge_parent_id, generation, tree, message, author,
                               files, size_bytes, metadata)
VALUES (%(project_id)s, %(id)s, %(dataset_id)s, %(parent_id)s, %(merge_parent_id)s, %(generation)s, %(tree)s, %(message)s, %(author)s,
        %(files)s, %(size_bytes)s, %(metadata)s)
RETURNING id, dataset_id, %(dataset)s::text AS dataset, parent_id, merge_parent_id, generation, tree, message, author,
          files, size_bytes, created_at, metadata;

-- find_commit --
SELECT c.id, c.dataset_id, d.name AS dataset, c.parent_id, c.merge_parent_id, c.generation, c.tree, c.message, c.author,
       c.files, c.size_bytes, c.created_at, c.metadata
  FROM dataforge.commits c JOIN dataforge.datasets d ON d.project_id = c.project_id AND d.id = c.dataset_id
 WHERE c.project_id = %(project_id)s AND c.id = %(id)s;

-- list_ancestors --
WITH RECURSIVE log AS (
    SELECT c.id, c.dataset_id, c.parent_id, c.merge_parent_id
      FROM dataforge.commits c
     WHERE c.project_id = %(project_id)s AND c.id = ANY(%(ids)s)
     UNION
    SELECT c.id, c.dataset_id, c.parent_id, c.merge_parent_id
      FROM log JOIN dataforge.commits c ON c.project_id = %(project_id)s AND c.dataset_id = log.dataset_id
                                       AND c.id IN (log.parent_id, log.merge_parent_id)
     WHERE c.generation >= %(lowest)s
)
SELECT c.id, c.dataset_id, %(dataset)s::text AS dataset, c.parent_id, c.merge_parent_id, c.generation, c.tree, c.message, c.author,
       c.files, c.size_bytes, c.created_at, c.metadata
  FROM log JOIN dataforge.commits c ON c.project_id = %(project_id)s AND c.id = log.id
 WHERE %(before)s::uuid IS NULL OR (c.generation, c.id) < (%(before_generation)s::integer, %(before)s::uuid)
 ORDER BY c.generation DESC, c.id DESC
 LIMIT %(limit)s;

-- list_commits_of_trees --
SELECT c.id, c.dataset_id, d.name AS dataset, c.parent_id, c.merge_parent_id, c.generation, c.tree, c.message, c.author,
       c.files, c.size_bytes, c.created_at, c.metadata
  FROM dataforge.commits c JOIN dataforge.datasets d ON d.project_id = c.project_id AND d.id = c.dataset_id
 WHERE c.project_id = %(project_id)s AND c.tree = ANY(%(trees)b)
 ORDER BY c.id DESC;

-- find_ref --
SELECT name, kind, commit_id, updated_at
  FROM dataforge.refs
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND name = %(name)s;

-- list_refs --
SELECT name, kind, commit_id, updated_at
  FROM dataforge.refs
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND (%(after)s::text IS NULL OR name > %(after)s)
 ORDER BY name
 LIMIT %(limit)s;

-- create_ref --
INSERT INTO dataforge.refs (project_id, dataset_id, name, kind, commit_id)
VALUES (%(project_id)s, %(dataset_id)s, %(name)s, %(kind)s, %(commit_id)s)
ON CONFLICT DO NOTHING
RETURNING name, kind, commit_id, updated_at;

-- move_ref --
UPDATE dataforge.refs SET commit_id = %(commit_id)s, updated_at = clock_timestamp()
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND name = %(name)s
   AND kind = 'branch' AND commit_id = %(expected)s
RETURNING name, kind, commit_id, updated_at;

-- delete_ref --
DELETE FROM dataforge.refs
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND name = %(name)s
RETURNING name, kind, commit_id, updated_at;

-- load_nodes --
SELECT sha256, data FROM dataforge.nodes WHERE project_id = %(project_id)s AND sha256 = ANY(%(digests)b);

-- store_nodes --
INSERT INTO dataforge.nodes AS known (project_id, sha256, level, data)
SELECT %(project_id)s, * FROM unnest(%(digests)b::bytea[], %(levels)b::smallint[], %(data)b::bytea[])
    ON CONFLICT (project_id, sha256) DO UPDATE SET touched_at = clock_timestamp()
 WHERE known.touched_at < clock_timestamp() - %(fresh)s::interval;

-- find_base --
-- A tree to build on: a commit's, or one that was stored or relied on lately and so is not being collected.
SELECT EXISTS (SELECT FROM dataforge.commits WHERE project_id = %(project_id)s AND tree = %(tree)s)
    OR EXISTS (SELECT FROM dataforge.nodes
                WHERE project_id = %(project_id)s AND sha256 = %(tree)s AND touched_at > clock_timestamp() - %(fresh)s::interval) AS found;

-- record_content_paths --
INSERT INTO dataforge.content_paths (project_id, sha256, path)
SELECT %(project_id)s, * FROM unnest(%(contents)b::bytea[], %(paths)s::text[])
    ON CONFLICT DO NOTHING;

-- list_content_paths --
SELECT path FROM dataforge.content_paths WHERE project_id = %(project_id)s AND sha256 = %(content)b;

-- list_trees --
SELECT DISTINCT tree FROM dataforge.commits WHERE project_id = %(project_id)s;

-- find_blobs --
SELECT encode(sha256, 'hex') AS sha256, size_bytes, encode(pack_sha256, 'hex') AS pack_sha256, offset_bytes
  FROM dataforge.blobs
 WHERE project_id = %(project_id)s AND sha256 = ANY(%(digests)b) AND condemned_at IS NULL;

-- touch_blobs --
-- In one order for all, so that none waits for another in a ring. What is wanted comes first: of an OR over two indexes the planner
-- makes a walk through the whole project until it has counted its rows.
WITH wanted AS (
    SELECT unnest(%(digests)b::bytea[]) AS sha256
     UNION
    SELECT sha256 FROM dataforge.blobs WHERE project_id = %(project_id)s AND coalesce(pack_sha256, sha256) = ANY(%(objects)b)
), due AS (
    SELECT b.sha256 FROM dataforge.blobs b JOIN wanted USING (sha256)
     WHERE b.project_id = %(project_id)s AND b.touched_at < clock_timestamp() - %(fresh)s::interval AND b.condemned_at IS NULL
     ORDER BY b.sha256
       FOR NO KEY UPDATE OF b
)
UPDATE dataforge.blobs b SET touched_at = clock_timestamp() FROM due WHERE b.project_id = %(project_id)s AND b.sha256 = due.sha256;

-- find_condemned --
SELECT encode(sha256, 'hex') AS sha256
  FROM dataforge.blobs
 WHERE project_id = %(project_id)s AND condemned_at IS NOT NULL
   AND (sha256 = ANY(%(digests)b) OR coalesce(pack_sha256, sha256) = ANY(%(objects)b))
 LIMIT 1;

-- record_blobs --
INSERT INTO dataforge.blobs (project_id, sha256, size_bytes, pack_sha256, offset_bytes)
SELECT %(project_id)s, * FROM unnest(%(digests)b::bytea[], %(sizes)b::bigint[], %(packs)b::bytea[], %(offsets)b::bigint[])
    ON CONFLICT DO NOTHING;

-- record_places --
INSERT INTO dataforge.places AS known (project_id, id, bucket, key, etag, version_id, size_bytes)
SELECT %(project_id)s, * FROM unnest(%(ids)b::bytea[], %(buckets)s::text[], %(keys)s::text[], %(etags)s::text[], %(versions)s::text[],
                                     %(sizes)s::bigint[])
    ON CONFLICT (project_id, id) DO UPDATE SET touched_at = clock_timestamp();

-- find_places --
SELECT encode(id, 'hex') AS id, bucket, key, etag, version_id, size_bytes, encode(sha256, 'hex') AS sha256
  FROM dataforge.places
 WHERE project_id = %(project_id)s AND id = ANY(%(ids)b);

-- touch_places --
-- In one order for all, so that none waits for another in a ring.
WITH due AS (
    SELECT id FROM dataforge.places
     WHERE project_id = %(project_id)s AND id = ANY(%(ids)b) AND touched_at < clock_timestamp() - %(fresh)s::interval
     ORDER BY id
       FOR NO KEY UPDATE
)
UPDATE dataforge.places p SET touched_at = clock_timestamp() FROM due WHERE p.project_id = %(project_id)s AND p.id = due.id;

-- verify_places --
UPDATE dataforge.places p SET sha256 = read.sha256
  FROM unnest(%(ids)b::bytea[], %(digests)b::bytea[]) AS read (id, sha256)
 WHERE p.project_id = %(project_id)s AND p.id = read.id;

-- find_upload --
SELECT encode(sha256, 'hex') AS sha256, size_bytes, upload_id, part_size_bytes
  FROM dataforge.uploads
 WHERE project_id = %(project_id)s AND sha256 = %(sha256)s;

-- keep_upload --
INSERT INTO dataforge.uploads AS open (project_id, sha256, size_bytes, upload_id, part_size_bytes)
VALUES (%(project_id)s, %(sha256)s, %(size_bytes)s, %(upload_id)s, %(part_size_bytes)s)
ON CONFLICT (project_id, sha256) DO UPDATE SET sha256 = open.sha256
RETURNING encode(sha256, 'hex') AS sha256, size_bytes, upload_id, part_size_bytes;

-- list_uploads --
SELECT encode(sha256, 'hex') AS sha256, size_bytes, upload_id, part_size_bytes
  FROM dataforge.uploads
 WHERE project_id = %(project_id)s AND sha256 = ANY(%(digests)b);

-- forget_uploads --
DELETE FROM dataforge.uploads WHERE project_id = %(project_id)s AND upload_id = ANY(%(upload_ids)s);

-- find_spellings --
SELECT path FROM dataforge.spellings WHERE project_id = %(project_id)s AND folded = ANY(%(folded)b);

-- record_spellings --
INSERT INTO dataforge.spellings (project_id, folded, path)
SELECT %(project_id)s, * FROM unnest(%(folded)b::bytea[], %(paths)s::text[])
    ON CONFLICT DO NOTHING;

-- set_check --
INSERT INTO dataforge.checks AS checks (project_id, dataset_id, commit_id, name, state, summary, url, report_id, author)
VALUES (%(project_id)s, %(dataset_id)s, %(commit_id)s, %(name)s, %(state)s, %(summary)s, %(url)s, %(report_id)s, %(author)s)
ON CONFLICT (project_id, commit_id, name) DO UPDATE
   SET state = excluded.state, summary = excluded.summary, url = excluded.url, report_id = excluded.report_id,
       author = excluded.author, updated_at = clock_timestamp()
 WHERE checks.report_id IS NULL OR excluded.report_id IS NOT NULL
RETURNING commit_id, name, state, summary, url, report_id, author, updated_at;

-- list_checks --
SELECT commit_id, name, state, summary, url, report_id, author, updated_at
  FROM dataforge.checks
 WHERE project_id = %(project_id)s AND commit_id = %(commit_id)s AND (%(after)s::text IS NULL OR name > %(after)s)
 ORDER BY name
 LIMIT %(limit)s;

-- list_checks_of_tree --
SELECT DISTINCT ON (k.name) k.commit_id, k.name, k.state, k.summary, k.url, k.report_id, k.author, k.updated_at
  FROM dataforge.commits c JOIN dataforge.checks k ON k.project_id = c.project_id AND k.commit_id = c.id
 WHERE c.project_id = %(project_id)s AND c.dataset_id = %(dataset_id)s AND c.tree = %(tree)s
 ORDER BY k.name, k.updated_at DESC;

-- set_protection --
INSERT INTO dataforge.protections (project_id, dataset_id, branch, required_checks, require_pull_request, required_approvals)
VALUES (%(project_id)s, %(dataset_id)s, %(branch)s, %(required_checks)s, %(require_pull_request)s, %(required_approvals)s)
ON CONFLICT (project_id, dataset_id, branch) DO UPDATE
   SET required_checks = excluded.required_checks, require_pull_request = excluded.require_pull_request,
       required_approvals = excluded.required_approvals, updated_at = clock_timestamp()
RETURNING branch, required_checks, require_pull_request, required_approvals, updated_at;

-- find_protection --
SELECT branch, required_checks, require_pull_request, required_approvals, updated_at
  FROM dataforge.protections
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND branch = %(branch)s;

-- list_protections --
SELECT branch, required_checks, require_pull_request, required_approvals, updated_at
  FROM dataforge.protections
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND (%(after)s::text IS NULL OR branch > %(after)s)
 ORDER BY branch
 LIMIT %(limit)s;

-- delete_protection --
DELETE FROM dataforge.protections
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND branch = %(branch)s
RETURNING branch, required_checks, require_pull_request, required_approvals, updated_at;
