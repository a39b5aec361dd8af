-- insert_dataset --
INSERT INTO modelhub.evaluation_datasets (id, project_id, name, tags, experiment_ids, created_by, updated_by)
VALUES (%(id)s, %(project_id)s, %(name)s, %(tags)s, %(experiment_ids)s, %(created_by)s, %(created_by)s);

-- lock_dataset --
-- Who merges records reads what there is first: one at a time.
SELECT schema FROM modelhub.evaluation_datasets WHERE project_id = %(project_id)s AND id = %(id)s FOR UPDATE;

-- touch_dataset --
UPDATE modelhub.evaluation_datasets
   SET schema = coalesce(%(schema)s, schema), updated_by = coalesce(%(updated_by)s, updated_by), updated_at = now()
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- change_tags --
UPDATE modelhub.evaluation_datasets SET tags = (tags || %(tags)s) - %(removed)s::text[], updated_at = now()
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- set_experiments --
UPDATE modelhub.evaluation_datasets SET experiment_ids = %(experiment_ids)s, updated_at = now()
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- delete_dataset --
DELETE FROM modelhub.evaluation_datasets WHERE project_id = %(project_id)s AND id = %(id)s;

-- find_records --
SELECT id, digest, body, created_at, updated_at FROM modelhub.evaluation_records
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND digest = ANY(%(digests)s);

-- list_records --
SELECT id, digest, body, created_at, updated_at FROM modelhub.evaluation_records
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
 ORDER BY id
 LIMIT %(limit)s;

-- put_records --
INSERT INTO modelhub.evaluation_records (id, project_id, dataset_id, digest, body)
SELECT id, %(project_id)s, %(dataset_id)s, digest, body
  FROM unnest(%(ids)s::uuid[], %(digests)s::text[], %(bodies)s::jsonb[]) AS given (id, digest, body)
ON CONFLICT (project_id, dataset_id, digest) DO UPDATE SET body = excluded.body, updated_at = now();

-- delete_records --
DELETE FROM modelhub.evaluation_records WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND id = ANY(%(ids)s);

-- lock_experiment --
-- Versions of its scorers are numbered one after the other.
SELECT FROM modelhub.experiments WHERE project_id = %(project_id)s AND id = %(id)s FOR NO KEY UPDATE;

-- insert_scorer --
-- The next version, of the same scorer_id where there is one.
INSERT INTO modelhub.scorers (project_id, experiment_id, name, version, scorer_id, serialized)
SELECT %(project_id)s, %(experiment_id)s, %(name)s, coalesce(max(s.version), 0) + 1,
       coalesce((array_agg(s.scorer_id))[1], %(scorer_id)s), %(serialized)s
  FROM modelhub.scorers s
 WHERE s.project_id = %(project_id)s AND s.experiment_id = %(experiment_id)s AND s.name = %(name)s
RETURNING experiment_id, name, version, scorer_id, serialized, created_at;

-- list_scorers --
-- All versions of a name, or the newest of each.
SELECT experiment_id, name, version, scorer_id, serialized, created_at
  FROM modelhub.scorers s
 WHERE project_id = %(project_id)s AND experiment_id = ANY(%(experiment_ids)s)
   AND CASE WHEN %(name)s::text IS NULL
            THEN version = (SELECT max(n.version) FROM modelhub.scorers n
                             WHERE n.project_id = s.project_id AND n.experiment_id = s.experiment_id AND n.name = s.name)
            ELSE name = %(name)s END
 ORDER BY name, version;

-- delete_scorers --
DELETE FROM modelhub.scorers
 WHERE project_id = %(project_id)s AND experiment_id = %(experiment_id)s AND name = %(name)s
   AND (%(version)s::int IS NULL OR version = %(version)s);
