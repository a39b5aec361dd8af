-- insert_source --
INSERT INTO dataforge.read_sources (project_id, sha256, unit, size)
VALUES (%(project_id)s, %(sha256)s, %(unit)s, %(size)s)
ON CONFLICT (project_id, sha256) DO NOTHING;

-- find_source --
SELECT s.sha256, s.unit, s.size,
       coalesce((SELECT sum(upper(f.ordinals) - lower(f.ordinals)) FROM dataforge.read_files f
                  WHERE f.project_id = s.project_id AND f.source = s.sha256), 0)::bigint AS described
  FROM dataforge.read_sources s
 WHERE s.project_id = %(project_id)s AND s.sha256 = %(sha256)s;

-- insert_files --
INSERT INTO dataforge.read_files (project_id, source, ordinals, sha256, path)
SELECT %(project_id)s, %(source)s, int8range(f.first, f.first + f.rows), f.sha256, f.path
  FROM unnest(%(firsts)s::bigint[], %(rows)s::bigint[], %(sha256s)s::bytea[], %(paths)s::text[]) AS f (first, rows, sha256, path)
 WHERE f.rows > 0
ON CONFLICT (project_id, source, ordinals) DO NOTHING;

-- add_ordinals --
-- Ranges are joined, so what is sent twice, or by several workers at once, is recorded once.
INSERT INTO dataforge.reads AS r (project_id, run_id, source, dataset, commit_id, ordinals)
SELECT %(project_id)s, %(run_id)s, %(source)s, %(dataset)s, %(commit_id)s, range_agg(int8range(t.first, t.last))
  FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS t (first, last)
ON CONFLICT (project_id, run_id, source, commit_id)
DO UPDATE SET ordinals = r.ordinals + excluded.ordinals, last_at = now()
RETURNING (r.xmax = 0) AS inserted;

-- list_reads_of_run --
WITH page AS (
    SELECT r.run_id, r.dataset, r.commit_id, r.source, s.unit, f.path, f.sha256, f.ordinals AS file, r.ordinals, r.first_at, r.last_at
      FROM dataforge.reads r
      JOIN dataforge.read_sources s ON s.project_id = r.project_id AND s.sha256 = r.source
      JOIN dataforge.read_files f ON f.project_id = r.project_id AND f.source = r.source AND f.ordinals && r.ordinals
     WHERE r.project_id = %(project_id)s AND r.run_id = %(run_id)s
       AND (%(commit_id)s::uuid IS NULL OR (r.commit_id, r.source, lower(f.ordinals)) > (%(commit_id)s, %(source)s, %(first)s))
     ORDER BY r.commit_id, r.source, lower(f.ordinals)
     LIMIT %(limit)s
)
SELECT p.run_id, p.dataset, p.commit_id, p.source, p.unit, p.path, p.sha256, lower(p.file) AS first, p.first_at, p.last_at,
       upper(p.file) - lower(p.file) AS rows,
       (SELECT sum(upper(part) - lower(part)) FROM unnest(p.ordinals * p.file::int8multirange) AS part)::bigint AS rows_read
  FROM page p
 ORDER BY p.commit_id, p.source, lower(p.file);

-- list_runs_that_read --
-- By the contents' index to the sources that hold it, by the sources' index to the runs, newest first. What a run has read is
-- long and is not carried through the sort.
WITH page AS (
    SELECT DISTINCT ON (r.run_id) r.run_id, r.commit_id, r.source, s.unit, f.path, f.sha256, f.ordinals AS file
      FROM dataforge.read_files f
      JOIN dataforge.read_sources s ON s.project_id = f.project_id AND s.sha256 = f.source
      JOIN dataforge.reads r ON r.project_id = f.project_id AND r.source = f.source
     WHERE f.project_id = %(project_id)s AND f.sha256 = %(sha256)s
       AND (%(before)s::uuid IS NULL OR r.run_id < %(before)s)
       AND CASE WHEN %(row)s::bigint IS NULL OR s.unit = 'file' THEN r.ordinals && f.ordinals
                ELSE lower(f.ordinals) + %(row)s < upper(f.ordinals) AND r.ordinals @> lower(f.ordinals) + %(row)s END
     ORDER BY r.run_id DESC, r.last_at DESC, lower(f.ordinals)
     LIMIT %(limit)s
)
SELECT p.run_id, r.dataset, p.commit_id, p.source, p.unit, p.path, p.sha256, lower(p.file) AS first, r.first_at, r.last_at,
       upper(p.file) - lower(p.file) AS rows,
       (SELECT sum(upper(part) - lower(part)) FROM unnest(r.ordinals * p.file::int8multirange) AS part)::bigint AS rows_read
  FROM page p
  JOIN dataforge.reads r ON r.project_id = %(project_id)s AND r.run_id = p.run_id AND r.source = p.source AND r.commit_id = p.commit_id
 ORDER BY p.run_id DESC;

-- list_readers --
-- By the content's index and by the commits'. Where a source is not yet described to its end, nobody can say what was not read.
WITH held AS (
    SELECT DISTINCT source FROM dataforge.read_files WHERE project_id = %(project_id)s AND sha256 = %(sha256)s
), chosen AS (
    SELECT r.run_id, r.commit_id, r.source, r.ordinals FROM held h JOIN dataforge.reads r ON r.project_id = %(project_id)s AND r.source = h.source
    UNION
    SELECT run_id, commit_id, source, ordinals FROM dataforge.reads WHERE project_id = %(project_id)s AND commit_id = ANY(%(commit_ids)s)
), described AS (
    SELECT s.sha256, s.size <= coalesce((SELECT sum(upper(f.ordinals) - lower(f.ordinals)) FROM dataforge.read_files f
                                          WHERE f.project_id = s.project_id AND f.source = s.sha256), 0) AS complete
      FROM dataforge.read_sources s
     WHERE s.project_id = %(project_id)s AND s.sha256 IN (SELECT source FROM chosen)
)
SELECT c.run_id, c.commit_id, bool_and(d.complete) AS complete,
       bool_or(EXISTS (SELECT 1 FROM dataforge.read_files f
                        WHERE f.project_id = %(project_id)s AND f.sha256 = %(sha256)s AND f.source = c.source AND f.ordinals && c.ordinals)) AS saw
  FROM chosen c JOIN described d ON d.sha256 = c.source
 GROUP BY c.run_id, c.commit_id;

-- list_files_read --
SELECT r.run_id, r.commit_id, f.path, f.sha256
  FROM unnest(%(run_ids)s::uuid[]) AS asked (run_id)
 CROSS JOIN LATERAL (
    SELECT r.run_id, r.commit_id, r.source, r.ordinals FROM dataforge.reads r
     WHERE r.project_id = %(project_id)s AND r.run_id = asked.run_id
) AS r
 CROSS JOIN LATERAL (
    SELECT f.path, f.sha256 FROM dataforge.read_files f
     WHERE f.project_id = %(project_id)s AND f.source = r.source AND f.ordinals && r.ordinals
     ORDER BY lower(f.ordinals) LIMIT %(limit)s
) AS f;
