-- {job_columns} --
job.id, job.org_id, job.project_id, job.project_name, job.name, job.origin, job.spec, job.inputs, job.state, job.reason, job.exit_code,
job.run_id, job.attempt, job.submission_id, job.ray_session, job.log_directory, job.lease_id, job.created_by, job.submitter,
job.traceparent, job.created_at, job.updated_at, job.started_at, job.finished_at, job.attempts, job.token_renewed_at, job.lock_token,
job.admitted_at, job.priority, job.held_by, job.waits, job.due_at, job.preempted_at, job.preempted_for, job.preemptions, job.restarts,
job.is_array, job.array_id, job.array_index, job.array_size, job.array_limit

-- insert_job --
INSERT INTO trainos.jobs AS job
       (id, org_id, project_id, project_name, name, origin, spec, inputs, state, run_id, submission_id, cpu, gpu, memory_gib, created_by,
        submitter, traceparent, started_at, attempt, priority, waits, admitted_at, is_array, array_size, array_limit)
VALUES (%(id)s, %(org_id)s, %(project_id)s, %(project_name)s, %(name)s, %(origin)s, %(spec)s, %(inputs)s, %(state)s, %(run_id)s,
        %(submission_id)s, %(cpu)s, %(gpu)s, %(memory_gib)s, %(created_by)s, %(submitter)s, %(traceparent)s, %(started_at)s, %(attempt)s,
        %(priority)s, %(waits)s, CASE WHEN %(state)s = 'QUEUED' THEN NULL ELSE now() END, %(is_array)s, %(array_size)s, %(array_limit)s)
ON CONFLICT (submission_id) DO NOTHING
RETURNING {job_columns};

-- insert_members --
-- Each is as its array but for its name and index; so many of the first are in the queue at once, where that is said.
INSERT INTO trainos.jobs
       (id, org_id, project_id, project_name, name, origin, spec, inputs, state, cpu, gpu, memory_gib, created_by, submitter, traceparent, priority,
        waits, reason, array_id, array_index, array_size, array_limit)
SELECT member.id, org_id, project_id, project_name, name || '_' || index, origin,
       spec || jsonb_build_object('array', NULL, 'name', name || '_' || index, 'experiment', coalesce(spec ->> 'experiment', name)), inputs, state,
       cpu, gpu, memory_gib, created_by, submitter, traceparent, priority, later, CASE WHEN later THEN 'waits for others of its array' ELSE '' END,
       array_of.id, index, array_size, array_limit
  FROM trainos.jobs AS array_of
 CROSS JOIN unnest(%(ids)s::uuid[], %(indices)s::int[]) WITH ORDINALITY AS member (id, index, place)
 CROSS JOIN LATERAL (SELECT coalesce(place > %(at_once)s::int, false)) AS said (later)
 WHERE array_of.id = %(array_id)s;

-- find_job --
SELECT {job_columns}
  FROM trainos.jobs AS job
 WHERE project_id = %(project_id)s AND (name = %(name)s OR id = CASE WHEN %(name)s::text ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN %(name)s::text::uuid END)
 ORDER BY id::text = %(name)s DESC, id DESC
 LIMIT 1;

-- find_jobs --
SELECT {job_columns}
  FROM trainos.jobs AS job
 WHERE project_id = %(project_id)s AND id = ANY (%(ids)s);

-- list_jobs --
SELECT {job_columns}
  FROM trainos.jobs AS job
 WHERE project_id = %(project_id)s
   AND array_id IS NULL
   AND (%(state)s::text IS NULL OR state = %(state)s)
   AND (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- list_members --
SELECT {job_columns}
  FROM trainos.jobs AS job
 WHERE project_id = %(project_id)s
   AND array_id = %(array_id)s
   AND (%(state)s::text IS NULL OR state = %(state)s)
   AND (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- count_members --
SELECT array_id, state, count(*) AS jobs
  FROM trainos.jobs
 WHERE project_id = %(project_id)s AND array_id = ANY(%(array_ids)s)
 GROUP BY array_id, state;

-- list_submissions --
SELECT submission_id FROM trainos.jobs WHERE submission_id = ANY(%(submission_ids)s);

-- count_live_jobs --
SELECT state, count(*) AS jobs
  FROM trainos.jobs
 WHERE state IN ('QUEUED', 'STARTING', 'RUNNING', 'PREEMPTING', 'CANCELLING') AND NOT is_array
 GROUP BY state;

-- cancel_job --
UPDATE trainos.jobs AS job
   SET state = CASE WHEN state = 'QUEUED' AND NOT is_array THEN 'CANCELLED' ELSE 'CANCELLING' END,
       reason = %(reason)s, next_attempt_at = now(), updated_at = now(),
       finished_at = CASE WHEN state = 'QUEUED' AND NOT is_array THEN now() END,
       lock_token = CASE WHEN state = 'QUEUED' THEN NULL ELSE lock_token END,
       locked_until = CASE WHEN state = 'QUEUED' THEN NULL ELSE locked_until END
 WHERE (id = %(id)s OR array_id = %(id)s) AND project_id = %(project_id)s AND state IN ('QUEUED', 'STARTING', 'RUNNING', 'PREEMPTING')
RETURNING {job_columns};

-- fail_waiting --
UPDATE trainos.jobs AS job
   SET state = 'FAILED', reason = %(reason)s, finished_at = now(), updated_at = now()
 WHERE (id = %(id)s OR array_id = %(id)s) AND state = 'QUEUED'
RETURNING {job_columns};

-- hold_job --
-- Where only so many of an array run at once, others take the place of one that is held.
UPDATE trainos.jobs AS job
   SET held_by = %(held_by)s, reason = CASE WHEN %(held_by)s::text IS NULL THEN '' ELSE 'held by ' || %(held_by)s END, updated_at = now(),
       waits = waits OR array_limit IS NOT NULL
 WHERE (id = %(id)s OR array_id = %(id)s) AND project_id = %(project_id)s AND (state = 'QUEUED' OR is_array AND finished_at IS NULL)
RETURNING {job_columns};

-- set_priority --
UPDATE trainos.jobs AS job
   SET priority = %(priority)s, updated_at = now()
 WHERE (id = %(id)s OR array_id = %(id)s) AND project_id = %(project_id)s AND finished_at IS NULL
RETURNING {job_columns};

-- list_queue --
SELECT {job_columns}
  FROM trainos.jobs AS job
 WHERE project_id = %(project_id)s AND state IN ('QUEUED', 'STARTING', 'RUNNING', 'PREEMPTING', 'CANCELLING')
   AND NOT (waits AND array_id IS NOT NULL)
 ORDER BY state = 'QUEUED' OR is_array, held_by IS NOT NULL, waits, priority DESC, queued_at, id
 LIMIT %(limit)s;

-- admit_jobs --
-- Here and below a CASE keeps the planner from counting on few rows: before a burst of jobs is analysed it would go through the whole
-- queue for each of these ids.
UPDATE trainos.jobs AS job
   SET state = 'STARTING', attempt = attempt + 1, submission_id = %(prefix)s || job.id || '-' || attempt + 1, started_at = NULL,
       lease_id = admitted.lease_id, placement = admitted.placement, admitted_at = now(), updated_at = now(), next_attempt_at = now(),
       preempted_at = NULL, attempts = 0
  FROM unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[], %(placements)s::jsonb[]) AS admitted (id, lease_id, placement)
 WHERE job.id = admitted.id AND CASE WHEN state = 'QUEUED' AND held_by IS NULL AND NOT waits THEN true END
RETURNING {job_columns};

-- begin_arrays --
UPDATE trainos.jobs AS job
   SET state = 'RUNNING', started_at = now(), updated_at = now()
 WHERE id IN (SELECT id FROM trainos.jobs WHERE id = ANY(%(ids)s) AND is_array AND state = 'QUEUED' FOR UPDATE SKIP LOCKED)
RETURNING {job_columns};

-- list_ended_arrays --
SELECT ended.id, ended.state, (SELECT jsonb_object_agg(counted.state, jobs)
                                 FROM (SELECT state, count(*) AS jobs FROM trainos.jobs WHERE array_id = ended.id GROUP BY state) AS counted) AS counts
  FROM trainos.jobs AS ended
 WHERE is_array AND finished_at IS NULL
   AND NOT EXISTS (SELECT FROM trainos.jobs AS member WHERE member.array_id = ended.id AND member.finished_at IS NULL);

-- end_array --
UPDATE trainos.jobs AS job
   SET state = %(state)s, reason = %(reason)s, finished_at = now(), updated_at = now()
 WHERE id = %(id)s AND finished_at IS NULL
RETURNING {job_columns};

-- admit_members --
-- Those that wait until fewer of their array are in the queue or run; none while the array waits for other jobs.
UPDATE trainos.jobs AS job
   SET waits = false, reason = '', due_at = now(), updated_at = now()
 WHERE id IN (
        SELECT next.id
          FROM trainos.jobs AS begun
         CROSS JOIN LATERAL (
                SELECT coalesce(begun.array_limit, begun.array_size) - count(*) AS jobs
                  FROM trainos.jobs AS member
                 WHERE member.array_id = begun.id AND member.finished_at IS NULL AND NOT member.waits) AS room
         CROSS JOIN LATERAL (
                SELECT id FROM trainos.jobs AS member
                 WHERE member.array_id = begun.id AND member.finished_at IS NULL AND member.waits AND member.held_by IS NULL
                 ORDER BY array_index LIMIT greatest(room.jobs, 0)) AS next
         WHERE begun.is_array AND begun.finished_at IS NULL AND begun.state <> 'CANCELLING'
           AND NOT EXISTS (
                SELECT FROM trainos.dependencies AS edge JOIN trainos.jobs AS other ON other.id = edge.on_id
                 WHERE edge.job_id = begun.id AND other.state <> 'SUCCEEDED'));

-- set_run --
UPDATE trainos.jobs AS job SET run_id = %(run_id)s WHERE id = %(id)s AND lock_token = %(token)s RETURNING {job_columns};

-- preempt_jobs --
UPDATE trainos.jobs AS job
   SET state = 'PREEMPTING', preempted_at = now(), preempted_for = chosen.for_name, reason = 'asked to give way to ' || chosen.for_name,
       updated_at = now(), next_attempt_at = now()
  FROM unnest(%(ids)s::uuid[], %(for_names)s::text[]) AS chosen (id, for_name)
 WHERE job.id = chosen.id AND CASE WHEN state IN ('STARTING', 'RUNNING') THEN true END
RETURNING {job_columns};

-- note_reasons --
UPDATE trainos.jobs AS job
   SET reason = said.reason, updated_at = now()
  FROM unnest(%(ids)s::uuid[], %(reasons)s::text[]) AS said (id, reason)
 WHERE job.id = said.id AND CASE WHEN state = 'QUEUED' AND held_by IS NULL AND job.reason <> said.reason THEN true END;

-- end_waits --
UPDATE trainos.jobs SET waits = false, due_at = now(), updated_at = now() WHERE id = ANY(%(ids)s) AND state = 'QUEUED';

-- claim_job --
UPDATE trainos.jobs AS job
   SET lock_token = %(token)s, locked_until = clock_timestamp() + make_interval(secs => %(lock_s)s)
 WHERE job.id IN (
        SELECT id FROM trainos.jobs
         WHERE state IN ('STARTING', 'RUNNING', 'PREEMPTING', 'CANCELLING') AND NOT is_array
           AND next_attempt_at <= clock_timestamp()
           AND (locked_until IS NULL OR locked_until < clock_timestamp())
         ORDER BY next_attempt_at
         LIMIT %(limit)s
           FOR UPDATE SKIP LOCKED)
RETURNING {job_columns};

-- apply_job --
WITH told AS (
    SELECT id, (state = 'CANCELLING' AND %(state)s IN ('QUEUED', 'STARTING', 'RUNNING', 'PREEMPTING'))
               OR (state = 'PREEMPTING' AND %(state)s IN ('STARTING', 'RUNNING')) AS otherwise
      FROM trainos.jobs
     WHERE id = %(id)s AND lock_token = %(token)s
       FOR UPDATE)
UPDATE trainos.jobs AS job
   SET state = CASE WHEN told.otherwise THEN job.state ELSE %(state)s END,
       reason = CASE WHEN told.otherwise THEN job.reason ELSE %(reason)s END,
       exit_code = %(exit_code)s, attempt = %(attempt)s, submission_id = %(submission_id)s, ray_session = %(ray_session)s,
       log_directory = %(log_directory)s, lease_id = %(lease_id)s, started_at = %(started_at)s, finished_at = %(finished_at)s,
       token_renewed_at = %(token_renewed_at)s,
       queued_at = CASE WHEN %(preemptions)s > job.preemptions THEN now() ELSE job.queued_at END,
       preemptions = %(preemptions)s, restarts = %(restarts)s, due_at = %(due_at)s,
       preempted_at = CASE WHEN %(state)s = 'QUEUED' THEN NULL ELSE job.preempted_at END,
       admitted_at = CASE WHEN %(state)s = 'QUEUED' THEN NULL ELSE job.admitted_at END,
       updated_at = CASE WHEN job.state = %(state)s AND job.reason = %(reason)s THEN job.updated_at ELSE now() END,
       attempts = 0, last_error = NULL, lock_token = NULL, locked_until = NULL,
       next_attempt_at = clock_timestamp() + make_interval(secs => CASE WHEN told.otherwise THEN 0 ELSE %(again_s)s END)
  FROM told
 WHERE job.id = told.id
RETURNING {job_columns};

-- charge_usage --
INSERT INTO trainos.usage AS known (project_id, cpu_s, gpu_s, memory_gib_s, measured_at)
VALUES (%(project_id)s, %(cpu)s, %(gpu)s, %(memory_gib)s, %(at)s)
ON CONFLICT (project_id) DO UPDATE
   SET cpu_s = EXCLUDED.cpu_s + known.cpu_s * trainos.decay(EXCLUDED.measured_at - known.measured_at),
       gpu_s = EXCLUDED.gpu_s + known.gpu_s * trainos.decay(EXCLUDED.measured_at - known.measured_at),
       memory_gib_s = EXCLUDED.memory_gib_s + known.memory_gib_s * trainos.decay(EXCLUDED.measured_at - known.measured_at),
       measured_at = EXCLUDED.measured_at;

-- has_saved_since --
SELECT EXISTS (
    SELECT FROM trainos.checkpoints
     WHERE project_id = %(project_id)s AND job_id = %(job_id)s AND created_at > %(since)s) AS saved;

-- insert_dependencies --
INSERT INTO trainos.dependencies (project_id, job_id, on_id)
SELECT %(project_id)s, %(job_id)s, other FROM unnest(%(on_ids)s::uuid[]) AS other;

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
