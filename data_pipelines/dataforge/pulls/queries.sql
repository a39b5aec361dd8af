-- create_pull_request --
WITH counted AS (
    UPDATE dataforge.datasets SET pull_requests = pull_requests + 1
     WHERE project_id = %(project_id)s AND id = %(dataset_id)s
    RETURNING pull_requests AS number
)
INSERT INTO dataforge.pull_requests (project_id, id, dataset_id, number, title, description, source, target, author, author_id)
SELECT %(project_id)s, %(id)s, %(dataset_id)s, number, %(title)s, %(description)s, %(source)s, %(target)s, %(author)s, %(author_id)s
  FROM counted
RETURNING id, dataset_id, number, title, description, source, target, state, author, author_id, head_id, base_id, merge_commit_id,
          closed_by, created_at, updated_at, closed_at;

-- find_pull_request --
SELECT id, dataset_id, number, title, description, source, target, state, author, author_id, head_id, base_id, merge_commit_id,
       closed_by, created_at, updated_at, closed_at
  FROM dataforge.pull_requests
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND number = %(number)s;

-- list_pull_requests --
SELECT id, dataset_id, number, title, description, source, target, state, author, author_id, head_id, base_id, merge_commit_id,
       closed_by, created_at, updated_at, closed_at
  FROM dataforge.pull_requests
 WHERE project_id = %(project_id)s AND dataset_id = %(dataset_id)s AND (%(state)s::text IS NULL OR state = %(state)s)
   AND (%(before)s::integer IS NULL OR number < %(before)s)
 ORDER BY number DESC
 LIMIT %(limit)s;

-- change_pull_request --
UPDATE dataforge.pull_requests
   SET title = coalesce(%(title)s, title), description = coalesce(%(description)s, description), updated_at = clock_timestamp()
 WHERE project_id = %(project_id)s AND id = %(id)s
RETURNING id, dataset_id, number, title, description, source, target, state, author, author_id, head_id, base_id, merge_commit_id,
          closed_by, created_at, updated_at, closed_at;

-- move_pull_request --
UPDATE dataforge.pull_requests
   SET state = %(state)s, head_id = %(head_id)s, base_id = %(base_id)s, merge_commit_id = %(merge_commit_id)s,
       closed_by = %(closed_by)s, updated_at = clock_timestamp(),
       closed_at = CASE WHEN %(state)s = 'open' THEN NULL ELSE clock_timestamp() END
 WHERE project_id = %(project_id)s AND id = %(id)s AND state = %(expected)s
RETURNING id, dataset_id, number, title, description, source, target, state, author, author_id, head_id, base_id, merge_commit_id,
          closed_by, created_at, updated_at, closed_at;

-- insert_review --
INSERT INTO dataforge.pull_reviews (project_id, id, pull_request_id, verdict, body, path, commit_id, author, author_id)
VALUES (%(project_id)s, %(id)s, %(pull_request_id)s, %(verdict)s, %(body)s, %(path)s, %(commit_id)s, %(author)s, %(author_id)s)
RETURNING id, verdict, body, path, commit_id, author, author_id, created_at;

-- list_reviews --
SELECT id, verdict, body, path, commit_id, author, author_id, created_at
  FROM dataforge.pull_reviews
 WHERE project_id = %(project_id)s AND pull_request_id = %(pull_request_id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
 ORDER BY id
 LIMIT %(limit)s;
