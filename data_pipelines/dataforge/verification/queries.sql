-- create_verification --
INSERT INTO dataforge.verifications (project_id, id, org_id, dataset_id, commit_id, created_by)
VALUES (%(project_id)s, %(id)s, %(org_id)s, %(dataset_id)s, %(commit_id)s, %(created_by)s);

-- find_verification --
SELECT v.id, v.project_id, v.org_id, d.name AS dataset, v.commit_id, v.state, v.cursor, v.files, v.size_bytes, v.faults, v.error,
       v.created_by, v.created_at, v.finished_at, v.lock_token, v.attempts, v.last_error
  FROM dataforge.verifications v JOIN dataforge.datasets d ON d.project_id = v.project_id AND d.id = v.dataset_id
 WHERE v.project_id = %(project_id)s AND v.id = %(id)s;

-- list_verifications --
SELECT v.id, v.project_id, v.org_id, d.name AS dataset, v.commit_id, v.state, v.cursor, v.files, v.size_bytes, v.faults, v.error,
       v.created_by, v.created_at, v.finished_at, v.lock_token, v.attempts, v.last_error
  FROM dataforge.verifications v JOIN dataforge.datasets d ON d.project_id = v.project_id AND d.id = v.dataset_id
 WHERE v.project_id = %(project_id)s AND v.dataset_id = %(dataset_id)s AND (%(before)s::uuid IS NULL OR v.id < %(before)s)
 ORDER BY v.id DESC
 LIMIT %(limit)s;

-- claim_verifications --
WITH due AS (
    SELECT id FROM dataforge.verifications
     WHERE state = 'running' AND next_attempt_at <= clock_timestamp() AND (locked_until IS NULL OR locked_until < clock_timestamp())
     ORDER BY next_attempt_at, id
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
)
UPDATE dataforge.verifications v
   SET lock_token = %(token)s, locked_until = clock_timestamp() + make_interval(secs => %(lock_s)s)
  FROM due, dataforge.datasets d
 WHERE v.id = due.id AND d.project_id = v.project_id AND d.id = v.dataset_id
RETURNING v.id, v.project_id, v.org_id, d.name AS dataset, v.commit_id, v.state, v.cursor, v.files, v.size_bytes, v.faults, v.error,
          v.created_by, v.created_at, v.finished_at, v.lock_token, v.attempts, v.last_error;

-- save_progress --
UPDATE dataforge.verifications
   SET cursor = %(cursor)s, files = %(files)s, size_bytes = %(size_bytes)s, faults = %(faults)s, attempts = 0, last_error = NULL
 WHERE id = %(id)s AND lock_token = %(lock_token)s;

-- record_faults --
INSERT INTO dataforge.verification_faults (project_id, verification_id, path, uri, kind, reason)
SELECT %(project_id)s, %(id)s, * FROM unnest(%(paths)s::text[], %(uris)s::text[], %(kinds)s::text[], %(reasons)s::text[]);

-- list_faults --
SELECT path, uri, kind, reason
  FROM dataforge.verification_faults
 WHERE project_id = %(project_id)s AND verification_id = %(id)s AND (%(after)s::text IS NULL OR path > %(after)s)
 ORDER BY path
 LIMIT %(limit)s;

-- end_verification --
UPDATE dataforge.verifications
   SET state = %(state)s, error = %(error)s, finished_at = clock_timestamp(), lock_token = NULL, locked_until = NULL
 WHERE project_id = %(project_id)s AND id = %(id)s AND state = 'running' AND (%(token)s::uuid IS NULL OR lock_token = %(token)s);
