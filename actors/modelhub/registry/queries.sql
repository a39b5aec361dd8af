-- rename_model --
UPDATE modelhub.models SET name = %(new_name)s, updated_at = now()
 WHERE project_id = %(project_id)s AND name = %(name)s AND deleted_at IS NULL
RETURNING id;

-- describe_model --
UPDATE modelhub.models SET description = %(description)s, updated_at = now()
 WHERE project_id = %(project_id)s AND name = %(name)s AND deleted_at IS NULL
RETURNING id;

-- set_model_tags --
INSERT INTO modelhub.model_tags (project_id, model_id, key, value)
SELECT %(project_id)s, %(id)s, key, value FROM unnest(%(keys)s::text[], %(values)s::text[]) AS a (key, value) ORDER BY key
ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value;

-- delete_model_tag --
DELETE FROM modelhub.model_tags WHERE project_id = %(project_id)s AND model_id = %(id)s AND key = %(key)s;

-- keep_apart --
UPDATE modelhub.versions SET state = 'QUARANTINED', reason = %(reason)s, findings = %(findings)s
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- update_version --
UPDATE modelhub.versions SET description = coalesce(%(description)s, description), card = coalesce(%(card)s, card), stage = coalesce(%(stage)s, stage), updated_at = now()
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- archive_versions --
UPDATE modelhub.versions SET stage = 'Archived', updated_at = now()
 WHERE project_id = %(project_id)s AND model_id = %(model_id)s AND stage = %(stage)s AND id <> %(id)s AND deleted_at IS NULL;

-- set_version_tags --
INSERT INTO modelhub.version_tags (project_id, version_id, key, value)
SELECT %(project_id)s, %(id)s, key, value FROM unnest(%(keys)s::text[], %(values)s::text[]) AS a (key, value) ORDER BY key
ON CONFLICT (version_id, key) DO UPDATE SET value = excluded.value;

-- delete_version_tag --
DELETE FROM modelhub.version_tags WHERE project_id = %(project_id)s AND version_id = %(id)s AND key = %(key)s;
