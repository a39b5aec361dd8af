-- insert_endpoint --
INSERT INTO deployengine.endpoints
       (id, org_id, project_id, name, route, model, version, model_version_id, replicas, cpus, state, traceparent, created_by)
VALUES (%(id)s, %(org_id)s, %(project_id)s, %(name)s, %(route)s, %(model)s, %(version)s, %(model_version_id)s, %(replicas)s,
        %(cpus)s, 'PENDING', %(traceparent)s, %(created_by)s)
RETURNING id, org_id, project_id, name, route, model, version, model_version_id, replicas, cpus, state,
          coalesce(nullif(reason, ''), last_error, '') AS reason, generation, deployed_generation, lease_id, traceparent, created_by, created_at, updated_at, attempts;

-- find_endpoint --
SELECT id, org_id, project_id, name, route, model, version, model_version_id, replicas, cpus, state,
       coalesce(nullif(reason, ''), last_error, '') AS reason, generation, deployed_generation, lease_id, traceparent, created_by, created_at, updated_at, attempts
  FROM deployengine.endpoints
 WHERE project_id = %(project_id)s AND (name = %(name)s OR id::text = %(name)s)
 ORDER BY state = 'DELETED', id DESC
 LIMIT 1;

-- list_endpoints --
SELECT id, org_id, project_id, name, route, model, version, model_version_id, replicas, cpus, state,
       coalesce(nullif(reason, ''), last_error, '') AS reason, generation, deployed_generation, lease_id, traceparent, created_by, created_at, updated_at, attempts
  FROM deployengine.endpoints
 WHERE project_id = %(project_id)s
   AND state <> 'DELETED'
   AND (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- update_endpoint --
UPDATE deployengine.endpoints
   SET model = %(model)s, version = %(version)s, model_version_id = %(model_version_id)s, replicas = %(replicas)s, cpus = %(cpus)s,
       state = 'PENDING', reason = '', generation = generation + 1, attempts = 0, last_error = NULL, next_attempt_at = now(), updated_at = now(),
       lock_token = NULL, locked_until = NULL, traceparent = coalesce(%(traceparent)s, traceparent)
 WHERE id = %(id)s AND project_id = %(project_id)s AND state NOT IN ('DELETING', 'DELETED')
RETURNING id, org_id, project_id, name, route, model, version, model_version_id, replicas, cpus, state,
          coalesce(nullif(reason, ''), last_error, '') AS reason, generation, deployed_generation, lease_id, traceparent, created_by, created_at, updated_at, attempts;

-- start_deleting --
UPDATE deployengine.endpoints
   SET state = 'DELETING', reason = '', generation = generation + 1, attempts = 0, last_error = NULL, next_attempt_at = now(), updated_at = now(),
       lock_token = NULL, locked_until = NULL, traceparent = coalesce(%(traceparent)s, traceparent)
 WHERE id = %(id)s AND project_id = %(project_id)s AND state NOT IN ('DELETING', 'DELETED')
RETURNING id, org_id, project_id, name, route, model, version, model_version_id, replicas, cpus, state,
          coalesce(nullif(reason, ''), last_error, '') AS reason, generation, deployed_generation, lease_id, traceparent, created_by, created_at, updated_at, attempts;

-- insert_deployment --
INSERT INTO deployengine.deployments (project_id, endpoint_id, generation, model, version, model_version_id)
VALUES (%(project_id)s, %(endpoint_id)s, %(generation)s, %(model)s, %(version)s, %(model_version_id)s);

-- mark_ready --
UPDATE deployengine.deployments SET ready_at = coalesce(ready_at, now()) WHERE endpoint_id = %(endpoint_id)s AND generation = %(generation)s;

-- find_deployment --
SELECT e.name AS endpoint, d.endpoint_id, d.generation, d.model, d.version, d.model_version_id, d.ready_at IS NOT NULL AS ready
  FROM deployengine.deployments d JOIN deployengine.endpoints e ON e.id = d.endpoint_id
 WHERE d.project_id = %(project_id)s AND e.project_id = %(project_id)s AND d.endpoint_id = %(endpoint_id)s AND d.generation = %(generation)s;

-- list_live --
-- Of each endpoint the generation that was ready last, which answers until a newer one is; and that newer one, while it is being made.
SELECT e.name AS endpoint, d.endpoint_id, d.generation, d.model, d.version, d.model_version_id, d.ready_at IS NOT NULL AS ready
  FROM deployengine.endpoints e JOIN deployengine.deployments d ON d.endpoint_id = e.id
 WHERE e.project_id = %(project_id)s AND d.project_id = %(project_id)s AND e.state <> 'DELETED'
   AND (d.generation = (SELECT max(generation) FROM deployengine.deployments r WHERE r.endpoint_id = e.id AND r.ready_at IS NOT NULL)
        OR d.generation = e.generation AND e.state IN ('PENDING', 'DEPLOYING'))
 ORDER BY e.name, d.generation;

-- count_endpoints --
SELECT state, count(*) AS endpoints
  FROM deployengine.endpoints
 WHERE state <> 'DELETED'
 GROUP BY state;

-- claim_endpoint --
UPDATE deployengine.endpoints AS claimed
   SET lock_token = %(token)s, locked_until = clock_timestamp() + make_interval(secs => %(lock_s)s),
       state = CASE WHEN claimed.state = 'PENDING' THEN 'DEPLOYING' ELSE claimed.state END
 WHERE claimed.id IN (
        SELECT id FROM deployengine.endpoints
         WHERE state IN ('PENDING', 'DEPLOYING', 'READY', 'DELETING')
           AND next_attempt_at <= clock_timestamp()
           AND (locked_until IS NULL OR locked_until < clock_timestamp())
         ORDER BY state = 'READY', next_attempt_at
         LIMIT %(limit)s
           FOR UPDATE SKIP LOCKED)
RETURNING id, org_id, project_id, name, route, model, version, model_version_id, replicas, cpus, state,
          coalesce(nullif(reason, ''), last_error, '') AS reason, generation, deployed_generation, lease_id, traceparent, created_by, created_at, updated_at, attempts;

-- apply_endpoint --
UPDATE deployengine.endpoints
   SET state = %(state)s, reason = %(reason)s, deployed_generation = %(generation)s, lease_id = %(lease_id)s,
       attempts = 0, last_error = NULL, lock_token = NULL, locked_until = NULL,
       updated_at = CASE WHEN state = %(state)s THEN updated_at ELSE now() END,
       next_attempt_at = clock_timestamp() + make_interval(secs => %(again_s)s)
 WHERE id = %(id)s AND lock_token = %(token)s AND generation = %(generation)s
RETURNING id;
