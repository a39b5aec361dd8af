-- put_trace --
-- A trace that is sent again is the newer word on it; tags that were set meanwhile stay.
INSERT INTO modelhub.traces AS t (id, project_id, trace_id, experiment_id, client_request_id, request_preview, response_preview,
                                  requested_at, duration_ms, state, metadata, tags)
VALUES (%(id)s, %(project_id)s, %(trace_id)s, %(experiment_id)s, %(client_request_id)s, %(request_preview)s, %(response_preview)s,
        %(requested_at)s, %(duration_ms)s, %(state)s, %(metadata)s, %(tags)s)
ON CONFLICT (project_id, trace_id) DO UPDATE
   SET client_request_id = excluded.client_request_id, request_preview = excluded.request_preview,
       response_preview = excluded.response_preview, requested_at = excluded.requested_at, duration_ms = excluded.duration_ms,
       state = excluded.state, metadata = t.metadata || excluded.metadata, tags = t.tags || excluded.tags;

-- change_tags --
UPDATE modelhub.traces SET tags = (tags || %(tags)s) - %(removed)s::text[]
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- link_traces --
UPDATE modelhub.traces SET metadata = metadata || jsonb_build_object('mlflow.sourceRun', %(run_id)s::text)
 WHERE project_id = %(project_id)s AND trace_id = ANY(%(trace_ids)s);

-- delete_traces --
WITH doomed AS (
    SELECT id FROM modelhub.traces
     WHERE project_id = %(project_id)s AND experiment_id = %(experiment_id)s
       AND (%(trace_ids)s::text[] IS NULL OR trace_id = ANY(%(trace_ids)s))
       AND (%(before)s::timestamptz IS NULL OR requested_at <= %(before)s)
     ORDER BY requested_at, id
     LIMIT %(limit)s
), files AS (
    DELETE FROM modelhub.artifacts WHERE project_id = %(project_id)s AND owner_id IN (SELECT id FROM doomed)
)
DELETE FROM modelhub.traces WHERE project_id = %(project_id)s AND id IN (SELECT id FROM doomed);

-- insert_assessment --
INSERT INTO modelhub.assessments (id, project_id, trace, body) VALUES (%(id)s, %(project_id)s, %(trace)s, %(body)s);

-- change_assessment --
UPDATE modelhub.assessments SET body = body || %(changes)s, updated_at = now()
 WHERE project_id = %(project_id)s AND trace = %(trace)s AND id = %(id)s
RETURNING id;

-- delete_assessment --
DELETE FROM modelhub.assessments WHERE project_id = %(project_id)s AND trace = %(trace)s AND id = %(id)s
RETURNING id;
