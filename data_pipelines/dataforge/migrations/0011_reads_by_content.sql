-- A content's file in one source without reading the source's other files: the runs that read it are walked newest first.
DROP INDEX dataforge.read_files_content;
CREATE INDEX read_files_content ON dataforge.read_files (project_id, sha256, source);
