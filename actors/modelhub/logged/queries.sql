-- insert_model --
INSERT INTO modelhub.logged_models (id, project_id, experiment_id, run_id, name, model_type, created_by)
VALUES (%(id)s, %(project_id)s, %(experiment_id)s, %(run_id)s, %(name)s, %(model_type)s, %(created_by)s);

-- touch_model --
UPDATE modelhub.logged_models SET state = coalesce(%(state)s, state), updated_at = now()
 WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING id;

-- delete_model --
UPDATE modelhub.logged_models SET deleted_at = now() WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING id;

-- set_texts --
INSERT INTO modelhub.logged_model_texts (project_id, model_id, kind, key, value)
SELECT %(project_id)s, %(id)s, %(kind)s, key, value FROM unnest(%(keys)s::text[], %(values)s::text[]) AS a (key, value) ORDER BY key
ON CONFLICT (model_id, kind, key) DO UPDATE SET value = excluded.value;

-- delete_tag --
DELETE FROM modelhub.logged_model_texts WHERE project_id = %(project_id)s AND model_id = %(id)s AND kind = 'tag' AND key = %(key)s
RETURNING key;

-- insert_metrics --
INSERT INTO modelhub.logged_model_metrics AS m (project_id, model_id, run_id, key, dataset_name, dataset_digest, step, at, value)
SELECT DISTINCT ON (model_id, key, dataset_name, dataset_digest)
       %(project_id)s, model_id, %(run_id)s, key, dataset_name, dataset_digest, step, at, value
  FROM unnest(%(models)s::uuid[], %(keys)s::text[], %(names)s::text[], %(digests)s::text[], %(steps)s::bigint[], %(times)s::timestamptz[],
              %(values)s::float8[]) AS a (model_id, key, dataset_name, dataset_digest, step, at, value)
 WHERE EXISTS (SELECT FROM modelhub.logged_models l WHERE l.id = a.model_id AND l.project_id = %(project_id)s)
 ORDER BY model_id, key, dataset_name, dataset_digest, step DESC, at DESC
ON CONFLICT (model_id, key, dataset_name, dataset_digest, run_id) DO UPDATE
   SET step = excluded.step, at = excluded.at, value = excluded.value
 WHERE (excluded.step, excluded.at) >= (m.step, m.at);

-- link_models --
INSERT INTO modelhub.run_models AS m (project_id, run_id, model_id, role, step)
SELECT %(project_id)s, %(run_id)s, model_id, %(role)s, step FROM unnest(%(models)s::uuid[], %(steps)s::bigint[]) AS a (model_id, step)
ON CONFLICT (run_id, model_id, role) DO UPDATE SET step = greatest(m.step, excluded.step);

-- list_links --
SELECT m.run_id, m.model_id, m.role, m.step
  FROM modelhub.run_models m
 WHERE m.project_id = %(project_id)s AND m.run_id = ANY(%(run_ids)s)
 ORDER BY m.step, m.model_id;
