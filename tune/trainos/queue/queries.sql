-- {queues} --
-- From each queue to the next by the index: DISTINCT would go through all that waits.
queues AS (
    (SELECT project_id, created_by FROM trainos.jobs
      WHERE state = 'QUEUED' AND held_by IS NULL AND NOT waits ORDER BY project_id, created_by LIMIT 1)
     UNION ALL
    SELECT next.project_id, next.created_by
      FROM queues
     CROSS JOIN LATERAL (
            SELECT project_id, created_by FROM trainos.jobs AS job
             WHERE state = 'QUEUED' AND held_by IS NULL AND NOT waits
               AND (job.project_id, job.created_by) > (queues.project_id, queues.created_by)
             ORDER BY project_id, created_by LIMIT 1) AS next)

-- {gang} --
(spec -> 'workers')::int AS workers, (spec -> 'driver_cpus')::float8 AS driver_cpu, (spec -> 'cpus_per_worker')::float8 AS worker_cpu,
       (spec -> 'gpus_per_worker')::float8 AS worker_gpu, (spec -> 'memory_gib_per_worker')::float8 AS worker_memory_gib,
       (spec ->> 'timeout_s')::float8 AS limit_s

-- has_waiting --
SELECT EXISTS (SELECT FROM trainos.jobs WHERE state = 'QUEUED' AND held_by IS NULL)
    OR EXISTS (SELECT FROM trainos.jobs WHERE is_array AND finished_at IS NULL)
    OR EXISTS (SELECT FROM trainos.closures JOIN trainos.jobs USING (project_id)
                WHERE state IN ('STARTING', 'RUNNING') AND NOT is_array AND origin = 'aidos' AND (spec -> 'preemptible') IS DISTINCT FROM 'false') AS waiting;

-- count_queues --
WITH RECURSIVE {queues}
SELECT count(*) AS queues, now() AS at FROM queues;

-- list_waiting --
WITH RECURSIVE {queues},
due AS (
    SELECT first.id
      FROM queues
     CROSS JOIN LATERAL (
            SELECT id FROM trainos.jobs AS job
             WHERE job.project_id = queues.project_id AND job.created_by = queues.created_by
               AND state = 'QUEUED' AND held_by IS NULL AND NOT waits AND due_at <= %(now)s
             ORDER BY priority DESC, queued_at, id LIMIT %(depth)s) AS first
     UNION
    SELECT oldest.id
      FROM queues
     CROSS JOIN LATERAL (
            SELECT id FROM trainos.jobs AS job
             WHERE job.project_id = queues.project_id AND job.created_by = queues.created_by
               AND state = 'QUEUED' AND held_by IS NULL AND NOT waits AND due_at <= %(now)s
             ORDER BY queued_at, id LIMIT %(oldest)s) AS oldest)
SELECT id, name, project_id, created_by AS "user", queued_at, priority, attempt > 0 AS begun,
       {gang}
  FROM trainos.jobs JOIN due USING (id)
 ORDER BY id;

-- list_running --
SELECT job.id, name, job.project_id, created_by AS "user", queued_at, priority, attempt > 1 AS begun, placement,
       {gang}, (spec -> 'preemptible') IS DISTINCT FROM 'false' AS preemptible,
       coalesce(started_at, admitted_at) AS started_at, coalesce(saved.created_at, started_at, admitted_at) AS saved_at,
       started_at IS NOT NULL AND started_at < %(now)s - make_interval(
           secs => CASE WHEN (spec -> 'workers')::int = 0 THEN %(shown_s)s ELSE %(settle_s)s END) AS settled,
       state IN ('PREEMPTING', 'CANCELLING') AS leaving, admitted_at
  FROM trainos.jobs AS job
  LEFT JOIN LATERAL (
        SELECT checkpoints.created_at FROM trainos.checkpoints
         WHERE checkpoints.project_id = job.project_id AND checkpoints.job_id = job.id
         ORDER BY step DESC LIMIT 1) AS saved ON true
 WHERE state IN ('STARTING', 'RUNNING', 'PREEMPTING', 'CANCELLING') AND origin = 'aidos' AND NOT is_array
 ORDER BY job.id;

-- list_usage --
SELECT project_id, cpu_s * trainos.decay(%(now)s - measured_at) AS cpu, gpu_s * trainos.decay(%(now)s - measured_at) AS gpu,
       memory_gib_s * trainos.decay(%(now)s - measured_at) AS memory_gib
  FROM trainos.usage
 WHERE project_id = ANY(%(project_ids)s);

-- list_settled_dependents --
SELECT job.id, min(other.name) FILTER (WHERE other.state IN ('FAILED', 'CANCELLED')) AS failed
  FROM trainos.jobs AS job
  JOIN trainos.dependencies AS edge ON edge.project_id = job.project_id AND edge.job_id = job.id
  JOIN trainos.jobs AS other ON other.id = edge.on_id
 WHERE job.state = 'QUEUED' AND job.waits AND job.array_id IS NULL
 GROUP BY job.id
HAVING bool_and(other.state = 'SUCCEEDED') AND NOT job.is_array OR bool_or(other.state IN ('FAILED', 'CANCELLED'));

-- set_quota --
INSERT INTO trainos.quotas (project_id, org_id, nominal, limits, user_limits, weight, updated_by)
VALUES (%(project_id)s, %(org_id)s, %(nominal)s, %(limits)s, %(user_limits)s, %(weight)s, %(updated_by)s)
ON CONFLICT (project_id) DO UPDATE
   SET nominal = EXCLUDED.nominal, limits = EXCLUDED.limits, user_limits = EXCLUDED.user_limits, weight = EXCLUDED.weight,
       updated_by = EXCLUDED.updated_by, updated_at = now();

-- close_project --
INSERT INTO trainos.closures AS known (project_id, org_id, reason) VALUES (%(project_id)s, %(org_id)s, %(reason)s)
ON CONFLICT (project_id) DO UPDATE SET reason = EXCLUDED.reason WHERE known.reason <> EXCLUDED.reason
RETURNING 1;

-- open_project --
DELETE FROM trainos.closures WHERE project_id = %(project_id)s RETURNING 1;

-- list_closures --
SELECT project_id, reason FROM trainos.closures WHERE project_id = ANY(%(project_ids)s);

-- list_quotas --
SELECT project_id, nominal, limits, user_limits, weight FROM trainos.quotas WHERE project_id = ANY(%(project_ids)s);

-- list_history --
SELECT job.id, job.name, project_name AS project, created_by AS user, spec, job.priority,
       extract(epoch FROM job.created_at - %(since)s)::float8 AS submit_s, extract(epoch FROM finished_at - started_at)::float8 AS run_s,
       coalesce(saved.every_s, 0)::float8 AS checkpoint_s
  FROM trainos.jobs AS job
  LEFT JOIN LATERAL (
        SELECT extract(epoch FROM max(created_at) - min(created_at)) / (count(*) - 1) AS every_s
          FROM trainos.checkpoints
         WHERE project_id = job.project_id AND job_id = job.id
        HAVING count(*) > 1) AS saved ON true
 WHERE job.project_id = %(project_id)s AND job.created_at >= %(since)s AND finished_at >= started_at AND NOT is_array
 ORDER BY job.created_at, job.id
 LIMIT %(limit)s;

-- set_capacity --
INSERT INTO trainos.capacity (nodes, seen_at) VALUES (%(nodes)s, now())
ON CONFLICT (only_row) DO UPDATE SET nodes = EXCLUDED.nodes, seen_at = EXCLUDED.seen_at;

-- find_capacity --
SELECT nodes FROM trainos.capacity WHERE seen_at > now() - make_interval(secs => %(fresh_s)s);

-- list_run_times --
SELECT project_id, name, cpu, gpu, memory_gib,
       percentile_cont(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - started_at)::float8) AS run_s
  FROM trainos.jobs
 WHERE project_id = ANY(%(project_ids)s) AND state IN ('SUCCEEDED', 'FAILED') AND origin = 'aidos' AND NOT is_array
   AND finished_at > now() - make_interval(days => %(days)s) AND finished_at >= started_at
 GROUP BY GROUPING SETS ((project_id, name), (project_id, cpu, gpu, memory_gib))
HAVING count(*) >= 3;

-- set_forecasts --
INSERT INTO trainos.forecasts (project_id, job_id, made_at, starts_at, starts_from, starts_until, ends_at, ends_from, ends_until, promised_at,
       promised_start, promised_end)
SELECT job.project_id, job.id, said.made_at, starts_at, starts_from, starts_until, ends_at, ends_from, ends_until, said.made_at,
       tstzrange(starts_from, starts_until, '[]'), tstzrange(ends_from, ends_until, '[]')
  FROM unnest(%(ids)s::uuid[], %(made_at)s::timestamptz[], %(starts_at)s::timestamptz[], %(starts_from)s::timestamptz[],
              %(starts_until)s::timestamptz[], %(ends_at)s::timestamptz[], %(ends_from)s::timestamptz[], %(ends_until)s::timestamptz[])
       AS said (id, made_at, starts_at, starts_from, starts_until, ends_at, ends_from, ends_until)
  JOIN trainos.jobs AS job ON job.id = said.id AND job.state = 'QUEUED'
ON CONFLICT (job_id) DO UPDATE
   SET made_at = EXCLUDED.made_at, starts_at = EXCLUDED.starts_at, starts_from = EXCLUDED.starts_from, starts_until = EXCLUDED.starts_until,
       ends_at = EXCLUDED.ends_at, ends_from = EXCLUDED.ends_from, ends_until = EXCLUDED.ends_until;

-- list_forecasts --
SELECT job_id, made_at, starts_at, starts_from, starts_until, ends_at, ends_from, ends_until
  FROM trainos.forecasts
 WHERE project_id = %(project_id)s AND job_id = ANY(%(ids)s) AND made_at > now() - make_interval(secs => %(fresh_s)s);

-- measure_coverage --
-- What is overdue is a promise that was not kept. Of a job that was begun several times it is not known when it was begun first.
SELECT count(*) FILTER (WHERE job.attempt = 1 AND job.admitted_at IS NOT NULL
                           OR job.attempt = 0 AND job.state = 'QUEUED' AND now() > upper(promised_start)) AS starts,
       count(*) FILTER (WHERE job.attempt = 1 AND job.admitted_at <@ promised_start) AS starts_within,
       count(*) FILTER (WHERE job.state IN ('SUCCEEDED', 'FAILED') AND job.attempt > 0
                           OR job.finished_at IS NULL AND now() > upper(promised_end)) AS ends,
       count(*) FILTER (WHERE job.state IN ('SUCCEEDED', 'FAILED') AND job.attempt > 0 AND job.finished_at <@ promised_end) AS ends_within
  FROM trainos.forecasts AS made
  JOIN trainos.jobs AS job ON job.id = made.job_id
 WHERE made.project_id = %(project_id)s AND promised_at > now() - make_interval(days => %(days)s);
