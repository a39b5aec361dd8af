-- Labelling projects: questions about the items (files, or rows of one) of a commit. A tag keeps the commit.
CREATE TABLE dataforge.labellings (
    project_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    dataset_id uuid NOT NULL,
    commit_id uuid NOT NULL,
    questions jsonb NOT NULL,
    instructions text NOT NULL,
    overlap int NOT NULL CHECK (overlap > 0),
    review boolean NOT NULL,
    consensus text NOT NULL,
    gold_every int NOT NULL,
    most_skips int NOT NULL,
    lease_s int NOT NULL,
    item_order text NOT NULL DEFAULT 'listed',
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    PRIMARY KEY (project_id, id),
    CONSTRAINT labellings_name UNIQUE (project_id, name),
    FOREIGN KEY (project_id, dataset_id) REFERENCES dataforge.datasets (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('dataforge.labellings');

-- `taken` of `overlap` slots are leased or submitted: the queue gives a task out while one is free. The count stands in the row,
-- so that two claims of one task see each other whatever their snapshots.
CREATE TABLE dataforge.label_tasks (
    project_id uuid NOT NULL,
    id uuid NOT NULL,
    labelling_id uuid NOT NULL,
    ordinal int NOT NULL,
    path text NOT NULL,
    row_number int,
    data jsonb,
    width int,
    height int,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'review', 'disputed', 'done')),
    overlap int NOT NULL,
    taken int NOT NULL DEFAULT 0 CHECK (taken >= 0),
    submitted int NOT NULL DEFAULT 0 CHECK (submitted >= 0),
    skips int NOT NULL DEFAULT 0,
    priority float8 NOT NULL DEFAULT 0,
    gold jsonb,
    prediction jsonb,
    label jsonb,
    source text,
    decided_by text,
    comment text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, id),
    CONSTRAINT label_tasks_item UNIQUE NULLS NOT DISTINCT (project_id, labelling_id, path, row_number),
    FOREIGN KEY (project_id, labelling_id) REFERENCES dataforge.labellings (project_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX label_tasks_ordinal ON dataforge.label_tasks (project_id, labelling_id, ordinal);
CREATE INDEX label_tasks_queue ON dataforge.label_tasks (project_id, labelling_id, priority DESC, ordinal)
    WHERE state = 'open' AND gold IS NULL AND taken < overlap;
CREATE INDEX label_tasks_gold ON dataforge.label_tasks (project_id, labelling_id) WHERE gold IS NOT NULL;
SELECT cluster.wall_by_project('dataforge.label_tasks');

CREATE TABLE dataforge.label_annotators (
    project_id uuid NOT NULL,
    labelling_id uuid NOT NULL,
    annotator_id uuid NOT NULL,
    annotator text NOT NULL,
    asked int NOT NULL DEFAULT 0,
    gold_asked int NOT NULL DEFAULT 0,
    gold_right int NOT NULL DEFAULT 0,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, labelling_id, annotator_id),
    CONSTRAINT label_annotators_name UNIQUE (project_id, labelling_id, annotator),
    FOREIGN KEY (project_id, labelling_id) REFERENCES dataforge.labellings (project_id, id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('dataforge.label_annotators');

-- One annotator's turn at a task. A lease that nobody renews ends by PostgreSQL's clock, and the slot is another's.
CREATE TABLE dataforge.label_slots (
    project_id uuid NOT NULL,
    labelling_id uuid NOT NULL,
    task_id uuid NOT NULL,
    annotator_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('leased', 'submitted', 'skipped', 'returned')),
    version int NOT NULL DEFAULT 0,
    submitted_version int,
    reason text NOT NULL DEFAULT '',
    leased_until timestamptz,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    submitted_at timestamptz,
    PRIMARY KEY (project_id, task_id, annotator_id),
    CHECK ((state = 'leased') = (leased_until IS NOT NULL)),
    CHECK ((state = 'submitted') = (submitted_version IS NOT NULL)),
    FOREIGN KEY (project_id, task_id) REFERENCES dataforge.label_tasks (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, labelling_id, annotator_id)
        REFERENCES dataforge.label_annotators (project_id, labelling_id, annotator_id) ON DELETE CASCADE
);
CREATE INDEX label_slots_leased ON dataforge.label_slots (project_id, labelling_id, leased_until) WHERE state = 'leased';
CREATE INDEX label_slots_annotator ON dataforge.label_slots (project_id, labelling_id, annotator_id, started_at DESC);
SELECT cluster.wall_by_project('dataforge.label_slots');

-- Every state that an annotation ever had: undo is a new version with an old value.
CREATE TABLE dataforge.label_versions (
    project_id uuid NOT NULL,
    task_id uuid NOT NULL,
    annotator_id uuid NOT NULL,
    version int NOT NULL,
    stage text NOT NULL,
    value jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project_id, task_id, annotator_id, version),
    FOREIGN KEY (project_id, task_id, annotator_id)
        REFERENCES dataforge.label_slots (project_id, task_id, annotator_id) ON DELETE CASCADE
);
SELECT cluster.wall_by_project('dataforge.label_versions');
