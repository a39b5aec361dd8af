-- record_usage --
-- What is known stays: the first word about each end of a lease is the one that counts.
INSERT INTO costoptimizer.leases AS l
       (id, org_id, project_id, owner_kind, owner_id, owner_name, cpu, gpu, gpu_type, memory_gib, started_at, ended_at)
VALUES (%(lease_id)s, %(org_id)s, %(project_id)s, %(owner_kind)s, %(owner_id)s, %(owner_name)s, %(cpu)s, %(gpu)s, %(gpu_type)s, %(memory_gib)s,
        CASE WHEN %(change)s = 'opened' THEN %(at)s::timestamptz END, CASE WHEN %(change)s = 'closed' THEN %(at)s::timestamptz END)
ON CONFLICT (id) DO UPDATE
   SET started_at = coalesce(l.started_at, excluded.started_at), ended_at = coalesce(l.ended_at, excluded.ended_at)
 WHERE l.project_id = excluded.project_id;

-- sum_costs --
SELECT CASE WHEN %(group_by)s::text IN ('owner', 'kind') THEN l.owner_kind END AS owner_kind,
       CASE WHEN %(group_by)s::text = 'owner' THEN l.owner_id END AS owner_id,
       CASE WHEN %(group_by)s::text = 'day' THEN i.day END AS day,
       CASE WHEN %(group_by)s::text = 'owner' THEN max(l.owner_name) END AS owner_name,
       sum(i.micro_usd)::bigint AS micro_usd,
       coalesce(sum(i.amount * i.seconds) FILTER (WHERE i.resource = 'cpu'), 0)::float8 / 3600 AS cpu_hours,
       coalesce(sum(i.amount * i.seconds) FILTER (WHERE i.resource LIKE 'gpu%%'), 0)::float8 / 3600 AS gpu_hours,
       coalesce(sum(i.amount * i.seconds) FILTER (WHERE i.resource = 'memory_gib'), 0)::float8 / 3600 AS memory_gib_hours,
       bool_or(l.ended_at IS NULL) AS running,
       sum(sum(i.micro_usd)) OVER ()::bigint AS total_micro_usd,
       count(*) OVER () AS groups
  FROM costoptimizer.line_items(%(org_id)s, %(project_id)s, %(since)s, %(until)s) i
  JOIN costoptimizer.leases l ON l.id = i.lease_id
 WHERE l.project_id = %(project_id)s
   AND (%(owner_kind)s::text IS NULL OR (l.owner_kind = %(owner_kind)s AND l.owner_id = %(owner_id)s))
 GROUP BY 1, 2, 3
 ORDER BY 3 DESC NULLS LAST, micro_usd DESC, 1, 2
 LIMIT %(limit)s;

-- sum_owner_costs --
SELECT coalesce(sum(i.micro_usd), 0)::bigint AS micro_usd
  FROM costoptimizer.line_items(%(org_id)s, %(project_id)s, %(since)s, %(until)s) i
  JOIN costoptimizer.leases l ON l.id = i.lease_id
 WHERE l.project_id = %(project_id)s AND l.owner_kind = %(owner_kind)s AND l.owner_id = ANY(%(owner_ids)s);

-- list_lease_costs --
SELECT l.id AS lease_id, l.cpu::float8, l.gpu::float8, l.gpu_type, l.memory_gib::float8, l.started_at, l.ended_at, sum(i.micro_usd)::bigint AS micro_usd
  FROM costoptimizer.line_items(%(org_id)s, %(project_id)s, %(since)s, %(until)s) i
  JOIN costoptimizer.leases l ON l.id = i.lease_id
 WHERE l.project_id = %(project_id)s AND l.owner_kind = %(owner_kind)s AND l.owner_id = %(owner_id)s
 GROUP BY l.id
 ORDER BY l.started_at DESC, l.id
 LIMIT %(limit)s;

-- list_prices --
SELECT resource, unit, micro_usd, source, effective_from, created_by FROM costoptimizer.prices WHERE org_id = %(org_id)s
UNION ALL
SELECT resource, unit, micro_usd, source, NULL, NULL FROM costoptimizer.default_prices
 ORDER BY resource, effective_from DESC NULLS LAST
 LIMIT 5000;

-- insert_price --
INSERT INTO costoptimizer.prices AS p (id, org_id, resource, unit, micro_usd, source, effective_from, created_by)
VALUES (%(id)s, %(org_id)s, %(resource)s, %(unit)s, %(micro_usd)s, %(source)s, %(effective_from)s, %(created_by)s)
ON CONFLICT (org_id, resource, effective_from) DO UPDATE SET micro_usd = excluded.micro_usd, source = excluded.source, created_by = excluded.created_by
RETURNING resource, unit, micro_usd, source, effective_from, created_by;

-- set_budget --
INSERT INTO costoptimizer.budgets (project_id, org_id, micro_usd, period, set_by)
VALUES (%(project_id)s, %(org_id)s, %(micro_usd)s, %(period)s, %(set_by)s)
ON CONFLICT (project_id) DO UPDATE
   SET micro_usd = excluded.micro_usd, period = excluded.period, since = 'epoch', reached = 0, set_by = excluded.set_by, set_at = now();

-- delete_budget --
DELETE FROM costoptimizer.budgets WHERE project_id = %(project_id)s RETURNING 1;

-- find_budget --
SELECT * FROM costoptimizer.review(%(project_id)s);

-- review_budgets --
-- Of two reviews at once the later one finds the row changed, and returns nothing.
UPDATE costoptimizer.budgets b SET since = r.since, reached = r.reached
  FROM costoptimizer.review(%(project_id)s) r
 WHERE b.project_id = r.project_id AND b.since = r.since_before AND b.reached = r.reached_before
   AND (r.since, r.reached) IS DISTINCT FROM (r.since_before, r.reached_before)
RETURNING r.*;
