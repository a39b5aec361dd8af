-- create_import --
INSERT INTO dataforge.imports (project_id, id, org_id, dataset_id, bucket, prefix, branch, message, parent_id,
                               created_by, creator_kind, creator_id)
VALUES (%(project_id)s, %(id)s, %(org_id)s, %(dataset_id)s, %(bucket)s, %(prefix)s, %(branch)s, %(message)s, %(parent_id)s,
        %(created_by)s, %(creator_kind)s, %(creator_id)s);

-- find_import --
SELECT i.id, i.project_id, i.org_id, d.name AS dataset, i.bucket, i.prefix, i.branch, i.message, i.parent_id, i.state, i.cursor, i.tree,
       i.files, i.size_bytes, i.skipped, i.skipped_keys, i.commit_id, i.error, i.created_by, i.creator_kind, i.creator_id, i.created_at,
       i.finished_at, i.lock_token, i.attempts, i.last_error
  FROM dataforge.imports i JOIN dataforge.datasets d ON d.project_id = i.project_id AND d.id = i.dataset_id
 WHERE i.project_id = %(project_id)s AND i.id = %(id)s;

-- list_imports --
SELECT i.id, i.project_id, i.org_id, d.name AS dataset, i.bucket, i.prefix, i.branch, i.message, i.parent_id, i.state, i.cursor, i.tree,
       i.files, i.size_bytes, i.skipped, i.skipped_keys, i.commit_id, i.error, i.created_by, i.creator_kind, i.creator_id, i.created_at,
       i.finished_at, i.lock_token, i.attempts, i.last_error
  FROM dataforge.imports i JOIN dataforge.datasets d ON d.project_id = i.project_id AND d.id = i.dataset_id
 WHERE i.project_id = %(project_id)s AND i.dataset_id = %(dataset_id)s AND (%(before)s::uuid IS NULL OR i.id < %(before)s)
 ORDER BY i.id DESC
 LIMIT %(limit)s;

-- claim_imports --
WITH due AS (
    SELECT id FROM dataforge.imports
     WHERE state = 'running' AND next_attempt_at <= clock_timestamp() AND (locked_until IS NULL OR locked_until < clock_timestamp())
     ORDER BY next_attempt_at, id
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
)
UPDATE dataforge.imports i
   SET lock_token = %(token)s, locked_until = clock_timestamp() + make_interval(secs => %(lock_s)s)
  FROM due, dataforge.datasets d
 WHERE i.id = due.id AND d.project_id = i.project_id AND d.id = i.dataset_id
RETURNING i.id, i.project_id, i.org_id, d.name AS dataset, i.bucket, i.prefix, i.branch, i.message, i.parent_id, i.state, i.cursor, i.tree,
          i.files, i.size_bytes, i.skipped, i.skipped_keys, i.commit_id, i.error, i.created_by, i.creator_kind, i.creator_id, i.created_at,
          i.finished_at, i.lock_token, i.attempts, i.last_error;

-- save_progress --
UPDATE dataforge.imports
   SET cursor = %(cursor)s, tree = %(tree)s, files = %(files)s, size_bytes = %(size_bytes)s, skipped = %(skipped)s,
       skipped_keys = %(skipped_keys)s, attempts = 0, last_error = NULL
 WHERE id = %(id)s AND lock_token = %(lock_token)s;

-- hold_import --
SELECT 1 FROM dataforge.imports WHERE id = %(id)s AND lock_token = %(token)s FOR UPDATE;

-- end_import --
UPDATE dataforge.imports
   SET state = %(state)s, commit_id = %(commit_id)s, error = %(error)s, finished_at = clock_timestamp(),
       lock_token = NULL, locked_until = NULL
 WHERE project_id = %(project_id)s AND id = %(id)s AND state = 'running';
