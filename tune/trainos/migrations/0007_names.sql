-- A job is asked for by its id or its name.
CREATE INDEX jobs_name ON trainos.jobs (project_id, name, id DESC);
