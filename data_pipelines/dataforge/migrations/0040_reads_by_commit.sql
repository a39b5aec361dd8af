-- Who read anything of a commit: the runs that a bad file of it may have reached.
CREATE INDEX reads_commit ON dataforge.reads (project_id, commit_id);
