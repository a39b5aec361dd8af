-- Traces of programs and what people and judges say of them. A client chooses `trace_id`; its spans are an artifact of `id`.
CREATE TABLE modelhub.traces (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    trace_id text NOT NULL,
    experiment_id uuid NOT NULL,
    client_request_id text,
    request_preview text,
    response_preview text,
    requested_at timestamptz NOT NULL,
    duration_ms bigint,
    state text NOT NULL CHECK (state IN ('STATE_UNSPECIFIED', 'OK', 'ERROR', 'IN_PROGRESS')),
    metadata jsonb NOT NULL DEFAULT '{}',
    tags jsonb NOT NULL DEFAULT '{}',
    UNIQUE (project_id, trace_id),
    UNIQUE (project_id, id),
    FOREIGN KEY (project_id, experiment_id) REFERENCES modelhub.experiments (project_id, id)
);
CREATE INDEX traces_newest ON modelhub.traces (experiment_id, requested_at DESC, id DESC);
SELECT cluster.wall_by_project('modelhub.traces');

CREATE TABLE modelhub.assessments (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    trace uuid NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (project_id, trace) REFERENCES modelhub.traces (project_id, id) ON DELETE CASCADE
);
CREATE INDEX assessments_trace ON modelhub.assessments (trace, id);
SELECT cluster.wall_by_project('modelhub.assessments');
