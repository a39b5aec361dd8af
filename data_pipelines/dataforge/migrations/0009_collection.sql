-- A dry run deletes nothing: its counts are of what would go, `unreachable` names the first of the commits. It may run beside a collection.
ALTER TABLE dataforge.collections
    ADD COLUMN dry_run boolean NOT NULL DEFAULT false,
    ADD COLUMN unreachable uuid[] NOT NULL DEFAULT '{}';
DROP INDEX dataforge.collections_open;
CREATE UNIQUE INDEX collections_open ON dataforge.collections (project_id, dry_run) WHERE finished_at IS NULL;
