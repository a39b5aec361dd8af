-- What each generation of an endpoint asked for: which version answered a prediction stays known after the endpoint serves another.
CREATE TABLE deployengine.deployments (
    project_id uuid NOT NULL,
    endpoint_id uuid NOT NULL REFERENCES deployengine.endpoints (id),
    generation int NOT NULL,
    model text NOT NULL,
    version int NOT NULL,
    model_version_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    ready_at timestamptz,
    PRIMARY KEY (endpoint_id, generation)
);
SELECT cluster.wall_by_project('deployengine.deployments');
INSERT INTO deployengine.deployments (project_id, endpoint_id, generation, model, version, model_version_id, created_at, ready_at)
SELECT project_id, id, generation, model, version, model_version_id, updated_at, CASE WHEN state = 'READY' THEN updated_at END
  FROM deployengine.endpoints;
