-- What the cluster's nodes have in all, as the queue saw them last: [[cpu, gpu, memory_gib], ...]. One row.
CREATE TABLE trainos.capacity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    nodes jsonb NOT NULL,
    seen_at timestamptz NOT NULL
);
SELECT cluster.wall('trainos.capacity', 'true');
REVOKE INSERT, UPDATE, DELETE ON trainos.capacity FROM aidos_app;
