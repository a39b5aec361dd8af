-- A project's events in the order in which readers see them.
CREATE INDEX events_tail ON cluster.events (project_id, xid, seq);
