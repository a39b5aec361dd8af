-- Questions about runs that a project keeps under a name.
CREATE TABLE modelhub.views (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    name text NOT NULL,
    query text NOT NULL,
    columns text[] NOT NULL,
    charts jsonb NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, name)
);
SELECT cluster.wall_by_project('modelhub.views');
