-- insert_experiment --
INSERT INTO modelhub.experiments (id, project_id, name, description, created_by)
VALUES (%(id)s, %(project_id)s, %(name)s, %(description)s, %(created_by)s)
ON CONFLICT (project_id, name) WHERE deleted_at IS NULL DO NOTHING
RETURNING id, project_id, name, description, created_by, created_at;

-- find_experiment --
SELECT id, project_id, name, description, created_by, created_at
  FROM modelhub.experiments
 WHERE project_id = %(project_id)s AND deleted_at IS NULL AND (name = %(name)s OR id::text = %(name)s)
 ORDER BY name = %(name)s DESC
 LIMIT 1;

-- list_experiments --
SELECT id, project_id, name, description, created_by, created_at
  FROM modelhub.experiments
 WHERE project_id = %(project_id)s AND deleted_at IS NULL AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- delete_experiment --
WITH runs AS (
    UPDATE modelhub.runs SET deleted_at = now()
     WHERE project_id = %(project_id)s AND experiment_id = %(id)s AND deleted_at IS NULL
)
UPDATE modelhub.experiments SET deleted_at = now(), updated_at = now() WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING id;

-- insert_run --
WITH run AS (
    INSERT INTO modelhub.runs (id, project_id, experiment_id, name, job_id, created_by, started_at)
    VALUES (%(id)s, %(project_id)s, %(experiment_id)s, %(name)s, %(job_id)s, %(created_by)s, coalesce(%(started_at)s, now()))
    ON CONFLICT (id) DO NOTHING
    RETURNING id, project_id, experiment_id, name, job_id, created_by, started_at
), params AS (
    INSERT INTO modelhub.run_params (project_id, run_id, key, value)
    SELECT run.project_id, run.id, p.key, p.value FROM run, unnest(%(param_keys)s::text[], %(param_values)s::text[]) AS p (key, value)
), tags AS (
    INSERT INTO modelhub.run_tags (project_id, run_id, key, value)
    SELECT run.project_id, run.id, t.key, t.value FROM run, unnest(%(tag_keys)s::text[], %(tag_values)s::text[]) AS t (key, value)
)
SELECT * FROM run;

-- find_run --
SELECT r.id, r.project_id, r.experiment_id, e.name AS experiment, r.name, r.state, r.job_id, r.created_by, r.started_at, r.ended_at,
       (SELECT jsonb_object_agg(p.key, p.value) FROM modelhub.run_params p WHERE p.run_id = r.id) AS params,
       (SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.run_tags t WHERE t.run_id = r.id) AS tags,
       (SELECT jsonb_object_agg(m.key, jsonb_build_array(m.value::text, m.step, m.at)) FROM modelhub.metrics m WHERE m.run_id = r.id) AS metrics
  FROM modelhub.runs r JOIN modelhub.experiments e ON e.id = r.experiment_id
 WHERE r.project_id = %(project_id)s AND r.id = %(id)s AND r.deleted_at IS NULL;

-- list_runs --
SELECT r.id, r.project_id, r.experiment_id, e.name AS experiment, r.name, r.state, r.job_id, r.created_by, r.started_at, r.ended_at,
       (SELECT jsonb_object_agg(p.key, p.value) FROM modelhub.run_params p WHERE p.run_id = r.id) AS params,
       (SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.run_tags t WHERE t.run_id = r.id) AS tags,
       (SELECT jsonb_object_agg(m.key, jsonb_build_array(m.value::text, m.step, m.at)) FROM modelhub.metrics m WHERE m.run_id = r.id) AS metrics
  FROM modelhub.runs r JOIN modelhub.experiments e ON e.id = r.experiment_id
 WHERE r.project_id = %(project_id)s AND r.deleted_at IS NULL
   AND (%(before)s::uuid IS NULL OR r.id < %(before)s)
   AND (%(experiment_id)s::uuid IS NULL OR r.experiment_id = %(experiment_id)s)
   AND (%(state)s::text IS NULL OR r.state = %(state)s)
   AND (%(job_id)s::uuid IS NULL OR r.job_id = %(job_id)s)
 ORDER BY r.id DESC
 LIMIT %(limit)s;

-- lock_run --
SELECT state FROM modelhub.runs WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL FOR UPDATE;

-- share_run --
SELECT state FROM modelhub.runs WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL FOR SHARE;

-- update_run --
UPDATE modelhub.runs
   SET name = coalesce(%(name)s, name),
       state = coalesce(%(state)s, state),
       ended_at = CASE WHEN %(state)s = 'RUNNING' THEN NULL
                       WHEN %(ended_at)s::timestamptz IS NOT NULL THEN %(ended_at)s
                       WHEN %(state)s::text IS NULL OR %(state)s = state THEN ended_at
                       ELSE now() END
 WHERE project_id = %(project_id)s AND id = %(id)s;

-- delete_run --
UPDATE modelhub.runs SET deleted_at = now() WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING id;

-- set_params --
-- DO UPDATE to the value that is there: it waits for a concurrent writer and returns what really stands.
WITH asked AS (
    SELECT * FROM unnest(%(keys)s::text[], %(values)s::text[]) AS a (key, value)
), stored AS (
    INSERT INTO modelhub.run_params AS p (project_id, run_id, key, value)
    SELECT %(project_id)s, %(run_id)s, key, value FROM asked ORDER BY key
    ON CONFLICT (run_id, key) DO UPDATE SET value = p.value
    RETURNING p.key, p.value
)
SELECT asked.key, stored.value AS stored, asked.value AS wanted
  FROM asked JOIN stored USING (key) WHERE stored.value <> asked.value ORDER BY asked.key LIMIT 1;

-- set_tags --
INSERT INTO modelhub.run_tags AS t (project_id, run_id, key, value)
SELECT %(project_id)s, %(run_id)s, key, value FROM unnest(%(keys)s::text[], %(values)s::text[]) AS a (key, value) ORDER BY key
ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value;

-- delete_tags --
DELETE FROM modelhub.run_tags WHERE project_id = %(project_id)s AND run_id = %(run_id)s AND key = ANY (%(keys)s::text[]);

-- count_params --
SELECT (SELECT count(*) FROM modelhub.run_params WHERE run_id = %(run_id)s AND project_id = %(project_id)s) AS params,
       (SELECT count(*) FROM modelhub.run_tags WHERE run_id = %(run_id)s AND project_id = %(project_id)s) AS tags;

-- list_points --
SELECT m.key, p.value, p.step, p.at
  FROM modelhub.metrics m JOIN modelhub.metric_points p ON p.metric_id = m.id
 WHERE m.project_id = %(project_id)s AND m.run_id = %(run_id)s AND m.key = %(key)s
   AND (%(after_step)s::bigint IS NULL OR (p.step, p.at, p.value) > (%(after_step)s::bigint, %(after_at)s::timestamptz, %(after_value)s::float8))
 ORDER BY p.step, p.at, p.value
 LIMIT %(limit)s;

-- downsample_points --
-- The lowest and the highest point of each of `buckets` equal parts of the series, so that a spike survives.
-- NaN sorts above everything in PostgreSQL; it is shown only where a part holds nothing else.
WITH numbered AS (
    SELECT p.step, p.at, p.value, ntile(%(buckets)s) OVER (ORDER BY p.step, p.at, p.value) AS bucket
      FROM modelhub.metric_points p
     WHERE p.project_id = %(project_id)s
       AND p.metric_id = (SELECT m.id FROM modelhub.metrics m WHERE m.project_id = %(project_id)s AND m.run_id = %(run_id)s AND m.key = %(key)s)
), extremes AS (
    -- A point as an array, because arrays have a minimum; a step fits (at most 2^53), a time too until the year 2255.
    SELECT min(ARRAY[value, step, extract(epoch FROM at)::float8]) AS low,
           max(ARRAY[value, step, extract(epoch FROM at)::float8]) FILTER (WHERE value <> 'NaN') AS high
      FROM numbered GROUP BY bucket
), points AS (
    SELECT low AS point FROM extremes UNION SELECT high FROM extremes WHERE high IS NOT NULL
)
SELECT %(key)s::text AS key, point[1] AS value, point[2]::bigint AS step, to_timestamp(point[3]) AS at
  FROM points ORDER BY step, at, value;

-- insert_artifacts --
-- Returns every artifact asked for, with the bytes that it stands for: the caller compares.
WITH asked AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(paths)s::text[], %(keys)s::text[], %(sha256s)s::text[], %(sizes_bytes)s::bigint[])
        AS a (id, path, key, sha256, size_bytes)
)
INSERT INTO modelhub.artifacts AS f (id, project_id, owner_id, path, key, sha256, size_bytes)
SELECT id, %(project_id)s, %(run_id)s, path, key, sha256, size_bytes FROM asked ORDER BY path
ON CONFLICT (owner_id, path) DO UPDATE
   SET sha256 = CASE WHEN f.stored THEN f.sha256 ELSE excluded.sha256 END,
       size_bytes = CASE WHEN f.stored THEN f.size_bytes ELSE excluded.size_bytes END
RETURNING id, project_id, owner_id, path, key, sha256, size_bytes, stored, created_at;

-- find_artifacts --
SELECT id, project_id, owner_id, path, key, sha256, size_bytes, stored, created_at
  FROM modelhub.artifacts
 WHERE project_id = %(project_id)s AND owner_id = %(run_id)s AND path = ANY (%(paths)s::text[])
 ORDER BY path COLLATE "C";

-- complete_artifacts --
UPDATE modelhub.artifacts SET stored = true
 WHERE project_id = %(project_id)s AND owner_id = %(run_id)s AND id = ANY (%(ids)s::uuid[])
RETURNING id, project_id, owner_id, path, key, sha256, size_bytes, stored, created_at;

-- list_artifacts --
SELECT id, project_id, owner_id, path, key, sha256, size_bytes, stored, created_at
  FROM modelhub.artifacts
 WHERE project_id = %(project_id)s AND owner_id = %(run_id)s AND stored
   AND starts_with(path, %(prefix)s) AND (%(after)s::text IS NULL OR path COLLATE "C" > %(after)s)
 ORDER BY path COLLATE "C"
 LIMIT %(limit)s;

-- insert_model --
INSERT INTO modelhub.models (id, project_id, name, description, created_by)
VALUES (%(id)s, %(project_id)s, %(name)s, %(description)s, %(created_by)s)
ON CONFLICT (project_id, name) WHERE deleted_at IS NULL DO NOTHING
RETURNING id;

-- find_model --
SELECT m.id, m.project_id, m.name, m.description, m.last_version, m.self_approval, m.created_by, m.created_at,
       (SELECT jsonb_object_agg(a.name, v.version) FROM modelhub.aliases a JOIN modelhub.versions v ON v.id = a.version_id
         WHERE a.model_id = m.id) AS aliases
  FROM modelhub.models m
 WHERE m.project_id = %(project_id)s AND m.name = %(name)s AND m.deleted_at IS NULL;

-- list_models --
SELECT m.id, m.project_id, m.name, m.description, m.last_version, m.self_approval, m.created_by, m.created_at,
       (SELECT jsonb_object_agg(a.name, v.version) FROM modelhub.aliases a JOIN modelhub.versions v ON v.id = a.version_id
         WHERE a.model_id = m.id) AS aliases
  FROM modelhub.models m
 WHERE m.project_id = %(project_id)s AND m.deleted_at IS NULL AND (%(before)s::uuid IS NULL OR m.id < %(before)s)
 ORDER BY m.id DESC
 LIMIT %(limit)s;

-- delete_model --
WITH aliases AS (
    DELETE FROM modelhub.aliases WHERE project_id = %(project_id)s AND model_id = %(id)s
), versions AS (
    UPDATE modelhub.versions SET deleted_at = now() WHERE project_id = %(project_id)s AND model_id = %(id)s AND deleted_at IS NULL
)
UPDATE modelhub.models SET deleted_at = now() WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING id;

-- next_version --
-- The row lock makes the numbers 1, 2, 3 … without a gap: who rolls back gives the number back.
UPDATE modelhub.models SET last_version = last_version + 1
 WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING last_version;

-- insert_version --
WITH files AS (
    INSERT INTO modelhub.version_files (project_id, version_id, path, key, size_bytes, sha256)
    SELECT %(project_id)s, %(id)s, path, key, size_bytes, sha256
      FROM unnest(%(paths)s::text[], %(keys)s::text[], %(sizes_bytes)s::bigint[], %(sha256s)s::text[]) AS a (path, key, size_bytes, sha256)
)
INSERT INTO modelhub.versions (id, org_id, project_id, model_id, version, run_id, flavour, description, created_by, author_id, traceparent,
                               source, run_link, logged_model_id)
VALUES (%(id)s, %(org_id)s, %(project_id)s, %(model_id)s, %(version)s, %(run_id)s, %(flavour)s, %(description)s, %(created_by)s,
        %(author_id)s, %(traceparent)s, %(source)s, %(run_link)s, %(logged_model_id)s);

-- find_version --
-- `version` is a number, an alias, or `latest`: the newest that is READY, a deprecated one only where there is no other.
SELECT v.id, v.org_id, v.project_id, v.model_id, m.name AS model, v.version, v.run_id, v.flavour, v.state, v.reason, v.description,
       v.signature, v.deprecation, v.findings, v.card, v.licence, v.requirements, v.input_example, v.created_by, v.created_at, v.attempts,
       (SELECT jsonb_agg(jsonb_build_array(f.path, f.key, f.size_bytes, f.sha256) ORDER BY f.path COLLATE "C")
          FROM modelhub.version_files f WHERE f.version_id = v.id) AS files,
       (SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.version_tags t WHERE t.version_id = v.id) AS tags,
       (SELECT array_agg(a.name ORDER BY a.name) FROM modelhub.aliases a WHERE a.version_id = v.id) AS aliases
  FROM modelhub.versions v JOIN modelhub.models m ON m.id = v.model_id
 WHERE v.project_id = %(project_id)s AND v.deleted_at IS NULL AND m.name = %(model)s AND m.deleted_at IS NULL
   AND CASE WHEN %(number)s::int IS NOT NULL THEN v.version = %(number)s
            WHEN %(alias)s = 'latest' THEN v.state = 'READY'
            ELSE v.id = (SELECT a.version_id FROM modelhub.aliases a WHERE a.model_id = m.id AND a.name = %(alias)s) END
 ORDER BY v.deprecation IS NOT NULL, v.version DESC
 LIMIT 1;

-- list_versions --
SELECT v.id, v.org_id, v.project_id, v.model_id, m.name AS model, v.version, v.run_id, v.flavour, v.state, v.reason, v.description,
       v.signature, v.deprecation, v.findings, v.card, v.licence, v.requirements, v.input_example, v.created_by, v.created_at, v.attempts,
       (SELECT jsonb_agg(jsonb_build_array(f.path, f.key, f.size_bytes, f.sha256) ORDER BY f.path COLLATE "C")
          FROM modelhub.version_files f WHERE f.version_id = v.id) AS files,
       (SELECT jsonb_object_agg(t.key, t.value) FROM modelhub.version_tags t WHERE t.version_id = v.id) AS tags,
       (SELECT array_agg(a.name ORDER BY a.name) FROM modelhub.aliases a WHERE a.version_id = v.id) AS aliases
  FROM modelhub.versions v JOIN modelhub.models m ON m.id = v.model_id
 WHERE v.project_id = %(project_id)s AND v.deleted_at IS NULL AND v.model_id = %(model_id)s
   AND (%(before)s::int IS NULL OR v.version < %(before)s)
 ORDER BY v.version DESC
 LIMIT %(limit)s;

-- lock_version --
SELECT id FROM modelhub.versions WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL FOR UPDATE;

-- delete_version --
UPDATE modelhub.versions SET deleted_at = now() WHERE project_id = %(project_id)s AND id = %(id)s AND deleted_at IS NULL;

-- claim_version --
WITH due AS (
    SELECT id FROM modelhub.versions
     WHERE state = 'PENDING' AND deleted_at IS NULL AND next_attempt_at <= clock_timestamp()
       AND (locked_until IS NULL OR locked_until < clock_timestamp())
     ORDER BY next_attempt_at, id
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
)
UPDATE modelhub.versions v
   SET lock_token = %(token)s, locked_until = clock_timestamp() + make_interval(secs => %(lock_s)s)
  FROM due, modelhub.models m
 WHERE v.id = due.id AND m.id = v.model_id
RETURNING v.id, v.org_id, v.project_id, v.model_id, m.name AS model, v.version, v.run_id, v.flavour, v.state, v.reason, v.description,
          v.signature, v.deprecation, v.findings, v.card, v.licence, v.requirements, v.input_example, v.created_by, v.created_at, v.attempts, v.traceparent,
          (SELECT jsonb_agg(jsonb_build_array(f.path, f.key, f.size_bytes, f.sha256) ORDER BY f.path COLLATE "C")
             FROM modelhub.version_files f WHERE f.version_id = v.id) AS files,
          NULL::text[] AS aliases, NULL::jsonb AS tags;

-- apply_version --
WITH version AS (
    UPDATE modelhub.versions
       SET state = %(state)s, reason = %(reason)s, signature = %(signature)s, findings = %(findings)s,
           card = coalesce(nullif(card, ''), %(card)s, ''), licence = coalesce(%(licence)s, ''), requirements = coalesce(%(requirements)s::text[], '{}'),
           input_example = %(input_example)s, updated_at = now(), lock_token = NULL, locked_until = NULL, last_error = NULL
     WHERE id = %(id)s AND lock_token = %(token)s AND state = 'PENDING'
    RETURNING id
), files AS (
    UPDATE modelhub.version_files f SET key = a.key
      FROM version, unnest(%(paths)s::text[], %(keys)s::text[]) AS a (path, key)
     WHERE f.version_id = version.id AND f.path = a.path
)
SELECT id FROM version;
