-- publish --
WITH event AS (
    INSERT INTO cluster.events (id, type, subject, org_id, project_id, actor, data, traceparent)
    VALUES (%(id)s, %(type)s, %(subject)s, %(org_id)s, %(project_id)s, %(actor)s, %(data)s, %(traceparent)s)
    ON CONFLICT (id) DO NOTHING
)
SELECT pg_notify('aidos_events', %(type)s);

-- publish_all --
WITH events AS (
    INSERT INTO cluster.events (id, type, subject, org_id, project_id, actor, data, traceparent)
    SELECT id, type, subject, org_id, project_id, actor, data, traceparent
      FROM unnest(%(id)s::uuid[], %(type)s::text[], %(subject)s::text[], %(org_id)s::uuid[], %(project_id)s::uuid[], %(actor)s::text[],
                  %(data)s::jsonb[], %(traceparent)s::text[])
           WITH ORDINALITY AS told (id, type, subject, org_id, project_id, actor, data, traceparent, place)
     ORDER BY place
    ON CONFLICT (id) DO NOTHING
)
SELECT pg_notify('aidos_events', type) FROM unnest(%(type)s::text[]) AS told (type) GROUP BY type;

-- list_events --
SELECT seq, id, type, subject, org_id, project_id, actor, data, traceparent, time
  FROM cluster.events
 WHERE seq > %(after_seq)s
   AND project_id = cluster.current_project()
   AND (%(subject)s::text IS NULL OR subject = %(subject)s)
 ORDER BY seq
 LIMIT %(limit)s;

-- tail_events --
-- events.xid, not xid: the latter is the text of the answer, in whose order 1000 comes before 999.
SELECT seq, xid::text AS xid, id, type, subject, org_id, project_id, actor, data, traceparent, time
  FROM cluster.events
 WHERE project_id = cluster.current_project()
   AND (xid, seq) > (%(xid)s::xid8, %(seq)s::bigint)
   AND xid < pg_snapshot_xmin(pg_current_snapshot())
   AND (%(type)s::text IS NULL OR type = %(type)s OR starts_with(type, %(type)s || '.'))
   AND (%(subject)s::text IS NULL OR subject = %(subject)s)
 ORDER BY events.xid, seq
 LIMIT %(limit)s;

-- events_position --
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xid;

-- lock_cursor --
-- A consumer's first call makes its cursor, which the SELECT of the same statement cannot see yet.
WITH made AS (
    INSERT INTO cluster.event_cursors (consumer) VALUES (%(consumer)s) ON CONFLICT DO NOTHING RETURNING xid, seq
)
SELECT xid, seq FROM made
UNION ALL
SELECT xid, seq FROM (SELECT xid, seq FROM cluster.event_cursors WHERE consumer = %(consumer)s FOR UPDATE SKIP LOCKED) AS known;

-- next_events --
SELECT seq, xid::text AS xid, id, type, subject, org_id, project_id, actor, data, traceparent, time
  FROM cluster.events
 WHERE (xid, seq) > (%(xid)s::xid8, %(seq)s::bigint)
   AND xid < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY events.xid, seq
 LIMIT %(limit)s;

-- move_cursor --
UPDATE cluster.event_cursors SET xid = %(xid)s::xid8, seq = %(seq)s, updated_at = now() WHERE consumer = %(consumer)s;

-- acquire_lease --
INSERT INTO cluster.leases AS held (name, holder, epoch, expires_at)
VALUES (%(name)s, %(holder)s, 1, clock_timestamp() + make_interval(secs => %(ttl_s)s))
ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder,
       epoch = held.epoch + CASE WHEN held.holder = excluded.holder THEN 0 ELSE 1 END,
       expires_at = excluded.expires_at
 WHERE held.holder = excluded.holder OR held.expires_at < clock_timestamp()
RETURNING name, holder, epoch, expires_at;

-- hold_lease --
SELECT 1 FROM cluster.leases WHERE name = %(name)s AND epoch = %(epoch)s AND expires_at > clock_timestamp() FOR SHARE;

-- release_lease --
UPDATE cluster.leases SET expires_at = clock_timestamp() WHERE name = %(name)s AND epoch = %(epoch)s;

-- list_leases --
SELECT name, holder, epoch, expires_at FROM cluster.leases ORDER BY name LIMIT 500;

-- list_consumers --
SELECT c.consumer, c.updated_at,
       (SELECT count(*) FROM (SELECT 1 FROM cluster.events e WHERE (e.xid, e.seq) > (c.xid, c.seq) LIMIT 10000) waiting) AS behind_events
  FROM cluster.event_cursors c
 ORDER BY c.consumer
 LIMIT 500;

-- find_answer --
SELECT request_sha256, status, headers, body FROM cluster.idempotency
 WHERE org_id = %(org_id)s AND principal = %(principal)s AND key = %(key)s;

-- reserve_answer --
INSERT INTO cluster.idempotency AS known (org_id, principal, key, request_sha256)
VALUES (%(org_id)s, %(principal)s, %(key)s, %(request_sha256)s)
ON CONFLICT (org_id, principal, key) DO UPDATE SET created_at = now()
 WHERE known.status = 0 AND known.request_sha256 = EXCLUDED.request_sha256
   AND known.created_at < now() - make_interval(secs => %(limit_s)s)
RETURNING 1;

-- keep_answer --
UPDATE cluster.idempotency SET status = %(status)s, headers = %(headers)s, body = %(body)s
 WHERE org_id = %(org_id)s AND principal = %(principal)s AND key = %(key)s;

-- forget_answer --
DELETE FROM cluster.idempotency WHERE org_id = %(org_id)s AND principal = %(principal)s AND key = %(key)s AND status = 0;

-- forget_answers --
DELETE FROM cluster.idempotency WHERE created_at < now() - interval '24 hours';
