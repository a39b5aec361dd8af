-- search_experiments --
SELECT e.id, e.project_id, e.name, e.description, e.created_by, e.created_at, e.updated_at, e.deleted_at,
       coalesce((SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.experiment_tags t WHERE t.experiment_id = e.id), '{{}}') AS tags
  FROM modelhub.experiments e
 WHERE e.project_id = %(project_id)s AND {where}
 ORDER BY {order}
 LIMIT %(limit)s OFFSET %(offset)s;

-- search_runs --
-- No join: with the name of the experiment as a subquery the planner knows how many runs there are.
SELECT r.id, r.project_id, r.experiment_id, (SELECT e.name FROM modelhub.experiments e WHERE e.id = r.experiment_id) AS experiment,
       r.name, r.state, r.job_id, r.created_by, r.started_at, r.ended_at, r.deleted_at,
       (SELECT jsonb_object_agg(p.key, p.value) FROM modelhub.run_params p WHERE p.run_id = r.id) AS params,
       (SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.run_tags t WHERE t.run_id = r.id) AS tags,
       (SELECT jsonb_object_agg(m.key, jsonb_build_array(m.value::text, m.step, m.at)) FROM modelhub.metrics m WHERE m.run_id = r.id) AS metrics,
       EXISTS (SELECT FROM modelhub.run_datasets d WHERE d.run_id = r.id)
           OR EXISTS (SELECT FROM modelhub.run_models l WHERE l.run_id = r.id) AS linked
  FROM modelhub.runs r
 WHERE r.project_id = %(project_id)s AND {where}
 ORDER BY {order}
 LIMIT %(limit)s OFFSET %(offset)s;

-- search_models --
SELECT m.id, m.project_id, m.name, m.description, m.last_version, m.created_by, m.created_at, m.updated_at,
       coalesce((SELECT jsonb_object_agg(a.name, v.version) FROM modelhub.aliases a JOIN modelhub.versions v ON v.id = a.version_id
                  WHERE a.model_id = m.id), '{{}}') AS aliases,
       coalesce((SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.model_tags t WHERE t.model_id = m.id), '{{}}') AS tags
  FROM modelhub.models m
 WHERE m.project_id = %(project_id)s AND {where}
 ORDER BY {order}
 LIMIT %(limit)s OFFSET %(offset)s;

-- search_versions --
SELECT v.id, v.org_id, v.project_id, v.model_id, m.name AS model, v.version, v.run_id, v.flavour, v.state, v.reason, v.description,
       v.signature, v.deprecation, v.findings, v.card, v.licence, v.requirements, v.input_example, v.created_by, v.created_at, v.attempts, v.source, v.run_link, v.logged_model_id, v.stage, v.updated_at,
       NULL AS files,
       (SELECT array_agg(a.name ORDER BY a.name) FROM modelhub.aliases a WHERE a.version_id = v.id) AS aliases,
       coalesce((SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.version_tags t WHERE t.version_id = v.id), '{{}}') AS tags
  FROM modelhub.versions v JOIN modelhub.models m ON m.id = v.model_id
 WHERE v.project_id = %(project_id)s AND m.deleted_at IS NULL AND {where}
 ORDER BY {order}
 LIMIT %(limit)s OFFSET %(offset)s;

-- search_logged_models --
SELECT l.id, l.project_id, l.experiment_id, e.name AS experiment, l.run_id, l.name, l.model_type, l.state, l.created_by, l.created_at,
       l.updated_at,
       (SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.logged_model_texts t WHERE t.model_id = l.id AND t.kind = 'param') AS params,
       (SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.logged_model_texts t WHERE t.model_id = l.id AND t.kind = 'tag') AS tags,
       (SELECT jsonb_agg(jsonb_build_array(x.key, x.value::text, x.step, x.at, x.run_id, x.dataset_name, x.dataset_digest) ORDER BY x.key)
          FROM modelhub.logged_model_metrics x WHERE x.model_id = l.id) AS metrics
  FROM modelhub.logged_models l JOIN modelhub.experiments e ON e.id = l.experiment_id
 WHERE l.project_id = %(project_id)s AND {where}
 ORDER BY {order}
 LIMIT %(limit)s OFFSET %(offset)s;

-- search_evaluation_datasets --
SELECT d.id, d.project_id, d.name, d.tags, d.schema, d.experiment_ids, d.created_by, d.updated_by, d.created_at, d.updated_at,
       (SELECT count(*) FROM modelhub.evaluation_records r WHERE r.project_id = d.project_id AND r.dataset_id = d.id) AS records
  FROM modelhub.evaluation_datasets d
 WHERE d.project_id = %(project_id)s AND {where}
 ORDER BY {order}
 LIMIT %(limit)s OFFSET %(offset)s;

-- search_traces --
SELECT t.id, t.project_id, t.trace_id, t.experiment_id, e.name AS experiment, t.client_request_id, t.request_preview, t.response_preview,
       t.requested_at, t.duration_ms, t.state, t.metadata, t.tags,
       (SELECT jsonb_agg(jsonb_build_array(a.id, a.body, a.created_at, a.updated_at) ORDER BY a.id)
          FROM modelhub.assessments a WHERE a.trace = t.id) AS assessments
  FROM modelhub.traces t JOIN modelhub.experiments e ON e.id = t.experiment_id
 WHERE t.project_id = %(project_id)s AND {where}
 ORDER BY {order}
 LIMIT %(limit)s OFFSET %(offset)s;
