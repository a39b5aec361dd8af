-- insert_report --
WITH asked AS (
    INSERT INTO dataforge.reports AS r (project_id, id, dataset_id, commit_id, kind, params, params_sha256, created_by)
    VALUES (%(project_id)s, %(id)s, %(dataset_id)s, %(commit_id)s, %(kind)s, %(params)s, %(params_sha256)s, %(created_by)s)
    -- An update that changes nothing locks the row that is there: of two who ask at once, one begins the job.
    ON CONFLICT ON CONSTRAINT reports_question DO UPDATE SET kind = r.kind
    RETURNING *
)
SELECT a.id, d.name AS dataset, a.commit_id, a.kind, a.params, a.job_id, a.progress, a.result, a.created_by, a.created_at, a.finished_at
  FROM asked a JOIN dataforge.datasets d ON d.project_id = a.project_id AND d.id = a.dataset_id;

-- find_report --
SELECT r.id, d.name AS dataset, r.commit_id, r.kind, r.params, r.job_id, r.progress, r.result, r.created_by, r.created_at, r.finished_at
  FROM dataforge.reports r JOIN dataforge.datasets d ON d.project_id = r.project_id AND d.id = r.dataset_id
 WHERE r.project_id = %(project_id)s AND r.id = %(id)s;

-- list_reports --
SELECT r.id, d.name AS dataset, r.commit_id, r.kind, r.params, r.job_id, r.progress, NULL::jsonb AS result, r.created_by, r.created_at,
       r.finished_at
  FROM dataforge.reports r JOIN dataforge.datasets d ON d.project_id = r.project_id AND d.id = r.dataset_id
 WHERE r.project_id = %(project_id)s AND r.dataset_id = %(dataset_id)s
   AND (%(commit_id)s::uuid IS NULL OR r.commit_id = %(commit_id)s)
   AND (%(kind)s::text IS NULL OR r.kind = %(kind)s)
   AND (%(before)s::uuid IS NULL OR r.id < %(before)s)
 ORDER BY r.id DESC
 LIMIT %(limit)s;

-- list_columns --
-- Names of the columns of commits' tables with what their values were found to be, of the newest profile of each.
SELECT DISTINCT ON (commit_id) commit_id, result #> '{table,columns}' AS columns
  FROM dataforge.reports
 WHERE project_id = %(project_id)s AND commit_id = ANY (%(commit_ids)s) AND kind = 'profile' AND result IS NOT NULL
 ORDER BY commit_id, id DESC;

-- set_job --
UPDATE dataforge.reports SET job_id = %(job_id)s, progress = NULL
 WHERE project_id = %(project_id)s AND id = %(id)s AND result IS NULL;

-- set_progress --
UPDATE dataforge.reports SET progress = %(progress)s
 WHERE project_id = %(project_id)s AND id = %(id)s AND result IS NULL;

-- set_result --
UPDATE dataforge.reports SET result = %(result)s, finished_at = clock_timestamp()
 WHERE project_id = %(project_id)s AND id = %(id)s AND result IS NULL;
