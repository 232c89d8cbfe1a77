-- The audit log: one row per request to Twilio (written by the worker in its own transaction, so that it survives the
-- caller's rollback) and per change of settings or keys (written in the caller's transaction).
-- It holds no secret and no message body, and it only grows; prune_audit_log() is the one way to shorten it.

CREATE TABLE @extschema@.twilio_audit_log (
    user_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    id uuid NOT NULL DEFAULT twilio_private.uuid_v7(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    object text,
    outcome text NOT NULL,
    http_status int,
    error_code int,
    twilio_request_id text,
    duration_ms int,
    detail jsonb,
    PRIMARY KEY (user_id, id)
);
CREATE INDEX twilio_audit_log_at_idx ON @extschema@.twilio_audit_log USING brin (at);

COMMENT ON TABLE @extschema@.twilio_audit_log IS
    'What was done with a Twilio account: one row per request to Twilio and per change of settings. Append-only.
A user sees the own rows, twilio_admin sees all. No secrets, no message bodies.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.user_id IS 'The user (tenant); all zeros for what concerns the whole database.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.id IS 'UUID version 7, in order of time.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.at IS 'When it happened; for requests, when Twilio answered or failed to.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.actor IS
    'Database role that asked for it; pg_twilio worker where the worker carried out an order.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.action IS 'What was done, such as verify, phone_numbers, settings.update.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.object IS 'What it was done to, such as a SID or a column.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.outcome IS
    'ok, refused, rate limited, server error, unreachable, timeout, broken (an unreadable answer) or canceled.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.http_status IS 'HTTP status of Twilio''s answer.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.error_code IS 'Twilio''s error code.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.twilio_request_id IS 'Twilio''s id of the request (RQ…), which its support asks for.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.duration_ms IS 'Duration of the request in milliseconds.';
COMMENT ON COLUMN @extschema@.twilio_audit_log.detail IS 'More, such as the names of the columns that changed; never their values.';

ALTER TABLE @extschema@.twilio_audit_log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON @extschema@.twilio_audit_log FOR SELECT TO twilio_user
    USING (user_id = (SELECT @extschema@.twilio_current_user_id()));
CREATE POLICY administrators ON @extschema@.twilio_audit_log FOR SELECT TO twilio_admin USING (true);
GRANT SELECT ON @extschema@.twilio_audit_log TO twilio_user;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_audit_log', '');

CREATE FUNCTION twilio_private.refuse_rewriting() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only'
        USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('%s is not allowed on twilio_audit_log.', TG_OP),
              HINT = 'Old rows are removed with twilio_private.prune_audit_log(before).';
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_rewriting() IS 'Refuses every change to rows of the audit log, the owner''s too.';
REVOKE ALL ON FUNCTION twilio_private.refuse_rewriting() FROM PUBLIC;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON @extschema@.twilio_audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.refuse_rewriting();

-- session_replication_role = replica keeps the trigger above from firing; only a superuser can set it, so only here.
CREATE FUNCTION twilio_private.prune_audit_log(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET session_replication_role = replica
AS $$
DECLARE
    removed bigint;
BEGIN
    DELETE FROM @extschema@.twilio_audit_log l WHERE l.at < prune_audit_log.before;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;
COMMENT ON FUNCTION twilio_private.prune_audit_log(timestamptz) IS
    'Removes audit rows older than the given time and returns their number. For the superuser''s retention job.';
REVOKE ALL ON FUNCTION twilio_private.prune_audit_log(timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.record_requests(
    at timestamptz[], user_id uuid[], actor text[], action text[], object text[], outcome text[],
    http_status int[], error_code int[], request_id text[], duration_ms int[]
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.twilio_audit_log
        (at, user_id, actor, action, object, outcome, http_status, error_code, twilio_request_id, duration_ms)
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);
END
$$;
COMMENT ON FUNCTION twilio_private.record_requests(timestamptz[], uuid[], text[], text[], text[], text[], int[], int[], text[], int[]) IS
    'Adds one audit row per request to Twilio; the worker calls it with a batch of parallel arrays.';
REVOKE ALL ON FUNCTION twilio_private.record_requests(timestamptz[], uuid[], text[], text[], text[], text[], int[], int[], text[], int[])
    FROM PUBLIC;

CREATE FUNCTION twilio_private.audit(user_id uuid, action text, object text, detail jsonb DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.twilio_audit_log (user_id, actor, action, object, outcome, detail)
    VALUES (coalesce(audit.user_id, '00000000-0000-0000-0000-000000000000'), twilio_private.actor(),
            audit.action, audit.object, 'ok', audit.detail);
END
$$;
COMMENT ON FUNCTION twilio_private.audit(uuid, text, text, jsonb) IS
    'Adds an audit row for something done inside the database, in the caller''s transaction.';
REVOKE ALL ON FUNCTION twilio_private.audit(uuid, text, text, jsonb) FROM PUBLIC;
