-- History is a graph: a merge has a second parent. A commit's generation is one above its parents', so the ancestors of a
-- commit are walked from the tip down and no further than a question needs.
ALTER TABLE dataforge.commits
    ADD COLUMN merge_parent_id uuid,
    ADD COLUMN generation integer NOT NULL DEFAULT 0,
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
    ADD FOREIGN KEY (project_id, dataset_id, merge_parent_id) REFERENCES dataforge.commits (project_id, dataset_id, id);
CREATE INDEX commits_merge_parent ON dataforge.commits (project_id, dataset_id, merge_parent_id) WHERE merge_parent_id IS NOT NULL;

SET LOCAL ROLE aidos_platform;
WITH RECURSIVE log AS (
    SELECT project_id, id, 0 AS generation FROM dataforge.commits WHERE parent_id IS NULL
     UNION ALL
    SELECT c.project_id, c.id, log.generation + 1 FROM log JOIN dataforge.commits c ON c.project_id = log.project_id AND c.parent_id = log.id
)
UPDATE dataforge.commits c SET generation = log.generation FROM log WHERE c.project_id = log.project_id AND c.id = log.id;
RESET ROLE;
