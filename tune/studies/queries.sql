-- insert_study --
INSERT INTO studies.studies (id, org_id, project_id, name, spec, state, running_since, traceparent, created_by)
VALUES (%(id)s, %(org_id)s, %(project_id)s, %(name)s, %(spec)s, 'RUNNING', clock_timestamp(), %(traceparent)s, %(created_by)s);

-- find_study --
SELECT s.id, s.org_id, s.project_id, s.name, s.spec, s.space_version, s.state, s.reason, s.job_ids, s.restarts,
       s.ran_s + coalesce(extract(epoch FROM clock_timestamp() - s.running_since), 0)::float8 AS time_s,
       coalesce((SELECT jsonb_object_agg(t.state, t.trials)
                   FROM (SELECT state, count(*) AS trials FROM studies.trials WHERE study_id = s.id GROUP BY state) t), '{}') AS trials,
       s.traceparent, s.created_by, s.created_at, s.updated_at, s.attempts
  FROM studies.studies s
 WHERE s.project_id = %(project_id)s AND (s.name = %(name)s OR s.id::text = %(name)s)
 ORDER BY s.id::text = %(name)s DESC
 LIMIT 1;

-- list_studies --
SELECT s.id, s.org_id, s.project_id, s.name, s.spec, s.space_version, s.state, s.reason, s.job_ids, s.restarts,
       s.ran_s + coalesce(extract(epoch FROM clock_timestamp() - s.running_since), 0)::float8 AS time_s,
       coalesce((SELECT jsonb_object_agg(t.state, t.trials)
                   FROM (SELECT state, count(*) AS trials FROM studies.trials WHERE study_id = s.id GROUP BY state) t), '{}') AS trials,
       s.traceparent, s.created_by, s.created_at, s.updated_at, s.attempts
  FROM studies.studies s
 WHERE s.project_id = %(project_id)s
   AND (%(state)s::text IS NULL OR s.state = %(state)s)
   AND (%(before)s::uuid IS NULL OR s.id < %(before)s)
 ORDER BY s.id DESC
 LIMIT %(limit)s;

-- lock_study --
SELECT id FROM studies.studies
 WHERE project_id = %(project_id)s AND (name = %(name)s OR id::text = %(name)s)
 ORDER BY id::text = %(name)s DESC
 LIMIT 1
   FOR UPDATE;

-- set_state --
UPDATE studies.studies
   SET state = %(state)s, reason = %(reason)s, updated_at = now(),
       ran_s = ran_s + coalesce(extract(epoch FROM clock_timestamp() - running_since), 0)::float8,
       running_since = CASE WHEN %(state)s = 'RUNNING' THEN clock_timestamp() END,
       restarts = CASE WHEN %(state)s = 'RUNNING' THEN restarts ELSE 0 END, next_attempt_at = clock_timestamp()
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- set_spec --
UPDATE studies.studies SET spec = %(spec)s, space_version = %(space_version)s, updated_at = now()
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- add_job --
UPDATE studies.studies SET job_ids = job_ids || %(job_id)s::uuid, restarts = restarts + %(restarts)s, updated_at = now()
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- clear_restarts --
UPDATE studies.studies SET restarts = 0 WHERE project_id = %(project_id)s AND id = %(id)s AND restarts > 0;

-- delete_study --
DELETE FROM studies.studies WHERE project_id = %(project_id)s AND id = %(id)s;

-- claim_study --
UPDATE studies.studies AS claimed
   SET lock_token = %(token)s, locked_until = clock_timestamp() + make_interval(secs => %(lock_s)s)
 WHERE claimed.id IN (
        SELECT id FROM studies.studies
         WHERE state = 'RUNNING' AND next_attempt_at <= clock_timestamp()
           AND (locked_until IS NULL OR locked_until < clock_timestamp())
         ORDER BY next_attempt_at
         LIMIT %(limit)s
           FOR UPDATE SKIP LOCKED)
RETURNING id, org_id, project_id, name, spec, space_version, state, reason, job_ids, restarts, ran_s AS time_s, '{}'::jsonb AS trials,
          traceparent, created_by, created_at, updated_at, attempts;

-- release_study --
-- Only while it still runs under the same job: whoever stopped or resumed it meanwhile has decided.
UPDATE studies.studies
   SET lock_token = NULL, locked_until = NULL, attempts = 0, last_error = NULL, reason = CASE WHEN state = 'RUNNING' THEN %(reason)s ELSE reason END,
       next_attempt_at = clock_timestamp() + make_interval(secs => %(again_s)s)
 WHERE id = %(id)s AND lock_token = %(token)s
RETURNING state = 'RUNNING' AND job_ids[cardinality(job_ids)] IS NOT DISTINCT FROM %(job_id)s::uuid AS current;

-- insert_trial --
INSERT INTO studies.trials (project_id, study_id, number, state, params, run_id, member, parent)
VALUES (%(project_id)s, %(study_id)s, %(number)s, 'RUNNING', %(params)s, %(run_id)s, %(member)s, %(parent)s)
RETURNING number, state, params, "values", step, stop_step, reason, attempt, run_id, member, parent, started_at, finished_at;

-- begin_again --
UPDATE studies.trials
   SET state = 'RUNNING', attempt = attempt + 1, step = NULL, stop_step = NULL, started_at = clock_timestamp()
 WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND number = %(number)s
   AND (state = 'WAITING' OR (state = 'RUNNING' AND attempt = %(lost)s::int));

-- interrupt_trials --
UPDATE studies.trials SET state = 'WAITING'
 WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND state = 'RUNNING'
RETURNING number, state, params, "values", step, stop_step, reason, attempt, run_id, member, parent, started_at, finished_at;

-- find_trial --
SELECT number, state, params, "values", step, stop_step, reason, attempt, run_id, member, parent, started_at, finished_at
  FROM studies.trials
 WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND number = %(number)s;

-- find_trial_of_run --
SELECT study_id, number FROM studies.trials WHERE project_id = %(project_id)s AND run_id = %(run_id)s;

-- lock_trial --
SELECT number, state, params, "values", step, stop_step, reason, attempt, run_id, member, parent, started_at, finished_at
  FROM studies.trials
 WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND number = %(number)s
   FOR UPDATE;

-- list_trials --
SELECT number, state, params, "values", step, stop_step, reason, attempt, run_id, member, parent, started_at, finished_at
  FROM studies.trials
 WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND number > %(after)s AND (%(state)s::text IS NULL OR state = %(state)s)
 ORDER BY number
 LIMIT %(limit)s;

-- insert_reports --
INSERT INTO studies.reports (project_id, study_id, number, metric, step, value)
SELECT %(project_id)s, %(study_id)s, %(number)s, metric, step, value
  FROM unnest(%(metrics)s::text[], %(steps)s::bigint[], %(values)s::float8[]) AS reported (metric, step, value)
    ON CONFLICT (study_id, metric, number, step) DO UPDATE SET value = excluded.value;

-- delete_reports --
DELETE FROM studies.reports WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND number = %(number)s;

-- note_step --
UPDATE studies.trials SET step = greatest(step, %(step)s), stop_step = coalesce(stop_step, %(stop_step)s)
 WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND number = %(number)s;

-- list_values --
SELECT value FROM studies.reports
 WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND number = %(number)s AND metric = %(metric)s
 ORDER BY step;

-- list_peers --
-- The first value of each trial that was measured at the step or behind it.
SELECT DISTINCT ON (r.number) r.number, t.state, r.value
  FROM studies.reports r JOIN studies.trials t ON t.study_id = r.study_id AND t.number = r.number
 WHERE r.project_id = %(project_id)s AND r.study_id = %(study_id)s AND r.metric = %(metric)s AND r.step >= %(step)s
 ORDER BY r.number, r.step;

-- last_values --
SELECT DISTINCT ON (metric) metric, value
  FROM studies.reports
 WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND number = %(number)s
 ORDER BY metric, step DESC;

-- finish_trial --
UPDATE studies.trials
   SET state = %(state)s, reason = %(reason)s, "values" = %(values)s, finished_at = clock_timestamp()
 WHERE project_id = %(project_id)s AND study_id = %(study_id)s AND number = %(number)s
RETURNING number, state, params, "values", step, stop_step, reason, attempt, run_id, member, parent, started_at, finished_at;
