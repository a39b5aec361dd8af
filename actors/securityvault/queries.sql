-- create_organisation --
INSERT INTO securityvault.organisations (id, name) VALUES (%(id)s, %(name)s) RETURNING id, name, created_at;

-- find_organisation --
SELECT id, name, created_at FROM securityvault.organisations
 WHERE id::text = %(key)s OR name = %(key)s;

-- list_organisations --
SELECT id, name, created_at FROM securityvault.organisations
 WHERE %(before)s::uuid IS NULL OR id < %(before)s
 ORDER BY id DESC LIMIT %(limit)s;

-- create_project --
INSERT INTO securityvault.projects (id, org_id, name, description, rate_limit_per_minute)
VALUES (%(id)s, %(org_id)s, %(name)s, %(description)s, %(rate_limit_per_minute)s)
RETURNING id, org_id, name, description, rate_limit_per_minute, created_at, archived_at;

-- find_project --
SELECT id, org_id, name, description, rate_limit_per_minute, created_at, archived_at FROM securityvault.projects
 WHERE org_id = %(org_id)s AND (id::text = %(key)s OR name = %(key)s)
 ORDER BY id::text = %(key)s DESC LIMIT 1;

-- list_projects --
SELECT id, org_id, name, description, rate_limit_per_minute, created_at, archived_at FROM securityvault.projects
 WHERE org_id = %(org_id)s
   AND (%(only)s::uuid[] IS NULL OR id = ANY (%(only)s))
   AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC LIMIT %(limit)s;

-- archive_project --
UPDATE securityvault.projects SET archived_at = coalesce(archived_at, clock_timestamp())
 WHERE org_id = %(org_id)s AND id = %(id)s
RETURNING id, org_id, name, description, rate_limit_per_minute, created_at, archived_at;

-- create_account --
INSERT INTO securityvault.accounts (id, org_id, kind, name, password_hash, org_admin, operator)
VALUES (%(id)s, %(org_id)s, %(kind)s, %(name)s, %(password_hash)s, %(org_admin)s, %(operator)s)
RETURNING id, org_id, kind, name, org_admin, operator, created_at, deactivated_at;

-- find_account --
SELECT id, org_id, kind, name, org_admin, operator, created_at, deactivated_at FROM securityvault.accounts
 WHERE org_id = %(org_id)s AND (id::text = %(key)s OR name = %(key)s)
   AND (%(kind)s::text IS NULL OR kind = %(kind)s)
 ORDER BY id::text = %(key)s DESC LIMIT 1;

-- list_accounts --
SELECT id, org_id, kind, name, org_admin, operator, created_at, deactivated_at FROM securityvault.accounts
 WHERE org_id = %(org_id)s AND kind = %(kind)s
   AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC LIMIT %(limit)s;

-- deactivate_account --
UPDATE securityvault.accounts SET deactivated_at = coalesce(deactivated_at, clock_timestamp())
 WHERE org_id = %(org_id)s AND id = %(id)s
RETURNING id, org_id, kind, name, org_admin, operator, created_at, deactivated_at;

-- find_password --
SELECT a.id, a.org_id, a.kind, a.name, a.org_admin, a.operator, a.created_at, a.deactivated_at, a.password_hash
  FROM securityvault.accounts a JOIN securityvault.organisations o ON o.id = a.org_id
 WHERE o.name = %(organisation)s AND a.name = %(name)s AND a.kind = 'user' AND a.deactivated_at IS NULL;

-- set_password --
UPDATE securityvault.accounts SET password_hash = %(password_hash)s WHERE org_id = %(org_id)s AND id = %(id)s;

-- create_invitation --
INSERT INTO securityvault.invitations (token_sha256, org_id, account_id, expires_at)
VALUES (%(token_sha256)s, %(org_id)s, %(account_id)s, %(expires_at)s);

-- use_invitation --
UPDATE securityvault.invitations i SET used_at = clock_timestamp()
  FROM securityvault.accounts a
 WHERE i.token_sha256 = %(token_sha256)s AND i.used_at IS NULL AND i.expires_at > clock_timestamp()
   AND a.id = i.account_id AND a.deactivated_at IS NULL
RETURNING a.id, a.org_id, a.kind, a.name, a.org_admin, a.operator, a.created_at, a.deactivated_at;

-- put_member --
INSERT INTO securityvault.memberships (org_id, project_id, account_id, role)
VALUES (%(org_id)s, %(project_id)s, %(account_id)s, %(role)s)
ON CONFLICT (project_id, account_id) DO UPDATE SET role = excluded.role;

-- find_member --
SELECT m.project_id, m.account_id, a.name, a.kind, m.role, m.created_at
  FROM securityvault.memberships m JOIN securityvault.accounts a ON a.id = m.account_id
 WHERE m.org_id = %(org_id)s AND m.project_id = %(project_id)s AND m.account_id = %(account_id)s;

-- list_members --
SELECT m.project_id, m.account_id, a.name, a.kind, m.role, m.created_at
  FROM securityvault.memberships m JOIN securityvault.accounts a ON a.id = m.account_id
 WHERE m.org_id = %(org_id)s AND m.project_id = %(project_id)s
   AND (%(before)s::uuid IS NULL OR m.account_id < %(before)s)
 ORDER BY m.account_id DESC LIMIT %(limit)s;

-- delete_member --
DELETE FROM securityvault.memberships
 WHERE org_id = %(org_id)s AND project_id = %(project_id)s AND account_id = %(account_id)s
RETURNING account_id;

-- list_roles --
SELECT m.project_id, m.role
  FROM securityvault.memberships m
 WHERE m.org_id = %(org_id)s AND m.account_id = %(account_id)s;

-- create_key --
INSERT INTO securityvault.api_keys
       (id, org_id, project_id, account_id, name, grade, scopes, secret_hmac, rate_limit_per_minute, expires_at)
VALUES (%(id)s, %(org_id)s, %(project_id)s, %(account_id)s, %(name)s, %(grade)s, %(scopes)s, %(secret_hmac)s,
        %(rate_limit_per_minute)s, %(expires_at)s)
RETURNING id, org_id, project_id, account_id, name, grade, scopes, rate_limit_per_minute, created_at, expires_at, revoked_at, last_used_at;

-- find_key --
SELECT id, org_id, project_id, account_id, name, grade, scopes, rate_limit_per_minute, created_at, expires_at, revoked_at, last_used_at
  FROM securityvault.api_keys
 WHERE org_id = %(org_id)s
   AND (%(everywhere)s OR project_id = %(project_id)s)
   AND (id::text = %(key)s OR (name = %(key)s AND revoked_at IS NULL))
 ORDER BY id::text = %(key)s DESC, project_id = %(project_id)s DESC NULLS LAST LIMIT 1
   FOR UPDATE;

-- list_keys --
SELECT id, org_id, project_id, account_id, name, grade, scopes, rate_limit_per_minute, created_at, expires_at, revoked_at, last_used_at
  FROM securityvault.api_keys
 WHERE org_id = %(org_id)s AND (%(everywhere)s OR project_id = %(project_id)s)
   AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC LIMIT %(limit)s;

-- rotate_key --
UPDATE securityvault.api_keys SET secret_hmac = %(secret_hmac)s WHERE org_id = %(org_id)s AND id = %(id)s;

-- revoke_key --
UPDATE securityvault.api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE org_id = %(org_id)s AND id = %(id)s;

-- find_key_secret --
SELECT k.id, k.org_id, k.project_id, k.name, k.grade, k.scopes, k.secret_hmac, k.rate_limit_per_minute, k.expires_at,
       a.id AS account_id, a.org_admin, a.operator
  FROM securityvault.api_keys k JOIN securityvault.accounts a ON a.id = k.account_id AND a.org_id = k.org_id
 WHERE k.id = %(id)s AND k.revoked_at IS NULL AND a.deactivated_at IS NULL
   AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp());

-- touch_keys --
UPDATE securityvault.api_keys k SET last_used_at = used.at
  FROM unnest(%(ids)s::uuid[], %(times)s::timestamptz[]) AS used (id, at)
 WHERE k.id = used.id AND (k.last_used_at IS NULL OR k.last_used_at < used.at);

-- create_session --
INSERT INTO securityvault.sessions (id, org_id, account_id, client_ip, expires_at)
VALUES (%(id)s, %(org_id)s, %(account_id)s, %(client_ip)s, %(expires_at)s);

-- find_session --
SELECT id, org_id, account_id, client_ip, created_at, expires_at, refreshed_at, revoked_at FROM securityvault.sessions
 WHERE id = %(id)s;

-- find_session_account --
SELECT a.id, a.org_id, a.kind, a.name, a.org_admin, a.operator, a.created_at, a.deactivated_at
  FROM securityvault.sessions s JOIN securityvault.accounts a ON a.id = s.account_id AND a.org_id = s.org_id
 WHERE s.id = %(id)s AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp() AND a.deactivated_at IS NULL;

-- list_sessions --
SELECT id, org_id, account_id, client_ip, created_at, expires_at, refreshed_at, revoked_at FROM securityvault.sessions
 WHERE org_id = %(org_id)s AND account_id = %(account_id)s
   AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC LIMIT %(limit)s;

-- revoke_session --
UPDATE securityvault.sessions SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = %(id)s;

-- revoke_sessions --
UPDATE securityvault.sessions SET revoked_at = clock_timestamp()
 WHERE org_id = %(org_id)s AND account_id = %(account_id)s AND revoked_at IS NULL;

-- create_refresh_token --
INSERT INTO securityvault.refresh_tokens (token_sha256, org_id, session_id)
VALUES (%(token_sha256)s, %(org_id)s, %(session_id)s)
ON CONFLICT (token_sha256) DO NOTHING;

-- find_refresh_token --
SELECT s.id, s.org_id, s.account_id, s.client_ip, s.created_at, s.expires_at, s.refreshed_at, s.revoked_at,
       r.used_at, r.used_at > clock_timestamp() - make_interval(secs => %(grace_s)s) AS in_grace
  FROM securityvault.refresh_tokens r JOIN securityvault.sessions s ON s.id = r.session_id
 WHERE r.token_sha256 = %(token_sha256)s
   FOR UPDATE OF s, r;

-- was_used --
SELECT used_at IS NOT NULL AS used FROM securityvault.refresh_tokens WHERE token_sha256 = %(token_sha256)s;

-- use_refresh_token --
WITH used AS (
    UPDATE securityvault.refresh_tokens SET used_at = clock_timestamp() WHERE token_sha256 = %(token_sha256)s
)
UPDATE securityvault.sessions SET refreshed_at = clock_timestamp() WHERE id = %(session_id)s;

-- forget_sessions --
DELETE FROM securityvault.sessions WHERE expires_at < clock_timestamp() - interval '7 days';

-- put_job_grant --
INSERT INTO securityvault.job_grants AS known (job_id, org_id, project_id, account_id, role, epoch)
VALUES (%(job_id)s, %(org_id)s, %(project_id)s, %(account_id)s, %(role)s, %(epoch)s)
ON CONFLICT (job_id) DO UPDATE
   SET epoch = excluded.epoch, revoked_at = NULL, role = excluded.role, account_id = excluded.account_id
 WHERE known.org_id = excluded.org_id AND known.project_id = excluded.project_id
   AND (known.epoch < excluded.epoch OR (known.epoch = excluded.epoch AND known.revoked_at IS NULL))
RETURNING epoch;

-- find_job_grant --
SELECT g.job_id, g.org_id, g.project_id, g.account_id, g.role, g.epoch,
       coalesce(a.org_admin OR a.operator, true) AS everywhere
  FROM securityvault.job_grants g LEFT JOIN securityvault.accounts a ON a.id = g.account_id
 WHERE g.job_id = %(job_id)s AND g.revoked_at IS NULL AND a.deactivated_at IS NULL;

-- revoke_job_grant --
UPDATE securityvault.job_grants SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE job_id = %(job_id)s;

-- announce --
SELECT pg_notify('aidos_revoked', %(payload)s);

-- announce_seal --
SELECT pg_notify('aidos_seal', %(payload)s);

-- lease_requests --
WITH clock AS (
    SELECT floor(extract(epoch FROM clock_timestamp()) / %(window_s)s)::bigint AS window_start
)
INSERT INTO securityvault.rate_windows AS w (subject, window_start, used, granted, ends_at)
SELECT %(subject)s, window_start, least(%(count)s, %(limit)s), least(%(count)s, %(limit)s),
       to_timestamp((window_start + 1) * %(window_s)s)
  FROM clock
ON CONFLICT (subject, window_start) DO UPDATE
   SET granted = greatest(0, least(%(count)s, %(limit)s - w.used)),
       used = w.used + greatest(0, least(%(count)s, %(limit)s - w.used))
RETURNING w.window_start, w.granted, w.used, extract(epoch FROM w.ends_at - clock_timestamp())::float AS left_s;

-- return_requests --
UPDATE securityvault.rate_windows SET used = greatest(0, used - %(count)s)
 WHERE subject = %(subject)s AND window_start = %(window_start)s;

-- forget_windows --
DELETE FROM securityvault.rate_windows WHERE ends_at < clock_timestamp() - interval '2 minutes';

-- create_audit_head --
INSERT INTO securityvault.audit_heads (org_id, seq, hash) VALUES (%(org_id)s, 0, %(genesis)s) ON CONFLICT (org_id) DO NOTHING;

-- append_audit --
-- In one exchange, since the head stays locked until commit: what is hashed is spelled but for the number and the hash before (audit.spell).
WITH head AS (
    UPDATE securityvault.audit_heads
       SET seq = seq + 1,
           hash = sha256(%(before)s::bytea || convert_to((seq + 1)::text, 'UTF8') || %(between)s::bytea
                         || convert_to(encode(hash, 'hex') || '"]', 'UTF8'))
     WHERE org_id = %(org_id)s
    RETURNING org_id, seq, old.hash AS prev_hash, hash
)
INSERT INTO securityvault.audit_log
       (org_id, seq, at, actor, action, resource, project_id, client_ip, request_id, data, prev_hash, hash)
SELECT org_id, seq, %(at)s, %(actor)s, %(action)s, %(resource)s, %(project_id)s, %(client_ip)s, %(request_id)s, %(data)s, prev_hash, hash
  FROM head
RETURNING org_id, seq, hash;

-- find_audit_head --
SELECT org_id, seq, hash FROM securityvault.audit_heads WHERE org_id = %(org_id)s;

-- list_audit --
SELECT org_id, seq, at, actor, action, resource, project_id, client_ip, request_id, data, prev_hash, hash FROM securityvault.audit_log
 WHERE org_id = %(org_id)s AND (%(before)s::bigint IS NULL OR seq < %(before)s)
 ORDER BY seq DESC LIMIT %(limit)s;

-- scan_audit --
SELECT org_id, seq, at, actor, action, resource, project_id, client_ip, request_id, data, prev_hash, hash FROM securityvault.audit_log
 WHERE org_id = %(org_id)s AND seq > %(after)s
 ORDER BY seq LIMIT %(limit)s;

-- list_checkpoints --
SELECT org_id, seq, hash, at, kid, signature FROM securityvault.audit_checkpoints
 WHERE org_id = %(org_id)s ORDER BY seq;

-- list_unsealed --
SELECT h.org_id, h.seq, h.hash FROM securityvault.audit_heads h
 WHERE h.seq > coalesce((SELECT max(c.seq) FROM securityvault.audit_checkpoints c WHERE c.org_id = h.org_id), 0)
   AND (%(org_id)s::uuid IS NULL OR h.org_id = %(org_id)s);

-- create_checkpoint --
INSERT INTO securityvault.audit_checkpoints (org_id, seq, hash, at, kid, signature)
VALUES (%(org_id)s, %(seq)s, %(hash)s, %(at)s, %(kid)s, %(signature)s)
ON CONFLICT (org_id, seq) DO NOTHING;

-- put_secret --
INSERT INTO securityvault.secrets (id, org_id, project_id, name, set_by, key_id, wrapped_key, content)
VALUES (%(id)s, %(org_id)s, %(project_id)s, %(name)s, %(set_by)s, %(key_id)s, %(wrapped_key)s, %(content)s)
ON CONFLICT ON CONSTRAINT secret_name DO UPDATE
   SET version = secrets.version + 1, set_by = excluded.set_by, set_at = clock_timestamp(),
       key_id = excluded.key_id, wrapped_key = excluded.wrapped_key, content = excluded.content
RETURNING id, name, version, set_by, created_at, set_at, last_used_at;

-- list_secrets --
SELECT id, name, version, set_by, created_at, set_at, last_used_at FROM securityvault.secrets
 WHERE project_id = %(project_id)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC LIMIT %(limit)s;

-- delete_secret --
DELETE FROM securityvault.secrets WHERE project_id = %(project_id)s AND name = %(name)s RETURNING id;

-- list_sealed --
SELECT id, project_id, name, version, key_id, wrapped_key, content FROM securityvault.secrets
 WHERE project_id = %(project_id)s AND name = ANY (%(names)s);

-- touch_secrets --
UPDATE securityvault.secrets SET last_used_at = clock_timestamp()
 WHERE id = ANY (%(ids)s) AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '10 seconds');

-- list_wrapped_otherwise --
SELECT id, project_id, name, version, key_id, wrapped_key, content FROM securityvault.secrets
 WHERE key_id <> %(key_id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
 ORDER BY id LIMIT %(limit)s;

-- rewrap_secret --
UPDATE securityvault.secrets SET key_id = %(key_id)s, wrapped_key = %(wrapped_key)s WHERE id = %(id)s AND version = %(version)s;

-- lock_secret_keys --
SELECT pg_advisory_xact_lock(hashtext('securityvault.secrets'));

-- list_secret_keys --
SELECT DISTINCT key_id FROM securityvault.secrets;
