-- create_labelling --
INSERT INTO dataforge.labellings
       (project_id, id, name, dataset_id, commit_id, questions, instructions, overlap, review, consensus, gold_every, most_skips, lease_s,
        created_by)
VALUES (%(project_id)s, %(id)s, %(name)s, %(dataset_id)s, %(commit_id)s, %(questions)s, %(instructions)s, %(overlap)s, %(review)s,
        %(consensus)s, %(gold_every)s, %(most_skips)s, %(lease_s)s, %(created_by)s);

-- find_labelling --
SELECT l.*, d.name AS dataset
  FROM dataforge.labellings l JOIN dataforge.datasets d ON d.project_id = l.project_id AND d.id = l.dataset_id
 WHERE l.project_id = %(project_id)s AND l.name = %(name)s;

-- list_labellings --
SELECT l.*, d.name AS dataset
  FROM dataforge.labellings l JOIN dataforge.datasets d ON d.project_id = l.project_id AND d.id = l.dataset_id
 WHERE l.project_id = %(project_id)s AND (%(before)s::uuid IS NULL OR l.id < %(before)s)
 ORDER BY l.id DESC
 LIMIT %(limit)s;

-- update_labelling --
UPDATE dataforge.labellings
   SET instructions = %(instructions)s, review = %(review)s, consensus = %(consensus)s, gold_every = %(gold_every)s,
       most_skips = %(most_skips)s, lease_s = %(lease_s)s, item_order = %(item_order)s,
       closed_at = CASE WHEN %(closed)s THEN coalesce(closed_at, clock_timestamp()) END
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- delete_labelling --
DELETE FROM dataforge.labellings WHERE project_id = %(project_id)s AND id = %(id)s;

-- insert_tasks --
INSERT INTO dataforge.label_tasks (project_id, labelling_id, overlap, id, ordinal, path, row_number, width, height, data)
SELECT %(project_id)s, %(labelling_id)s, %(overlap)s, *
  FROM unnest(%(ids)s::uuid[], %(ordinals)s::int[], %(paths)s::text[], %(rows)s::int[], %(widths)s::int[], %(heights)s::int[],
                                                       %(data)s::jsonb[]);

-- enter_annotator --
INSERT INTO dataforge.label_annotators AS known (project_id, labelling_id, annotator_id, annotator)
SELECT %(project_id)s, %(labelling_id)s, %(annotator_id)s,
       CASE WHEN EXISTS (SELECT FROM dataforge.label_annotators o
                          WHERE o.project_id = %(project_id)s AND o.labelling_id = %(labelling_id)s AND o.annotator = %(annotator)s)
            THEN %(annotator)s || '-' || right(%(annotator_id)s::text, 12) ELSE %(annotator)s END
ON CONFLICT (project_id, labelling_id, annotator_id) DO UPDATE SET seen_at = clock_timestamp()
RETURNING known.annotator_id, known.annotator, known.asked, known.gold_asked, known.gold_right;

-- return_expired --
WITH lost AS (
    SELECT s.task_id, s.annotator_id
      FROM dataforge.label_slots s
      JOIN dataforge.label_tasks t ON t.project_id = s.project_id AND t.id = s.task_id
     WHERE s.project_id = %(project_id)s AND s.labelling_id = %(labelling_id)s
       AND s.state = 'leased' AND s.leased_until <= clock_timestamp()
       FOR UPDATE OF t, s SKIP LOCKED
), given_back AS (
    UPDATE dataforge.label_slots s SET state = 'returned', leased_until = NULL
      FROM lost
     WHERE s.project_id = %(project_id)s AND s.task_id = lost.task_id AND s.annotator_id = lost.annotator_id
)
UPDATE dataforge.label_tasks t SET taken = taken - freed.slots
  FROM (SELECT task_id, count(*) AS slots FROM lost GROUP BY task_id) freed
 WHERE t.project_id = %(project_id)s AND t.id = freed.task_id
RETURNING t.id;

-- find_leased --
SELECT task_id
  FROM dataforge.label_slots
 WHERE project_id = %(project_id)s AND labelling_id = %(labelling_id)s AND annotator_id = %(annotator_id)s
   AND state = 'leased' AND leased_until > clock_timestamp()
 ORDER BY started_at
 LIMIT 1;

-- pick_task --
SELECT t.id
  FROM dataforge.label_tasks t
 WHERE t.project_id = %(project_id)s AND t.labelling_id = %(labelling_id)s
   AND t.state = 'open' AND t.gold IS NULL AND t.taken + t.reserved < t.overlap
   AND NOT EXISTS (SELECT FROM dataforge.label_slots s
                    WHERE s.project_id = t.project_id AND s.task_id = t.id AND s.annotator_id = %(annotator_id)s AND s.state <> 'returned')
 ORDER BY t.priority DESC, t.ordinal
 LIMIT 1
   FOR UPDATE OF t SKIP LOCKED;

-- pick_assigned --
SELECT t.id
  FROM dataforge.label_assignments a JOIN dataforge.label_tasks t ON t.project_id = a.project_id AND t.id = a.task_id
 WHERE a.project_id = %(project_id)s AND a.labelling_id = %(labelling_id)s AND a.annotator_id = %(annotator_id)s
   AND t.state = 'open' AND t.gold IS NULL AND t.taken < t.overlap
   AND NOT EXISTS (SELECT FROM dataforge.label_slots s
                    WHERE s.project_id = t.project_id AND s.task_id = t.id AND s.annotator_id = %(annotator_id)s AND s.state <> 'returned')
 ORDER BY t.priority DESC, t.ordinal
 LIMIT 1
   FOR UPDATE OF t;

-- await_task --
SELECT t.id
  FROM dataforge.label_tasks t
 WHERE t.project_id = %(project_id)s AND t.labelling_id = %(labelling_id)s
   AND t.state = 'open' AND t.gold IS NULL AND t.taken + t.reserved < t.overlap
   AND NOT EXISTS (SELECT FROM dataforge.label_slots s
                    WHERE s.project_id = t.project_id AND s.task_id = t.id AND s.annotator_id = %(annotator_id)s AND s.state <> 'returned')
 ORDER BY t.priority DESC, t.ordinal
 LIMIT 1
   FOR UPDATE OF t;

-- pick_gold --
SELECT t.id
  FROM dataforge.label_tasks t
 WHERE t.project_id = %(project_id)s AND t.labelling_id = %(labelling_id)s AND t.gold IS NOT NULL
   AND NOT EXISTS (SELECT FROM dataforge.label_slots s
                    WHERE s.project_id = t.project_id AND s.task_id = t.id AND s.annotator_id = %(annotator_id)s AND s.state <> 'returned')
 ORDER BY hashtextextended(t.id::text || %(annotator_id)s::text, 0)
 LIMIT 1
   FOR UPDATE OF t SKIP LOCKED;

-- take_slot --
WITH raised AS (
    UPDATE dataforge.label_tasks SET taken = taken + 1 WHERE project_id = %(project_id)s AND id = %(task_id)s
), asked AS (
    UPDATE dataforge.label_annotators SET asked = asked + 1
     WHERE project_id = %(project_id)s AND labelling_id = %(labelling_id)s AND annotator_id = %(annotator_id)s
)
INSERT INTO dataforge.label_slots (project_id, labelling_id, task_id, annotator_id, state, leased_until)
VALUES (%(project_id)s, %(labelling_id)s, %(task_id)s, %(annotator_id)s, 'leased', clock_timestamp() + make_interval(secs => %(lease_s)s))
ON CONFLICT (project_id, task_id, annotator_id)
DO UPDATE SET state = 'leased', leased_until = excluded.leased_until, submitted_version = NULL, submitted_at = NULL,
              started_at = clock_timestamp();

-- renew_slot --
UPDATE dataforge.label_slots SET leased_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE project_id = %(project_id)s AND task_id = %(task_id)s AND annotator_id = %(annotator_id)s AND state = 'leased';

-- find_task --
SELECT t.*, ARRAY(SELECT a.annotator FROM dataforge.label_assignments a
                    WHERE a.project_id = t.project_id AND a.task_id = t.id ORDER BY a.annotator) AS assignees
  FROM dataforge.label_tasks t
 WHERE t.project_id = %(project_id)s AND t.labelling_id = %(labelling_id)s AND t.id = %(id)s;

-- lock_task --
SELECT t.*, ARRAY(SELECT a.annotator FROM dataforge.label_assignments a
                    WHERE a.project_id = t.project_id AND a.task_id = t.id ORDER BY a.annotator) AS assignees
  FROM dataforge.label_tasks t
 WHERE t.project_id = %(project_id)s AND t.labelling_id = %(labelling_id)s AND t.id = %(id)s
   FOR UPDATE OF t;

-- list_tasks --
SELECT t.*, ARRAY(SELECT a.annotator FROM dataforge.label_assignments a
                    WHERE a.project_id = t.project_id AND a.task_id = t.id ORDER BY a.annotator) AS assignees
  FROM dataforge.label_tasks t
 WHERE t.project_id = %(project_id)s AND t.labelling_id = %(labelling_id)s AND t.ordinal > %(after)s
   AND (%(state)s::text IS NULL OR t.state = %(state)s)
 ORDER BY t.ordinal
 LIMIT %(limit)s;

-- save_task --
UPDATE dataforge.label_tasks
   SET state = %(state)s, taken = %(taken)s, submitted = %(submitted)s, skips = %(skips)s, gold = %(gold)s, label = %(label)s,
       source = %(source)s, decided_by = %(decided_by)s, comment = %(comment)s, updated_at = clock_timestamp()
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- list_slots --
SELECT s.task_id, s.annotator_id, a.annotator, s.state, s.version, s.submitted_version, v.value, s.reason, s.leased_until, s.started_at,
       s.submitted_at, s.state = 'leased' AND s.leased_until > clock_timestamp() AS active
  FROM dataforge.label_slots s
  JOIN dataforge.label_annotators a
    ON a.project_id = s.project_id AND a.labelling_id = s.labelling_id AND a.annotator_id = s.annotator_id
  LEFT JOIN dataforge.label_versions v
    ON v.project_id = s.project_id AND v.task_id = s.task_id AND v.annotator_id = s.annotator_id AND v.version = s.version
 WHERE s.project_id = %(project_id)s AND s.task_id = %(task_id)s
   AND (%(annotator_id)s::uuid IS NULL OR s.annotator_id = %(annotator_id)s)
 ORDER BY s.started_at;

-- list_turns --
SELECT t.id AS task_id, t.path, t.row_number, s.state, s.started_at, s.submitted_at
  FROM dataforge.label_slots s JOIN dataforge.label_tasks t ON t.project_id = s.project_id AND t.id = s.task_id
 WHERE s.project_id = %(project_id)s AND s.labelling_id = %(labelling_id)s AND s.annotator_id = %(annotator_id)s
   AND (%(before)s::timestamptz IS NULL OR s.started_at < %(before)s)
 ORDER BY s.started_at DESC
 LIMIT %(limit)s;

-- save_slot --
UPDATE dataforge.label_slots
   SET state = %(state)s, reason = %(reason)s, leased_until = NULL, submitted_version = %(submitted_version)s,
       submitted_at = CASE WHEN %(submitted_version)s::int IS NULL THEN NULL ELSE coalesce(submitted_at, clock_timestamp()) END
 WHERE project_id = %(project_id)s AND task_id = %(task_id)s AND annotator_id = %(annotator_id)s;

-- return_slots --
UPDATE dataforge.label_slots SET state = 'returned', submitted_version = NULL, submitted_at = NULL
 WHERE project_id = %(project_id)s AND task_id = %(task_id)s AND state IN ('submitted', 'skipped');

-- add_version --
WITH raised AS (
    UPDATE dataforge.label_slots SET version = version + 1
     WHERE project_id = %(project_id)s AND task_id = %(task_id)s AND annotator_id = %(annotator_id)s
    RETURNING version
)
INSERT INTO dataforge.label_versions (project_id, task_id, annotator_id, version, stage, value)
SELECT %(project_id)s, %(task_id)s, %(annotator_id)s, version, %(stage)s, %(value)s FROM raised
RETURNING version;

-- list_versions --
SELECT v.version, v.stage, v.value, v.created_at
  FROM dataforge.label_versions v
 WHERE v.project_id = %(project_id)s AND v.task_id = %(task_id)s AND v.annotator_id = %(annotator_id)s
 ORDER BY v.version;

-- record_gold --
UPDATE dataforge.label_annotators SET gold_asked = gold_asked + %(asked)s, gold_right = gold_right + %(right)s
 WHERE project_id = %(project_id)s AND labelling_id = %(labelling_id)s AND annotator_id = %(annotator_id)s;

-- list_submissions --
SELECT s.task_id, a.annotator, v.value, a.gold_asked, a.gold_right
  FROM dataforge.label_slots s
  JOIN dataforge.label_annotators a
    ON a.project_id = s.project_id AND a.labelling_id = s.labelling_id AND a.annotator_id = s.annotator_id
  JOIN dataforge.label_versions v
    ON v.project_id = s.project_id AND v.task_id = s.task_id AND v.annotator_id = s.annotator_id AND v.version = s.submitted_version
 WHERE s.project_id = %(project_id)s AND s.labelling_id = %(labelling_id)s AND s.state = 'submitted'
   AND (%(task_ids)s::uuid[] IS NULL OR s.task_id = ANY(%(task_ids)s))
 ORDER BY s.submitted_at, a.annotator;

-- count_tasks --
SELECT count(*) FILTER (WHERE state = 'open') AS open, count(*) FILTER (WHERE state = 'review') AS review,
       count(*) FILTER (WHERE state = 'disputed') AS disputed, count(*) FILTER (WHERE state = 'done' AND gold IS NULL) AS done,
       count(*) FILTER (WHERE state = 'done' AND gold IS NOT NULL) AS gold,
       (SELECT count(*) FROM dataforge.label_slots s
         WHERE s.project_id = %(project_id)s AND s.labelling_id = %(labelling_id)s
           AND s.state = 'leased' AND s.leased_until > clock_timestamp()) AS leased,
       (SELECT count(*) FROM dataforge.label_slots s
         WHERE s.project_id = %(project_id)s AND s.labelling_id = %(labelling_id)s AND s.state = 'submitted') AS submissions,
       (SELECT count(*) FROM dataforge.label_slots s
         WHERE s.project_id = %(project_id)s AND s.labelling_id = %(labelling_id)s AND s.state = 'submitted'
           AND s.submitted_at > clock_timestamp() - interval '1 hour') AS last_hour
  FROM dataforge.label_tasks
 WHERE project_id = %(project_id)s AND labelling_id = %(labelling_id)s;

-- list_workloads --
SELECT a.annotator, a.gold_asked, a.gold_right,
       count(*) FILTER (WHERE s.state = 'leased' AND s.leased_until > clock_timestamp()) AS leased,
       count(*) FILTER (WHERE s.state = 'submitted') AS submitted,
       count(*) FILTER (WHERE s.state = 'skipped') AS skipped,
       avg(extract(epoch FROM s.submitted_at - s.started_at)) FILTER (WHERE s.state = 'submitted')::float8 AS mean_s,
       max(s.submitted_at) AS last_at
  FROM dataforge.label_annotators a
  LEFT JOIN dataforge.label_slots s
    ON s.project_id = a.project_id AND s.labelling_id = a.labelling_id AND s.annotator_id = a.annotator_id
 WHERE a.project_id = %(project_id)s AND a.labelling_id = %(labelling_id)s
 GROUP BY a.annotator, a.gold_asked, a.gold_right
 ORDER BY a.annotator;

-- set_predictions --
UPDATE dataforge.label_tasks t SET prediction = given.prediction, priority = given.priority
  FROM unnest(%(ids)s::uuid[], %(predictions)s::jsonb[], %(priorities)s::float8[]) AS given (id, prediction, priority)
 WHERE t.project_id = %(project_id)s AND t.id = given.id;

-- set_priorities --
UPDATE dataforge.label_tasks t SET priority = given.priority
  FROM unnest(%(ids)s::uuid[], %(priorities)s::float8[]) AS given (id, priority)
 WHERE t.project_id = %(project_id)s AND t.id = given.id;

-- decide_tasks --
UPDATE dataforge.label_tasks t
   SET state = 'done', label = given.label, gold = CASE WHEN %(gold)s THEN given.label ELSE t.gold END, source = 'imported',
       decided_by = %(decided_by)s, updated_at = clock_timestamp()
  FROM unnest(%(ids)s::uuid[], %(labels)s::jsonb[]) AS given (id, label)
 WHERE t.project_id = %(project_id)s AND t.id = given.id;

-- set_sizes --
UPDATE dataforge.label_tasks t SET width = given.width, height = given.height
  FROM unnest(%(ids)s::uuid[], %(widths)s::int[], %(heights)s::int[]) AS given (id, width, height)
 WHERE t.project_id = %(project_id)s AND t.id = given.id AND t.width IS NULL;

-- import_annotations --
WITH given AS (
    SELECT * FROM unnest(%(task_ids)s::uuid[], %(annotator_ids)s::uuid[], %(values)s::jsonb[]) AS given (task_id, annotator_id, value)
), slots AS (
    INSERT INTO dataforge.label_slots AS s
           (project_id, labelling_id, task_id, annotator_id, state, version, submitted_version, submitted_at)
    SELECT %(project_id)s, %(labelling_id)s, task_id, annotator_id, 'submitted', 1, 1, clock_timestamp() FROM given
    ON CONFLICT (project_id, task_id, annotator_id)
    DO UPDATE SET state = 'submitted', version = s.version + 1, submitted_version = s.version + 1, leased_until = NULL,
                  submitted_at = clock_timestamp()
    RETURNING task_id, annotator_id, version
)
INSERT INTO dataforge.label_versions (project_id, task_id, annotator_id, version, stage, value)
SELECT %(project_id)s, task_id, annotator_id, slots.version, 'imported', given.value FROM slots JOIN given USING (task_id, annotator_id);

-- lock_tasks --
SELECT t.*, (SELECT count(*) FROM dataforge.label_slots s
              WHERE s.project_id = t.project_id AND s.task_id = t.id AND s.state IN ('leased', 'submitted')) AS held,
       ARRAY(SELECT a.annotator FROM dataforge.label_assignments a
                    WHERE a.project_id = t.project_id AND a.task_id = t.id ORDER BY a.annotator) AS assignees
  FROM dataforge.label_tasks t
 WHERE t.project_id = %(project_id)s AND t.labelling_id = %(labelling_id)s AND t.id = ANY(%(ids)s)
 ORDER BY t.id
   FOR UPDATE OF t;

-- find_annotator --
SELECT annotator_id, annotator, asked, gold_asked, gold_right
  FROM dataforge.label_annotators
 WHERE project_id = %(project_id)s AND labelling_id = %(labelling_id)s AND annotator = %(annotator)s;

-- assign_tasks --
WITH asked_again AS (
    UPDATE dataforge.label_slots SET state = 'returned'
     WHERE project_id = %(project_id)s AND task_id = ANY(%(task_ids)s) AND annotator_id = %(annotator_id)s AND state = 'skipped'
)
INSERT INTO dataforge.label_assignments (project_id, labelling_id, task_id, annotator_id, annotator, assigned_by)
SELECT %(project_id)s, %(labelling_id)s, task_id, %(annotator_id)s, %(annotator)s, %(assigned_by)s
  FROM unnest(%(task_ids)s::uuid[]) AS task_id
    ON CONFLICT DO NOTHING;

-- unassign_tasks --
DELETE FROM dataforge.label_assignments
 WHERE project_id = %(project_id)s AND labelling_id = %(labelling_id)s AND task_id = ANY(%(task_ids)s) AND annotator = %(annotator)s;

-- decline_task --
DELETE FROM dataforge.label_assignments
 WHERE project_id = %(project_id)s AND task_id = %(task_id)s AND annotator_id = %(annotator_id)s;

-- recount_reserved --
UPDATE dataforge.label_tasks t
   SET reserved = (SELECT count(*) FROM dataforge.label_assignments a
                    WHERE a.project_id = t.project_id AND a.task_id = t.id
                      AND NOT EXISTS (SELECT FROM dataforge.label_slots s
                                       WHERE s.project_id = a.project_id AND s.task_id = a.task_id AND s.annotator_id = a.annotator_id
                                         AND s.state IN ('leased', 'submitted')))
 WHERE t.project_id = %(project_id)s AND t.id = ANY(%(task_ids)s);
