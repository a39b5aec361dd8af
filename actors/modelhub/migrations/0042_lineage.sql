-- The folders of buckets that commits were imported from, among all other edges.
CREATE INDEX edges_imported ON modelhub.edges (project_id, source_id) WHERE source_kind = 'dataset' AND relation = 'imported as';
