-- search_experiments --
SELECT e.id, e.project_id, e.name, e.description, e.created_by, e.created_at, e.updated_at, e.deleted_at,
       coalesce((SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.experiment_tags t WHERE t.experiment_id = e.id), '{{}}') AS tags
  FROM modelhub.experiments e
 WHERE e.project_id = %(project_id)s AND {where}
 ORDER BY {order}
 LIMIT %(limit)s OFFSET %(offset)s;

-- search_runs --
SELECT r.id, r.project_id, r.experiment_id, e.name AS experiment, r.name, r.state, r.job_id, r.created_by, r.started_at, r.ended_at,
       r.deleted_at,
       (SELECT jsonb_object_agg(p.key, p.value) FROM modelhub.run_params p WHERE p.run_id = r.id) AS params,
       (SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.run_tags t WHERE t.run_id = r.id) AS tags,
       (SELECT jsonb_object_agg(m.key, jsonb_build_array(m.value::text, m.step, m.at)) FROM modelhub.metrics m WHERE m.run_id = r.id) AS metrics
  FROM modelhub.runs r JOIN modelhub.experiments e ON e.id = r.experiment_id
 WHERE r.project_id = %(project_id)s AND {where}
 ORDER BY {order}
 LIMIT %(limit)s OFFSET %(offset)s;
