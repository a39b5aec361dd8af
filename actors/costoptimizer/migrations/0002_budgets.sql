-- What a project may cost a period at most. Of its last review: since when that period is, and whether 0, 50, 80 or 100 per cent were reached.
CREATE TABLE costoptimizer.budgets (
    project_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    micro_usd bigint NOT NULL CHECK (micro_usd > 0),
    period text NOT NULL CHECK (period IN ('day', 'week', 'month')),
    since timestamptz NOT NULL DEFAULT 'epoch',
    reached int NOT NULL DEFAULT 0,
    set_by text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now()
);
SELECT cluster.wall_by_project('costoptimizer.budgets');

-- The budget of one project, or all of them for NULL, with what is spent now.
CREATE FUNCTION costoptimizer.review(project uuid)
RETURNS TABLE (project_id uuid, org_id uuid, micro_usd bigint, period text, since timestamptz, until timestamptz, spent_micro_usd bigint,
               reached int, since_before timestamptz, reached_before int) LANGUAGE sql STABLE AS $$
    SELECT b.project_id, b.org_id, b.micro_usd, b.period, now_in.since, date_add(now_in.since, ('1 ' || b.period)::interval, 'UTC'),
           spent.micro_usd,
           CASE WHEN spent.micro_usd >= b.micro_usd THEN 100 WHEN spent.micro_usd >= 0.8 * b.micro_usd THEN 80
                WHEN spent.micro_usd >= 0.5 * b.micro_usd THEN 50 ELSE 0 END,
           b.since, b.reached
      FROM costoptimizer.budgets b
     CROSS JOIN LATERAL (SELECT date_trunc(b.period, now(), 'UTC') AS since) now_in
     CROSS JOIN LATERAL (
            SELECT coalesce(sum(i.micro_usd), 0)::bigint AS micro_usd
              FROM costoptimizer.line_items(b.org_id, b.project_id, now_in.since, now()) i) spent
     WHERE project IS NULL OR b.project_id = project
$$;
