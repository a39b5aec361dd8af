-- An array is a job that runs nothing itself: it ends with the last of the jobs that have its id. Of those at most array_limit are in the
-- queue or run at once; the others wait for that.
ALTER TABLE trainos.jobs
    ADD COLUMN is_array boolean NOT NULL DEFAULT false,
    ADD COLUMN array_id uuid,
    ADD COLUMN array_index int,
    ADD COLUMN array_size int,
    ADD COLUMN array_limit int,
    ADD FOREIGN KEY (project_id, array_id) REFERENCES trainos.jobs (project_id, id);
CREATE INDEX jobs_arrays ON trainos.jobs (id) WHERE is_array AND finished_at IS NULL;
CREATE INDEX jobs_array ON trainos.jobs (array_id, state) WHERE array_id IS NOT NULL;
CREATE INDEX jobs_array_left ON trainos.jobs (array_id, waits, array_index) WHERE array_id IS NOT NULL AND finished_at IS NULL;
DROP INDEX trainos.jobs_project;
CREATE INDEX jobs_project ON trainos.jobs (project_id, id DESC) WHERE array_id IS NULL;
DROP INDEX trainos.jobs_waiting;
CREATE INDEX jobs_waiting ON trainos.jobs (id) WHERE state = 'QUEUED' AND waits AND array_id IS NULL;
