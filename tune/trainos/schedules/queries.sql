-- {schedule_columns} --
id, org_id, project_id, project_name, name, cron, timezone, spec, submitter, created_by, created_at, next_at, paused_by, last_at, last_job_id,
last_reason

-- insert_schedule --
INSERT INTO trainos.schedules (id, org_id, project_id, project_name, name, cron, timezone, spec, submitter, created_by, next_at)
VALUES (%(id)s, %(org_id)s, %(project_id)s, %(project_name)s, %(name)s, %(cron)s, %(timezone)s, %(spec)s, %(submitter)s, %(created_by)s,
        %(next_at)s)
ON CONFLICT ON CONSTRAINT schedules_name DO NOTHING
RETURNING {schedule_columns};

-- find_schedule --
SELECT {schedule_columns}
  FROM trainos.schedules
 WHERE project_id = %(project_id)s AND (name = %(name)s OR id::text = %(name)s)
 ORDER BY id::text = %(name)s DESC
 LIMIT 1;

-- list_schedules --
SELECT {schedule_columns}
  FROM trainos.schedules
 WHERE project_id = %(project_id)s AND (%(after)s::text IS NULL OR name > %(after)s::text)
 ORDER BY name
 LIMIT %(limit)s;

-- pause_schedule --
UPDATE trainos.schedules
   SET paused_by = %(paused_by)s, next_at = %(next_at)s
 WHERE project_id = %(project_id)s AND id = %(id)s
RETURNING {schedule_columns};

-- delete_schedule --
DELETE FROM trainos.schedules WHERE project_id = %(project_id)s AND id = %(id)s;

-- find_due --
SELECT id FROM trainos.schedules WHERE paused_by IS NULL AND next_at <= now() ORDER BY next_at LIMIT 1;

-- claim_schedule --
SELECT {schedule_columns}
  FROM trainos.schedules
 WHERE id = %(id)s AND paused_by IS NULL AND next_at <= now()
   FOR UPDATE;

-- apply_schedule --
UPDATE trainos.schedules
   SET last_at = next_at, next_at = %(next_at)s, last_job_id = coalesce(%(job_id)s, last_job_id), last_reason = %(reason)s
 WHERE id = %(id)s;
