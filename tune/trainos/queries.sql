-- insert_job --
INSERT INTO trainos.jobs
       (id, org_id, project_id, project_name, name, origin, spec, inputs, state, run_id, submission_id, cpu, gpu, memory_gib, created_by,
        submitter, traceparent, started_at, attempt, admitted_at)
VALUES (%(id)s, %(org_id)s, %(project_id)s, %(project_name)s, %(name)s, %(origin)s, %(spec)s, %(inputs)s, %(state)s, %(run_id)s,
        %(submission_id)s, %(cpu)s, %(gpu)s, %(memory_gib)s, %(created_by)s, %(submitter)s, %(traceparent)s, %(started_at)s, %(attempt)s,
        CASE WHEN %(state)s = 'QUEUED' THEN NULL ELSE now() END)
ON CONFLICT (submission_id) DO NOTHING
RETURNING id, org_id, project_id, project_name, name, origin, spec, inputs, state, reason, exit_code, run_id, attempt, submission_id,
          ray_session, log_directory, lease_id, created_by, submitter, traceparent, created_at, updated_at, started_at, finished_at, attempts,
          token_renewed_at, lock_token;

-- find_job --
SELECT id, org_id, project_id, project_name, name, origin, spec, inputs, state, reason, exit_code, run_id, attempt, submission_id,
       ray_session, log_directory, lease_id, created_by, submitter, traceparent, created_at, updated_at, started_at, finished_at, attempts,
       token_renewed_at, lock_token
  FROM trainos.jobs
 WHERE project_id = %(project_id)s AND (name = %(name)s OR id::text = %(name)s)
 ORDER BY id::text = %(name)s DESC, id DESC
 LIMIT 1;

-- list_jobs --
SELECT id, org_id, project_id, project_name, name, origin, spec, inputs, state, reason, exit_code, run_id, attempt, submission_id,
       ray_session, log_directory, lease_id, created_by, submitter, traceparent, created_at, updated_at, started_at, finished_at, attempts,
       token_renewed_at, lock_token
  FROM trainos.jobs
 WHERE project_id = %(project_id)s
   AND (%(state)s::text IS NULL OR state = %(state)s)
   AND (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- list_submissions --
SELECT submission_id FROM trainos.jobs WHERE submission_id = ANY(%(submission_ids)s);

-- list_leased --
SELECT id, cpu, gpu, memory_gib, started_at IS NOT NULL AND started_at < now() - make_interval(secs => %(settle_s)s) AS settled
  FROM trainos.jobs
 WHERE state IN ('STARTING', 'RUNNING', 'CANCELLING') AND origin = 'aidos';

-- count_live_jobs --
SELECT state, count(*) AS jobs
  FROM trainos.jobs
 WHERE state IN ('QUEUED', 'STARTING', 'RUNNING', 'CANCELLING')
 GROUP BY state;

-- cancel_job --
UPDATE trainos.jobs
   SET state = CASE WHEN state = 'QUEUED' THEN 'CANCELLED' ELSE 'CANCELLING' END,
       reason = %(reason)s, next_attempt_at = now(), updated_at = now(),
       finished_at = CASE WHEN state = 'QUEUED' THEN now() END,
       lock_token = CASE WHEN state = 'QUEUED' THEN NULL ELSE lock_token END,
       locked_until = CASE WHEN state = 'QUEUED' THEN NULL ELSE locked_until END
 WHERE id = %(id)s AND project_id = %(project_id)s AND state IN ('QUEUED', 'STARTING', 'RUNNING')
RETURNING id, org_id, project_id, project_name, name, origin, spec, inputs, state, reason, exit_code, run_id, attempt, submission_id,
          ray_session, log_directory, lease_id, created_by, submitter, traceparent, created_at, updated_at, started_at, finished_at, attempts,
          token_renewed_at, lock_token;

-- claim_job --
UPDATE trainos.jobs AS claimed
   SET lock_token = %(token)s, locked_until = clock_timestamp() + make_interval(secs => %(lock_s)s)
 WHERE claimed.id IN (
        SELECT id FROM trainos.jobs AS job
         WHERE state IN ('QUEUED', 'STARTING', 'RUNNING', 'CANCELLING')
           AND next_attempt_at <= clock_timestamp()
           AND (locked_until IS NULL OR locked_until < clock_timestamp())
           AND (state <> 'QUEUED' OR id = (SELECT first.id FROM trainos.jobs AS first WHERE first.state = 'QUEUED' ORDER BY first.id LIMIT 1))
         ORDER BY next_attempt_at
         LIMIT %(limit)s
           FOR UPDATE SKIP LOCKED)
RETURNING id, org_id, project_id, project_name, name, origin, spec, inputs, state, reason, exit_code, run_id, attempt, submission_id,
          ray_session, log_directory, lease_id, created_by, submitter, traceparent, created_at, updated_at, started_at, finished_at, attempts,
          token_renewed_at, lock_token;

-- apply_job --
UPDATE trainos.jobs
   SET state = CASE WHEN state = 'CANCELLING' AND %(state)s IN ('QUEUED', 'STARTING', 'RUNNING') THEN state ELSE %(state)s END,
       reason = CASE WHEN state = 'CANCELLING' AND %(state)s IN ('QUEUED', 'STARTING', 'RUNNING') THEN reason ELSE %(reason)s END,
       exit_code = %(exit_code)s, attempt = %(attempt)s, submission_id = %(submission_id)s, ray_session = %(ray_session)s,
       log_directory = %(log_directory)s, lease_id = %(lease_id)s, started_at = %(started_at)s, finished_at = %(finished_at)s,
       token_renewed_at = %(token_renewed_at)s,
       admitted_at = CASE WHEN %(state)s = 'QUEUED' THEN NULL WHEN state = 'QUEUED' THEN now() ELSE admitted_at END,
       updated_at = CASE WHEN state = %(state)s AND reason = %(reason)s THEN updated_at ELSE now() END,
       attempts = 0, last_error = NULL, lock_token = NULL, locked_until = NULL,
       next_attempt_at = CASE WHEN state = 'CANCELLING' AND %(state)s IN ('QUEUED', 'STARTING', 'RUNNING') THEN clock_timestamp()
                              ELSE clock_timestamp() + make_interval(secs => %(again_s)s) END
 WHERE id = %(id)s AND lock_token = %(token)s
RETURNING id, org_id, project_id, project_name, name, origin, spec, inputs, state, reason, exit_code, run_id, attempt, submission_id,
          ray_session, log_directory, lease_id, created_by, submitter, traceparent, created_at, updated_at, started_at, finished_at, attempts,
          token_renewed_at, lock_token;

-- wake_queue --
UPDATE trainos.jobs SET next_attempt_at = clock_timestamp() WHERE state = 'QUEUED' AND next_attempt_at > clock_timestamp() AND attempts = 0;

-- log_end --
SELECT seq, offset_bytes + size_bytes AS size_bytes,
       CASE WHEN attempt = %(attempt)s THEN attempt_offset_bytes + size_bytes ELSE 0 END AS attempt_offset_bytes
  FROM trainos.log_chunks
 WHERE job_id = %(job_id)s AND project_id = %(project_id)s
 ORDER BY seq DESC
 LIMIT 1;

-- insert_chunk --
INSERT INTO trainos.log_chunks (project_id, job_id, seq, attempt, key, offset_bytes, attempt_offset_bytes, size_bytes)
SELECT project_id, id, %(seq)s, %(attempt)s, %(key)s, %(offset_bytes)s, %(attempt_offset_bytes)s, %(size_bytes)s
  FROM trainos.jobs
 WHERE id = %(job_id)s AND lock_token = %(token)s
RETURNING seq;

-- list_chunks --
SELECT seq, attempt, key, offset_bytes, size_bytes, created_at
  FROM trainos.log_chunks
 WHERE job_id = %(job_id)s AND project_id = %(project_id)s AND seq > %(after)s
 ORDER BY seq
 LIMIT %(limit)s;

-- insert_checkpoint --
INSERT INTO trainos.checkpoints (id, project_id, job_id, step, files, size_bytes, metrics, attempt)
VALUES (%(id)s, %(project_id)s, %(job_id)s, %(step)s, %(files)s, %(size_bytes)s, %(metrics)s, %(attempt)s)
ON CONFLICT ON CONSTRAINT checkpoints_step DO NOTHING
RETURNING id, job_id, step, files, size_bytes, metrics, attempt, created_at;

-- find_checkpoint --
SELECT id, job_id, step, files, size_bytes, metrics, attempt, created_at
  FROM trainos.checkpoints
 WHERE project_id = %(project_id)s AND job_id = %(job_id)s
   AND (%(name)s = 'latest' OR step::text = %(name)s OR id::text = %(name)s)
 ORDER BY step DESC
 LIMIT 1;

-- list_checkpoints --
SELECT id, job_id, step, files, size_bytes, metrics, attempt, created_at
  FROM trainos.checkpoints
 WHERE project_id = %(project_id)s AND job_id = %(job_id)s AND (%(before)s::bigint IS NULL OR step < %(before)s::bigint)
 ORDER BY step DESC
 LIMIT %(limit)s;

-- delete_checkpoints --
DELETE FROM trainos.checkpoints WHERE project_id = %(project_id)s AND job_id = %(job_id)s AND step = ANY(%(steps)s);
