-- Searches ask for the runs of a project by the value of one key.
CREATE INDEX metrics_key ON modelhub.metrics (project_id, key);
CREATE INDEX run_params_key ON modelhub.run_params (project_id, key);
CREATE INDEX run_tags_key ON modelhub.run_tags (project_id, key);
