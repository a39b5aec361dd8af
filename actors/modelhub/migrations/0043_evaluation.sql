-- Evaluation datasets: what an application is asked, and what is expected of it. A record is one of its kind by its inputs.
CREATE TABLE modelhub.evaluation_datasets (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    name text NOT NULL,
    tags jsonb NOT NULL DEFAULT '{}',
    schema jsonb,
    experiment_ids uuid[] NOT NULL DEFAULT '{}',
    created_by text,
    updated_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, id)
);
CREATE INDEX evaluation_datasets_newest ON modelhub.evaluation_datasets (project_id, created_at DESC, id DESC);
SELECT cluster.wall_by_project('modelhub.evaluation_datasets');

CREATE TABLE modelhub.evaluation_records (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    digest text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, dataset_id, digest),
    FOREIGN KEY (project_id, dataset_id) REFERENCES modelhub.evaluation_datasets (project_id, id) ON DELETE CASCADE
);
CREATE INDEX evaluation_records_order ON modelhub.evaluation_records (dataset_id, id);
SELECT cluster.wall_by_project('modelhub.evaluation_records');

-- Judges of an experiment, as their clients wrote them; a name that is registered again is its next version.
CREATE TABLE modelhub.scorers (
    project_id uuid NOT NULL,
    experiment_id uuid NOT NULL,
    name text NOT NULL,
    version int NOT NULL,
    scorer_id uuid NOT NULL,
    serialized text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, experiment_id, name, version),
    FOREIGN KEY (project_id, experiment_id) REFERENCES modelhub.experiments (project_id, id)
);
SELECT cluster.wall_by_project('modelhub.scorers');
