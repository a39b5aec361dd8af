-- query_runs --
-- What a job cost is shared by its runs in proportion to how long each ran.
WITH costs AS (
    SELECT r.id, c.micro_usd / 1e6::float8
                 * coalesce(extract(epoch FROM coalesce(r.ended_at, now()) - r.started_at)::float8
                            / nullif(sum(extract(epoch FROM coalesce(r.ended_at, now()) - r.started_at)::float8) OVER jobs, 0),
                            1.0::float8 / count(*) OVER jobs) AS usd
      FROM unnest(%(jobs)s::uuid[], %(micro_usd)s::bigint[]) AS c (job_id, micro_usd)
      JOIN modelhub.runs r ON r.project_id = %(project_id)s AND r.job_id = c.job_id
    WINDOW jobs AS (PARTITION BY r.job_id)
)
SELECT r.id, r.project_id, r.experiment_id, e.name AS experiment, r.name, r.state, r.job_id, r.created_by, r.started_at, r.ended_at,
       costs.usd AS cost_usd,
       (SELECT jsonb_object_agg(p.key, p.value) FROM modelhub.run_params p WHERE p.run_id = r.id) AS params,
       (SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.run_tags t WHERE t.run_id = r.id) AS tags,
       (SELECT jsonb_object_agg(m.key, jsonb_build_array(m.value::text, m.step, m.at)) FROM modelhub.metrics m WHERE m.run_id = r.id) AS metrics
  FROM modelhub.runs r JOIN modelhub.experiments e ON e.id = r.experiment_id LEFT JOIN costs ON costs.id = r.id
 WHERE r.project_id = %(project_id)s AND r.deleted_at IS NULL AND {where}
 ORDER BY {order}
 LIMIT %(limit)s;

-- list_inputs --
-- The data of runs: commits of datasets, and what other clients called theirs.
SELECT e.target_id AS run_id, regexp_replace(e.source_label, '@[^@]*$', '') AS dataset, e.source_id AS commit
  FROM modelhub.edges e
 WHERE e.project_id = %(project_id)s AND e.target_kind = 'run' AND e.target_id = ANY (%(run_ids)s::text[]) AND e.source_kind = 'commit'
UNION
SELECT d.run_id::text, d.name, d.digest
  FROM modelhub.run_datasets d
 WHERE d.project_id = %(project_id)s AND d.run_id = ANY (%(run_ids)s::uuid[])
 ORDER BY 1, 2, 3;

-- list_curves --
-- The lowest and the highest point of each of `buckets` equal parts of each series, so that spikes survive: parts of its
-- steps, or of its time where it has one step only. NaN sorts above everything; it comes where a part holds nothing else.
WITH series AS (
    SELECT m.id, m.run_id, m.key, first.step AS first_step, (m.step - first.step)::float8 AS steps,
           first.at AS first_at, extract(epoch FROM m.at - first.at)::float8 AS seconds
      FROM modelhub.metrics m
     CROSS JOIN LATERAL (SELECT p.step, p.at FROM modelhub.metric_points p WHERE p.metric_id = m.id ORDER BY p.step, p.at, p.value LIMIT 1) AS first
     WHERE m.project_id = %(project_id)s AND m.run_id = ANY (%(run_ids)s::uuid[]) AND m.key = ANY (%(keys)s::text[])
), extremes AS (
    -- A point as an array, because arrays have a minimum; a step fits (at most 2^53), a time too until the year 2255.
    SELECT s.id, min(ARRAY[p.value, p.step, extract(epoch FROM p.at)::float8]) AS low,
           max(ARRAY[p.value, p.step, extract(epoch FROM p.at)::float8]) FILTER (WHERE p.value <> 'NaN') AS high
      FROM series s JOIN modelhub.metric_points p ON p.project_id = %(project_id)s AND p.metric_id = s.id
     GROUP BY s.id, CASE WHEN s.steps > 0 THEN floor((p.step - s.first_step) * %(buckets)s / (s.steps + 1))
                         WHEN s.seconds > 0 THEN floor(extract(epoch FROM p.at - s.first_at)::float8 * %(buckets)s / (s.seconds + 1e-6))
                         ELSE 0 END
), points AS (
    SELECT id, low AS point FROM extremes UNION SELECT id, high FROM extremes WHERE high IS NOT NULL
)
SELECT s.run_id, s.key, array_agg(point[2]::bigint ORDER BY point[2], point[3], point[1]) AS steps,
       array_agg(point[3] ORDER BY point[2], point[3], point[1]) AS at, array_agg(point[1] ORDER BY point[2], point[3], point[1]) AS values
  FROM points JOIN series s USING (id)
 GROUP BY s.id, s.run_id, s.key
 ORDER BY s.key, s.run_id;

-- set_view --
INSERT INTO modelhub.views AS v (id, project_id, name, query, columns, charts, created_by)
VALUES (%(id)s, %(project_id)s, %(name)s, %(query)s, %(columns)s, %(charts)s, %(created_by)s)
ON CONFLICT (project_id, name) DO UPDATE
   SET query = excluded.query, columns = excluded.columns, charts = excluded.charts, updated_at = now()
RETURNING id, project_id, name, query, columns, charts, created_by, created_at, updated_at;

-- find_view --
SELECT id, project_id, name, query, columns, charts, created_by, created_at, updated_at
  FROM modelhub.views WHERE project_id = %(project_id)s AND name = %(name)s;

-- list_views --
SELECT id, project_id, name, query, columns, charts, created_by, created_at, updated_at
  FROM modelhub.views
 WHERE project_id = %(project_id)s AND (%(after)s::text IS NULL OR name COLLATE "C" > %(after)s)
 ORDER BY name COLLATE "C"
 LIMIT %(limit)s;

-- delete_view --
DELETE FROM modelhub.views WHERE project_id = %(project_id)s AND name = %(name)s RETURNING id;
