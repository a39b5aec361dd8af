-- lock_model --
-- Whoever moves an alias of the model, or changes what it asks for, waits here for the other.
SELECT id FROM modelhub.models WHERE project_id = %(project_id)s AND name = %(name)s AND deleted_at IS NULL FOR NO KEY UPDATE;

-- set_review_rules --
UPDATE modelhub.models SET self_approval = %(self_approval)s, updated_at = now() WHERE project_id = %(project_id)s AND id = %(model_id)s;

-- find_alias --
SELECT v.version FROM modelhub.aliases a JOIN modelhub.versions v ON v.id = a.version_id
 WHERE a.project_id = %(project_id)s AND a.model_id = %(model_id)s AND a.name = %(alias)s;

-- move_alias --
INSERT INTO modelhub.aliases (project_id, model_id, name, version_id)
VALUES (%(project_id)s, %(model_id)s, %(alias)s, %(version_id)s)
ON CONFLICT (model_id, name) DO UPDATE SET version_id = excluded.version_id, moved_at = now();

-- delete_alias --
DELETE FROM modelhub.aliases WHERE project_id = %(project_id)s AND model_id = %(model_id)s AND name = %(alias)s;

-- insert_move --
INSERT INTO modelhub.alias_moves (id, project_id, model_id, alias, moved_from, version, moved_by)
VALUES (%(id)s, %(project_id)s, %(model_id)s, %(alias)s, %(moved_from)s, %(version)s, %(moved_by)s);

-- list_moves --
SELECT id, alias, moved_from, version, moved_by, moved_at
  FROM modelhub.alias_moves
 WHERE project_id = %(project_id)s AND model_id = %(model_id)s AND alias = %(alias)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- set_protection --
INSERT INTO modelhub.protections (project_id, model_id, alias, required_approvals, required_checks, thresholds)
VALUES (%(project_id)s, %(model_id)s, %(alias)s, %(required_approvals)s, %(required_checks)s, %(thresholds)s)
ON CONFLICT (model_id, alias) DO UPDATE
   SET required_approvals = excluded.required_approvals, required_checks = excluded.required_checks, thresholds = excluded.thresholds,
       updated_at = now()
RETURNING alias, required_approvals, required_checks, thresholds, updated_at;

-- list_protections --
SELECT alias, required_approvals, required_checks, thresholds, updated_at
  FROM modelhub.protections
 WHERE project_id = %(project_id)s AND model_id = %(model_id)s AND (%(after)s::text IS NULL OR alias COLLATE "C" > %(after)s)
 ORDER BY alias COLLATE "C"
 LIMIT %(limit)s;

-- delete_protection --
DELETE FROM modelhub.protections WHERE project_id = %(project_id)s AND model_id = %(model_id)s AND alias = %(alias)s
RETURNING alias;

-- insert_review --
INSERT INTO modelhub.reviews (id, project_id, version_id, verdict, reason, author, author_id)
VALUES (%(id)s, %(project_id)s, %(version_id)s, %(verdict)s, %(reason)s, %(author)s, %(author_id)s)
RETURNING id, verdict, reason, author, author_id, created_at;

-- list_reviews --
SELECT id, verdict, reason, author, author_id, created_at
  FROM modelhub.reviews
 WHERE project_id = %(project_id)s AND version_id = %(version_id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
 ORDER BY id
 LIMIT %(limit)s;

-- set_check --
INSERT INTO modelhub.checks (project_id, version_id, name, state, summary, url, metrics, run_id, author)
VALUES (%(project_id)s, %(version_id)s, %(name)s, %(state)s, %(summary)s, %(url)s, %(metrics)s, %(run_id)s, %(author)s)
ON CONFLICT (version_id, name) DO UPDATE
   SET state = excluded.state, summary = excluded.summary, url = excluded.url, metrics = excluded.metrics, run_id = excluded.run_id,
       author = excluded.author, updated_at = now()
RETURNING name, state, summary, url, metrics, run_id, author, updated_at;

-- list_checks --
SELECT name, state, summary, url, metrics, run_id, author, updated_at
  FROM modelhub.checks
 WHERE project_id = %(project_id)s AND version_id = %(version_id)s AND (%(after)s::text IS NULL OR name COLLATE "C" > %(after)s)
 ORDER BY name COLLATE "C"
 LIMIT %(limit)s;

-- find_facts --
-- What of a version and its model decides beside reviews and checks.
SELECT v.author_id, m.self_approval, v.deprecation IS NOT NULL AS deprecated,
       (SELECT jsonb_object_agg(x.key, x.value::text) FROM modelhub.metrics x WHERE x.project_id = v.project_id AND x.run_id = v.run_id) AS run_metrics
  FROM modelhub.versions v JOIN modelhub.models m ON m.id = v.model_id
 WHERE v.project_id = %(project_id)s AND v.id = %(version_id)s;

-- set_deprecation --
UPDATE modelhub.versions SET deprecation = %(deprecation)s, updated_at = now() WHERE project_id = %(project_id)s AND id = %(version_id)s;
