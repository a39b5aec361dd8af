-- rename_experiment --
UPDATE modelhub.experiments SET name = %(name)s, updated_at = now()
 WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING id;

-- restore_experiment --
-- With the runs that were deleted by the same stroke; those deleted before stay deleted.
WITH runs AS (
    UPDATE modelhub.runs r SET deleted_at = NULL
      FROM modelhub.experiments e
     WHERE e.id = r.experiment_id AND e.project_id = %(project_id)s AND e.id = %(id)s AND r.deleted_at = e.deleted_at
)
UPDATE modelhub.experiments SET deleted_at = NULL, updated_at = now()
 WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NOT NULL
RETURNING id;

-- set_experiment_tags --
INSERT INTO modelhub.experiment_tags (project_id, experiment_id, key, value)
SELECT %(project_id)s, %(id)s, key, value FROM unnest(%(keys)s::text[], %(values)s::text[]) AS a (key, value) ORDER BY key
ON CONFLICT (experiment_id, key) DO UPDATE SET value = excluded.value;

-- delete_experiment_tag --
DELETE FROM modelhub.experiment_tags WHERE project_id = %(project_id)s AND experiment_id = %(id)s AND key = %(key)s
RETURNING key;

-- restore_run --
UPDATE modelhub.runs SET deleted_at = NULL WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NOT NULL
RETURNING id;

-- insert_datasets --
INSERT INTO modelhub.run_datasets (project_id, run_id, name, digest, source_type, source, schema, profile, tags)
SELECT %(project_id)s, %(run_id)s, d.name, d.digest, d.source_type, d.source, d.schema, d.profile, d.tags
  FROM jsonb_to_recordset(%(datasets)s)
       AS d (name text, digest text, source_type text, source text, schema text, profile text, tags jsonb)
ON CONFLICT (run_id, name, digest) DO NOTHING;

-- list_datasets --
SELECT run_id, name, digest, source_type, source, schema, profile, tags
  FROM modelhub.run_datasets
 WHERE project_id = %(project_id)s AND run_id = ANY(%(run_ids)s)
 ORDER BY logged_at, name, digest;

-- list_dataset_names --
SELECT DISTINCT r.experiment_id, d.name, d.digest, d.tags ->> 'mlflow.data.context' AS context
  FROM modelhub.run_datasets d JOIN modelhub.runs r ON r.id = d.run_id
 WHERE d.project_id = %(project_id)s AND r.experiment_id = ANY(%(experiment_ids)s) AND r.deleted_at IS NULL
 ORDER BY 2, 3, 4
 LIMIT %(limit)s;

-- list_history --
SELECT m.key, p.value, p.step, p.at
  FROM modelhub.metrics m JOIN modelhub.metric_points p ON p.metric_id = m.id
 WHERE m.project_id = %(project_id)s AND m.run_id = %(run_id)s AND m.key = %(key)s
 ORDER BY p.at, p.step, p.value
 LIMIT %(limit)s OFFSET %(offset)s;

-- sample_histories --
-- Of each run at most `points` of its series between two steps, evenly spread, the first and the last among them.
WITH numbered AS (
    SELECT m.run_id, m.key, p.value, p.step, p.at,
           row_number() OVER (PARTITION BY m.run_id ORDER BY p.step, p.at, p.value) AS place,
           count(*) OVER (PARTITION BY m.run_id) AS points
      FROM modelhub.metrics m JOIN modelhub.metric_points p ON p.metric_id = m.id
     WHERE m.project_id = %(project_id)s AND m.run_id = ANY(%(run_ids)s) AND m.key = %(key)s
       AND p.step BETWEEN coalesce(%(first)s, p.step) AND coalesce(%(last)s, p.step)
)
SELECT run_id, key, value, step, at FROM numbered
 WHERE place = 1 OR place = points
    OR (place - 1) * (%(points)s - 1) / points <> (place - 2) * (%(points)s - 1) / points
 ORDER BY run_id, step, at, value;
