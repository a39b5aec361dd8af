-- Tasks that are meant for certain annotators. `reserved` of a task's slots are kept for those of them who hold none yet; like `taken` it
-- stands in the task's row, so that whoever claims a slot sees it.
CREATE TABLE dataforge.label_assignments (
    project_id uuid NOT NULL,
    labelling_id uuid NOT NULL,
    task_id uuid NOT NULL,
    annotator_id uuid NOT NULL,
    annotator text NOT NULL,
    assigned_by text NOT NULL,
    assigned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project_id, task_id, annotator_id),
    FOREIGN KEY (project_id, task_id) REFERENCES dataforge.label_tasks (project_id, id) ON DELETE CASCADE
);
CREATE INDEX label_assignments_annotator ON dataforge.label_assignments (project_id, labelling_id, annotator_id);
SELECT cluster.wall_by_project('dataforge.label_assignments');

ALTER TABLE dataforge.label_tasks ADD COLUMN reserved int NOT NULL DEFAULT 0 CHECK (reserved >= 0);
DROP INDEX dataforge.label_tasks_queue;
CREATE INDEX label_tasks_queue ON dataforge.label_tasks (project_id, labelling_id, priority DESC, ordinal)
    WHERE state = 'open' AND gold IS NULL AND taken + reserved < overlap;
