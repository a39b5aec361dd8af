CREATE SCHEMA deployengine;

CREATE TABLE deployengine.endpoints (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    name text NOT NULL,
    route text NOT NULL,
    model text NOT NULL,
    version int NOT NULL,
    model_version_id uuid NOT NULL,
    replicas int NOT NULL CHECK (replicas BETWEEN 1 AND 100),
    cpus double precision NOT NULL CHECK (cpus >= 0),
    state text NOT NULL,
    reason text NOT NULL DEFAULT '',
    generation int NOT NULL DEFAULT 1,
    deployed_generation int NOT NULL DEFAULT 0,
    lease_id uuid,
    traceparent text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    lock_token uuid,
    locked_until timestamptz,
    attempts int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text
);
-- A deleted endpoint stays as a row, because predictions and lineage name it; its name is free again.
CREATE UNIQUE INDEX endpoints_name ON deployengine.endpoints (project_id, name) WHERE state <> 'DELETED';
-- Two organisations may both have a project 'vision': whoever comes second gets a route by project id (service.create_endpoint).
CREATE UNIQUE INDEX endpoints_route ON deployengine.endpoints (route) WHERE state <> 'DELETED';
CREATE INDEX endpoints_work ON deployengine.endpoints (next_attempt_at) WHERE state <> 'DELETED' AND state <> 'FAILED';
SELECT cluster.wall_by_project('deployengine.endpoints');
