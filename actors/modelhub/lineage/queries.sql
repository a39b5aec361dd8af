-- insert_edges --
-- In order, so that two who tell the same wait for each other rather than lock each other out.
INSERT INTO modelhub.edges (project_id, source_kind, source_id, target_kind, target_id, relation, source_label, target_label)
SELECT %(project_id)s, e.*
  FROM unnest(%(source_kinds)s::text[], %(source_ids)s::text[], %(target_kinds)s::text[], %(target_ids)s::text[], %(relations)s::text[],
              %(source_labels)s::text[], %(target_labels)s::text[]) AS e
 ORDER BY 2, 3, 4, 5, 6
ON CONFLICT (project_id, source_kind, source_id, target_kind, target_id, relation) DO NOTHING;

-- list_sources --
SELECT DISTINCT source_id FROM modelhub.edges WHERE project_id = %(project_id)s AND source_kind = %(kind)s;

-- find_node --
-- By id, or else the newest that has this label.
SELECT kind, id, label FROM (
    (SELECT source_kind AS kind, source_id AS id, source_label AS label, created_at, 0 AS rank FROM modelhub.edges
      WHERE project_id = %(project_id)s AND source_kind = %(kind)s AND source_id = %(name)s LIMIT 1)
    UNION ALL
    (SELECT target_kind, target_id, target_label, created_at, 0 FROM modelhub.edges
      WHERE project_id = %(project_id)s AND target_kind = %(kind)s AND target_id = %(name)s LIMIT 1)
    UNION ALL
    (SELECT source_kind, source_id, source_label, created_at, 1 FROM modelhub.edges
      WHERE project_id = %(project_id)s AND source_kind = %(kind)s AND source_label = %(name)s ORDER BY created_at DESC LIMIT 1)
    UNION ALL
    (SELECT target_kind, target_id, target_label, created_at, 1 FROM modelhub.edges
      WHERE project_id = %(project_id)s AND target_kind = %(kind)s AND target_label = %(name)s ORDER BY created_at DESC LIMIT 1)
) AS found ORDER BY rank, created_at DESC LIMIT 1;

-- list_runs --
SELECT r.id, r.name, e.name AS experiment, r.job_id,
       coalesce((SELECT t.value FROM modelhub.run_tags t WHERE t.run_id = r.id AND t.key = 'mlflow.parentRunId'), '') AS parent
  FROM modelhub.runs r JOIN modelhub.experiments e ON e.id = r.experiment_id
 WHERE r.project_id = %(project_id)s AND r.id = ANY (%(ids)s) AND r.deleted_at IS NULL;

-- list_signatures --
SELECT v.id, v.signature FROM modelhub.versions v
 WHERE v.project_id = %(project_id)s AND v.id = ANY (%(ids)s) AND v.deleted_at IS NULL AND v.signature IS NOT NULL;

-- list_edges --
-- Those into and out of things of one kind, at most `limit` of each thing each way.
SELECT e.source_kind, e.source_id, e.source_label, e.target_kind, e.target_id, e.target_label, e.relation
  FROM unnest(%(ids)s::text[]) AS n (id)
 CROSS JOIN LATERAL ((SELECT * FROM modelhub.edges
                       WHERE project_id = %(project_id)s AND target_kind = %(kind)s AND target_id = n.id LIMIT %(limit)s)
                     UNION
                     (SELECT * FROM modelhub.edges
                       WHERE project_id = %(project_id)s AND source_kind = %(kind)s AND source_id = n.id LIMIT %(limit)s)) AS e
 ORDER BY e.source_kind, e.source_id, e.target_kind, e.target_id;

-- walk_edges --
-- Two walks in one statement, breadth first. A node is entered once a depth, so a cycle ends at the depth limit, and a node that
-- many lead to is left once. Both limits stop the walk itself: the recursion is read no further than `steps`, and no node, however
-- many came of it, gives more than `limit` edges. One edge of each node at the limit of depth says that there is more.
WITH RECURSIVE down (kind, id, depth) AS (
    SELECT s.kind, s.id, 0 FROM unnest(%(kinds)s::text[], %(ids)s::text[]) AS s (kind, id) WHERE %(direction)s <> 'up'
    UNION
    SELECT e.target_kind, e.target_id, w.depth + 1
      FROM down w JOIN modelhub.edges e ON e.project_id = %(project_id)s AND e.source_kind = w.kind AND e.source_id = w.id
     WHERE w.depth < %(depth)s
), up (kind, id, depth) AS (
    SELECT s.kind, s.id, 0 FROM unnest(%(kinds)s::text[], %(ids)s::text[]) AS s (kind, id) WHERE %(direction)s <> 'down'
    UNION
    SELECT e.source_kind, e.source_id, w.depth + 1
      FROM up w JOIN modelhub.edges e ON e.project_id = %(project_id)s AND e.target_kind = w.kind AND e.target_id = w.id
     WHERE w.depth < %(depth)s
), walked AS (
    (SELECT e.*, w.depth
       FROM (SELECT kind, id, min(depth) AS depth FROM (SELECT * FROM down LIMIT %(steps)s) AS n GROUP BY kind, id ORDER BY 3, 2) AS w
      CROSS JOIN LATERAL (SELECT * FROM modelhub.edges e
                           WHERE e.project_id = %(project_id)s AND e.source_kind = w.kind AND e.source_id = w.id
                           LIMIT CASE WHEN w.depth < %(depth)s THEN %(limit)s ELSE 1 END) AS e
      LIMIT %(limit)s)
    UNION ALL
    (SELECT e.*, w.depth
       FROM (SELECT kind, id, min(depth) AS depth FROM (SELECT * FROM up LIMIT %(steps)s) AS n GROUP BY kind, id ORDER BY 3, 2) AS w
      CROSS JOIN LATERAL (SELECT * FROM modelhub.edges e
                           WHERE e.project_id = %(project_id)s AND e.target_kind = w.kind AND e.target_id = w.id
                           LIMIT CASE WHEN w.depth < %(depth)s THEN %(limit)s ELSE 1 END) AS e
      LIMIT %(limit)s)
)
SELECT source_kind, source_id, source_label, target_kind, target_id, target_label, relation, min(depth) AS depth,
       (SELECT count(*) FROM (SELECT 1 FROM down LIMIT %(steps)s) AS n) >= %(steps)s
       OR (SELECT count(*) FROM (SELECT 1 FROM up LIMIT %(steps)s) AS n) >= %(steps)s AS stopped
  FROM walked
 GROUP BY 1, 2, 3, 4, 5, 6, 7
 ORDER BY 8, 1, 2, 4, 5
 LIMIT %(limit)s;

-- list_affected --
-- All that came of the starts, the nearest first: a node is entered once as surely reached and once as possibly, so cycles end, and the
-- recursion is read no further than `steps`. Not entered is a run that is FINISHED and is known to have read other parts of a start
-- only (`cleared`). One row more than `limit` says that there is more; one without a kind, that nothing was found.
WITH RECURSIVE reached (kind, id, sure) AS (
    (SELECT e.target_kind, e.target_id, %(sure)s
       FROM unnest(%(kinds)s::text[], %(ids)s::text[]) AS s (kind, id)
       JOIN modelhub.edges e ON e.project_id = %(project_id)s AND e.source_kind = s.kind AND e.source_id = s.id
      WHERE NOT (e.target_kind = 'run'
                 AND EXISTS (SELECT 1 FROM unnest(%(cleared_runs)s::uuid[], %(cleared_ids)s::text[]) AS c (run_id, source_id)
                               JOIN modelhub.runs r ON r.id = c.run_id AND r.project_id = %(project_id)s AND r.state = 'FINISHED'
                              WHERE c.run_id::text = e.target_id AND c.source_id = e.source_id))
     UNION ALL
     SELECT 'run', r.id::text, true FROM unnest(%(seen_runs)s::uuid[]) AS r (id))
    UNION
    SELECT e.target_kind, e.target_id, w.sure
      FROM reached w JOIN modelhub.edges e ON e.project_id = %(project_id)s AND e.source_kind = w.kind AND e.source_id = w.id
), walked AS (
    SELECT * FROM reached LIMIT %(steps)s
), found AS (
    SELECT kind, id, bool_or(sure) AS sure FROM walked WHERE kind = ANY(%(wanted)s::text[]) GROUP BY kind, id ORDER BY 3 DESC, 1, 2 LIMIT %(limit)s
)
SELECT f.kind, f.id, f.sure, coalesce(l.label, '') AS label, w.stopped
  FROM (SELECT count(*) >= %(steps)s AS stopped FROM walked) AS w
  LEFT JOIN found f ON true
  LEFT JOIN LATERAL (SELECT target_label AS label FROM modelhub.edges e
                      WHERE e.project_id = %(project_id)s AND e.target_kind = f.kind AND e.target_id = f.id LIMIT 1) AS l ON true
 ORDER BY f.sure DESC, f.kind, f.id;

-- list_descended --
-- Which of these things came of the starts, by what each of them came from: as quick as their own past is short, however much else
-- came of the starts. The same edges out of the starts count as in `list_affected`.
WITH RECURSIVE up (origin, kind, id) AS (
    SELECT t.id, %(kind)s::text, t.id FROM unnest(%(things)s::text[]) AS t (id)
    UNION
    SELECT w.origin, e.source_kind, e.source_id
      FROM up w JOIN modelhub.edges e ON e.project_id = %(project_id)s AND e.target_kind = w.kind AND e.target_id = w.id
), walked AS (
    SELECT * FROM up LIMIT %(steps)s
), found AS (
    SELECT w.origin, %(sure)s AS sure
      FROM walked w
      JOIN modelhub.edges e ON e.project_id = %(project_id)s AND e.target_kind = w.kind AND e.target_id = w.id
      JOIN unnest(%(kinds)s::text[], %(ids)s::text[]) AS s (kind, id) ON s.kind = e.source_kind AND s.id = e.source_id
     WHERE NOT (e.target_kind = 'run'
                AND EXISTS (SELECT 1 FROM unnest(%(cleared_runs)s::uuid[], %(cleared_ids)s::text[]) AS c (run_id, source_id)
                              JOIN modelhub.runs r ON r.id = c.run_id AND r.project_id = %(project_id)s AND r.state = 'FINISHED'
                             WHERE c.run_id::text = e.target_id AND c.source_id = e.source_id))
    UNION ALL
    SELECT w.origin, true FROM walked w JOIN unnest(%(seen_runs)s::uuid[]) AS r (id) ON w.kind = 'run' AND w.id = r.id::text
)
SELECT f.origin AS id, bool_or(f.sure) AS sure, w.stopped
  FROM (SELECT count(*) >= %(steps)s AS stopped FROM walked) AS w LEFT JOIN found f ON true
 GROUP BY f.origin, w.stopped;

-- list_imported --
-- Folders that were imported and lie at, around or below a place; few, and found by an index of their own.
SELECT DISTINCT e.source_id AS id, e.source_label AS label
  FROM modelhub.edges e
 WHERE e.project_id = %(project_id)s AND e.source_kind = 'dataset' AND e.relation = 'imported as'
   AND (starts_with(e.source_id || '/', %(place)s || '/') OR starts_with(%(place)s || '/', e.source_id || '/'));

-- list_overlapping --
-- Datasets that lie at, around or below a place, by whole folders.
SELECT DISTINCT d.id, d.label
  FROM (SELECT source_id AS id, source_label AS label FROM modelhub.edges WHERE project_id = %(project_id)s AND source_kind = 'dataset'
        UNION
        SELECT target_id, target_label FROM modelhub.edges WHERE project_id = %(project_id)s AND target_kind = 'dataset') AS d
 WHERE starts_with(d.id || '/', %(place)s || '/') OR starts_with(%(place)s || '/', d.id || '/');
