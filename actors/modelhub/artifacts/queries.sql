-- put_artifact --
-- A path that is written again stands for the new bytes; what was registered from the old ones has its own copy of them.
INSERT INTO modelhub.artifacts (id, project_id, owner_id, path, key, sha256, size_bytes, stored)
VALUES (%(id)s, %(project_id)s, %(owner_id)s, %(path)s, %(key)s, %(sha256)s, %(size_bytes)s, true)
ON CONFLICT (owner_id, path) DO UPDATE
   SET id = excluded.id, key = excluded.key, sha256 = excluded.sha256, size_bytes = excluded.size_bytes, stored = true, created_at = now();

-- find_file --
SELECT path, key, size_bytes, sha256 FROM modelhub.artifacts
 WHERE project_id = %(project_id)s AND owner_id = %(owner_id)s AND path = %(path)s AND stored
UNION ALL
SELECT path, key, size_bytes, sha256 FROM modelhub.version_files
 WHERE project_id = %(project_id)s AND version_id = %(owner_id)s AND path = %(path)s;

-- list_folder --
-- `prefix` is empty or ends with a slash. A folder is what has something below it.
WITH files AS (
    SELECT path, size_bytes FROM modelhub.artifacts
     WHERE project_id = %(project_id)s AND owner_id = %(owner_id)s AND stored AND starts_with(path, %(prefix)s)
    UNION ALL
    SELECT path, size_bytes FROM modelhub.version_files
     WHERE project_id = %(project_id)s AND version_id = %(owner_id)s AND starts_with(path, %(prefix)s)
), below AS (
    SELECT substr(path, length(%(prefix)s) + 1) AS path, size_bytes FROM files
)
SELECT split_part(path, '/', 1) AS name, CASE WHEN bool_or(path LIKE '%%/%%') THEN NULL ELSE max(size_bytes) END AS size_bytes
  FROM below GROUP BY 1 ORDER BY split_part(path, '/', 1) COLLATE "C"
 LIMIT %(limit)s OFFSET %(offset)s;

-- list_tree --
SELECT path, key, size_bytes, sha256 FROM modelhub.artifacts
 WHERE project_id = %(project_id)s AND owner_id = %(owner_id)s AND stored AND starts_with(path, %(prefix)s)
 ORDER BY path COLLATE "C"
 LIMIT %(limit)s;

-- delete_artifacts --
DELETE FROM modelhub.artifacts
 WHERE project_id = %(project_id)s AND owner_id = %(owner_id)s
   AND (path = %(path)s OR starts_with(path, %(path)s || '/'));

-- insert_upload --
INSERT INTO modelhub.uploads (project_id, owner_id, path, upload_id, key, parts)
VALUES (%(project_id)s, %(owner_id)s, %(path)s, %(upload_id)s, %(key)s, %(parts)s);

-- find_upload --
SELECT upload_id, key, parts FROM modelhub.uploads
 WHERE project_id = %(project_id)s AND owner_id = %(owner_id)s AND path = %(path)s AND upload_id = %(upload_id)s;

-- delete_upload --
DELETE FROM modelhub.uploads
 WHERE project_id = %(project_id)s AND owner_id = %(owner_id)s AND path = %(path)s AND upload_id = %(upload_id)s
RETURNING upload_id;
