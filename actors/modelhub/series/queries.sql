-- log_points --
-- Points of many runs, each run locked against its end and its deletion; the answer says in which state each of them is. Series are touched
-- in one order, so that two of these cannot deadlock. INSERT, not COPY: PostgreSQL copies into no table with row security, and a point that
-- is there already must change nothing. Seconds and microseconds apart: an interval is multiplied as a float8, exact so in any year. Points and
-- series have each other anyway: FULL keeps PostgreSQL from joining a thousand to a thousand in a loop once it plans for batches of any size.
WITH runs AS (
    SELECT id, state FROM modelhub.runs
     WHERE project_id = %(project_id)s AND id = ANY (%(run_ids)s::uuid[]) AND deleted_at IS NULL ORDER BY id FOR SHARE
), asked AS MATERIALIZED (
    SELECT runs.id AS run_id, key, step, value,
           timestamptz 'epoch' + time_us / 1000000 * interval '1 second' + time_us %% 1000000 * interval '1 microsecond' AS at
      FROM unnest(%(places)s::int[], %(keys)s::text[], %(steps)s::bigint[], %(times_us)s::bigint[], %(values)s::float8[])
        AS a (place, key, step, time_us, value)
      JOIN runs ON runs.id = (%(run_ids)s::uuid[])[place] AND (%(late)s OR runs.state = 'RUNNING')
), latest AS (
    SELECT DISTINCT ON (run_id, key) run_id, key, step, at, value FROM asked ORDER BY run_id, key, step DESC, at DESC, value DESC
), series AS (
    INSERT INTO modelhub.metrics AS m (project_id, run_id, key, step, at, value)
    SELECT %(project_id)s, run_id, key, step, at, value FROM latest ORDER BY run_id, key
    ON CONFLICT (run_id, key) DO UPDATE
       SET step = CASE WHEN (excluded.step, excluded.at, excluded.value) > (m.step, m.at, m.value) THEN excluded.step ELSE m.step END,
           at = CASE WHEN (excluded.step, excluded.at, excluded.value) > (m.step, m.at, m.value) THEN excluded.at ELSE m.at END,
           value = CASE WHEN (excluded.step, excluded.at, excluded.value) > (m.step, m.at, m.value) THEN excluded.value ELSE m.value END
    RETURNING m.id, m.run_id, m.key
), points AS (
    INSERT INTO modelhub.metric_points (project_id, metric_id, step, at, value)
    SELECT %(project_id)s, series.id, asked.step, asked.at, asked.value FROM asked FULL JOIN series USING (run_id, key)
    ON CONFLICT DO NOTHING
)
SELECT id, state FROM runs;

-- read_points --
-- One page of a series in one value, 24 bytes a point: neither PostgreSQL nor the driver handles each point as a row of its own.
SELECT string_agg(int8send(step) || timestamptz_send(at) || float8send(value), '' ORDER BY step, at, value) AS points
  FROM (SELECT p.step, p.at, p.value
          FROM modelhub.metric_points p
         WHERE p.project_id = %(project_id)s
           AND p.metric_id = (SELECT m.id FROM modelhub.metrics m WHERE m.project_id = %(project_id)s AND m.run_id = %(run_id)s AND m.key = %(key)s)
           AND (%(step)s::bigint IS NULL OR (p.step, p.at, p.value) > (%(step)s::bigint, %(at)s::timestamptz, %(value)s::float8))
         ORDER BY p.step, p.at, p.value
         LIMIT %(limit)s) AS page;
