CREATE SCHEMA costoptimizer;

-- The platform's own prices, for everybody; no role may write them, a migration does.
CREATE TABLE costoptimizer.default_prices (
    resource text PRIMARY KEY,
    unit text NOT NULL,
    micro_usd bigint NOT NULL CHECK (micro_usd >= 0),
    source text NOT NULL
);
INSERT INTO costoptimizer.default_prices (resource, unit, micro_usd, source) VALUES
    ('cpu', 'vCPU hour', 40000, 'AI-DOS default of 2026-11-01: order of magnitude of on-demand list prices; set your own'),
    ('memory_gib', 'GiB hour', 5000, 'AI-DOS default of 2026-11-01: order of magnitude of on-demand list prices; set your own'),
    ('gpu', 'GPU hour', 2000000, 'AI-DOS default of 2026-11-01: a GPU of no known type; set your own'),
    ('gpu:t4', 'GPU hour', 400000, 'AI-DOS default of 2026-11-01: order of magnitude of on-demand list prices; set your own'),
    ('gpu:l4', 'GPU hour', 800000, 'AI-DOS default of 2026-11-01: order of magnitude of on-demand list prices; set your own'),
    ('gpu:a100', 'GPU hour', 2500000, 'AI-DOS default of 2026-11-01: order of magnitude of on-demand list prices; set your own'),
    ('gpu:h100', 'GPU hour', 4000000, 'AI-DOS default of 2026-11-01: order of magnitude of on-demand list prices; set your own'),
    ('gpu:h200', 'GPU hour', 5000000, 'AI-DOS default of 2026-11-01: order of magnitude of on-demand list prices; set your own'),
    ('storage_gib', 'GiB month', 23000, 'AI-DOS default of 2026-11-01: order of magnitude of object storage list prices; set your own');
SELECT cluster.wall('costoptimizer.default_prices', 'true');
REVOKE INSERT, UPDATE, DELETE ON costoptimizer.default_prices FROM aidos_app, aidos_platform;

-- Rows are only added: what was used keeps the price that was in force.
CREATE TABLE costoptimizer.prices (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    resource text NOT NULL,
    unit text NOT NULL,
    micro_usd bigint NOT NULL CHECK (micro_usd >= 0),
    source text NOT NULL,
    effective_from timestamptz NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT prices_effective UNIQUE (org_id, resource, effective_from)
);
SELECT cluster.wall_by_org('costoptimizer.prices');

-- One row a lease, whichever of its two events comes first, and however often.
CREATE TABLE costoptimizer.leases (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    owner_kind text NOT NULL,
    owner_id text NOT NULL,
    owner_name text NOT NULL,
    cpu numeric NOT NULL,
    gpu numeric NOT NULL,
    gpu_type text NOT NULL,
    memory_gib numeric NOT NULL,
    started_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX leases_time ON costoptimizer.leases (project_id, started_at);
CREATE INDEX leases_owner ON costoptimizer.leases (project_id, owner_kind, owner_id);
SELECT cluster.wall_by_project('costoptimizer.leases');

-- What a project used between two moments, as whole micro-dollars a lease, resource, UTC day and price: every sum is a sum of
-- these, so all groupings of one period agree to the last micro-dollar. A lease that still runs counts up to now.
CREATE FUNCTION costoptimizer.line_items(org uuid, project uuid, since timestamptz, until timestamptz)
RETURNS TABLE (lease_id uuid, resource text, day date, amount numeric, seconds numeric, micro_usd bigint) LANGUAGE sql STABLE AS $$
    WITH known AS (
        SELECT p.resource, p.micro_usd, '-infinity'::timestamptz AS effective_from FROM costoptimizer.default_prices p
        UNION ALL
        SELECT p.resource, p.micro_usd, p.effective_from FROM costoptimizer.prices p WHERE p.org_id = org
    ), book AS (
        SELECT k.resource, k.micro_usd, k.effective_from,
               lead(k.effective_from, 1, 'infinity') OVER (PARTITION BY k.resource ORDER BY k.effective_from) AS effective_to
          FROM known k
    ), spans AS (
        SELECT l.*, greatest(l.started_at, since) AS span_from, least(coalesce(l.ended_at, now()), until) AS span_to
          FROM costoptimizer.leases l
         WHERE l.project_id = project AND l.started_at < until AND (l.ended_at IS NULL OR l.ended_at > since)
    ), amounts AS (
        SELECT s.id, s.span_from, s.span_to, a.resource, a.amount
          FROM spans s CROSS JOIN LATERAL (VALUES
               ('cpu', s.cpu),
               ('memory_gib', s.memory_gib),
               (CASE WHEN EXISTS (SELECT FROM book WHERE book.resource = 'gpu:' || s.gpu_type) THEN 'gpu:' || s.gpu_type ELSE 'gpu' END, s.gpu)
          ) AS a (resource, amount)
         WHERE a.amount > 0 AND s.span_to > s.span_from
    ), pieces AS (
        SELECT a.id, a.resource, a.amount, b.micro_usd, (d.start AT TIME ZONE 'UTC')::date AS day,
               extract(epoch FROM least(a.span_to, b.effective_to, d.start + interval '24 hours')
                                  - greatest(a.span_from, b.effective_from, d.start)) AS seconds
          FROM amounts a
          JOIN book b ON b.resource = a.resource AND b.effective_from < a.span_to AND b.effective_to > a.span_from
         CROSS JOIN LATERAL generate_series(date_trunc('day', a.span_from, 'UTC'), a.span_to, interval '1 day', 'UTC') AS d (start)
    )
    SELECT p.id, p.resource, p.day, p.amount, p.seconds, round(p.amount * p.micro_usd * p.seconds / 3600)::bigint
      FROM pieces p WHERE p.seconds > 0
$$;
