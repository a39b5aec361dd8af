-- Two roles, two walls (docs/adr/0005): aidos_app sees one tenant, aidos_platform sees all; the owner sees nothing.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aidos_app') THEN
        CREATE ROLE aidos_app NOLOGIN NOINHERIT;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aidos_platform') THEN
        CREATE ROLE aidos_platform NOLOGIN NOINHERIT;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- another database of the same server made them at this moment
END $$;
GRANT aidos_app, aidos_platform TO CURRENT_USER WITH INHERIT FALSE, SET TRUE;
GRANT USAGE ON SCHEMA cluster TO aidos_app, aidos_platform;

CREATE FUNCTION cluster.current_org() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT nullif(current_setting('aidos.org', true), '')::uuid $$;
CREATE FUNCTION cluster.current_project() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT nullif(current_setting('aidos.project', true), '')::uuid $$;

-- Close a table: row security on and forced, a tenant policy for aidos_app, all rows for aidos_platform, grants.
CREATE FUNCTION cluster.wall(target regclass, tenant_condition text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    schema_name text := (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target);
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY tenant ON %s TO aidos_app USING (%s) WITH CHECK (%s)', target, tenant_condition, tenant_condition);
    EXECUTE format('CREATE POLICY platform ON %s TO aidos_platform USING (true) WITH CHECK (true)', target);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO aidos_app, aidos_platform', schema_name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO aidos_app, aidos_platform', target);
END $$;
CREATE FUNCTION cluster.wall_by_project(target regclass) RETURNS void LANGUAGE sql
    AS $$ SELECT cluster.wall(target, 'project_id = (SELECT cluster.current_project())') $$;
CREATE FUNCTION cluster.wall_by_org(target regclass) RETURNS void LANGUAGE sql
    AS $$ SELECT cluster.wall(target, 'org_id = (SELECT cluster.current_org())') $$;

-- The outbox. xid orders what sequences cannot: a cursor never passes a transaction that is still open.
CREATE TABLE cluster.events (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id uuid PRIMARY KEY,
    type text NOT NULL,
    subject text NOT NULL,
    org_id uuid NOT NULL,
    project_id uuid,
    actor text NOT NULL,
    data jsonb NOT NULL,
    traceparent text,
    time timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX events_order ON cluster.events (xid, seq);
CREATE INDEX events_project ON cluster.events (project_id, seq);
SELECT cluster.wall('cluster.events', 'org_id = (SELECT cluster.current_org())');

CREATE TABLE cluster.event_cursors (
    consumer text PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT '0',
    seq bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
);
SELECT cluster.wall('cluster.event_cursors', 'false');

-- Leases: the epoch grows with every new holder and fences the writes of the old one.
CREATE TABLE cluster.leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
SELECT cluster.wall('cluster.leases', 'false');

-- Answers to requests that carried an Idempotency-Key, kept in the transaction of their effect.
CREATE TABLE cluster.idempotency (
    org_id uuid NOT NULL,
    principal text NOT NULL,
    key text NOT NULL,
    request_sha256 bytea NOT NULL,
    status int NOT NULL DEFAULT 0,
    headers jsonb NOT NULL DEFAULT '{}',
    body bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, principal, key)
);
CREATE INDEX idempotency_age ON cluster.idempotency (created_at);
SELECT cluster.wall_by_org('cluster.idempotency');
