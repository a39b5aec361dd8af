-- Each path under which a content ever came into a tree: where to look in a commit for it. A row may outlive the file, the trees
-- tell; it goes with the content.
CREATE TABLE dataforge.content_paths (
    project_id uuid NOT NULL,
    sha256 bytea NOT NULL,
    path text NOT NULL,
    PRIMARY KEY (project_id, sha256, path)
);
SELECT cluster.wall_by_project('dataforge.content_paths');

-- Of the trees that are there already. Paths end with a zero byte, the last one with the column (nodes.py).
CREATE FUNCTION pg_temp.node_paths(data bytea) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    rest bytea := substring(data FROM 11 FOR get_byte(data, 6) + 256 * get_byte(data, 7) + 65536 * get_byte(data, 8)) || '\x00';
BEGIN
    WHILE length(rest) > 0 LOOP
        RETURN NEXT convert_from(substring(rest FROM 1 FOR position('\x00'::bytea IN rest) - 1), 'UTF8');
        rest := substring(rest FROM position('\x00'::bytea IN rest) + 1);
    END LOOP;
END $$;

SET LOCAL ROLE aidos_platform;
INSERT INTO dataforge.content_paths (project_id, sha256, path)
SELECT DISTINCT n.project_id, file.sha256, file.path
  FROM dataforge.nodes n
 CROSS JOIN LATERAL ROWS FROM (dataforge.node_digests(n.data), pg_temp.node_paths(n.data)) AS file (sha256, path)
 WHERE n.level = 0 AND file.sha256 IS NOT NULL;
RESET ROLE;
DROP FUNCTION pg_temp.node_paths(bytea);
