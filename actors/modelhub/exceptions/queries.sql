-- insert_exception --
INSERT INTO modelhub.exceptions (id, project_id, version_id, finding, path, reason, author, author_id, created_at, expires_at, kid, signature)
VALUES (%(id)s, %(project_id)s, %(version_id)s, %(finding)s, %(path)s, %(reason)s, %(author)s, %(author_id)s, %(created_at)s, %(expires_at)s,
        %(kid)s, %(signature)s);

-- list_exceptions --
SELECT id, version_id, finding, path, reason, author, author_id, created_at, expires_at, kid, signature, revoked_by, revoked_at
  FROM modelhub.exceptions
 WHERE project_id = %(project_id)s AND version_id = %(version_id)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- revoke_exception --
UPDATE modelhub.exceptions SET revoked_by = coalesce(revoked_by, %(revoked_by)s), revoked_at = coalesce(revoked_at, now())
 WHERE project_id = %(project_id)s AND version_id = %(version_id)s AND id = %(id)s
RETURNING finding;
