-- twilio_status: is it working, and if nothing is sent, why not.

CREATE FUNCTION twilio_private.key_file_trouble() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    current_key text;
    trouble text;
BEGIN
    current_key := twilio_private.current_key_id();
    IF EXISTS (SELECT FROM twilio_private.credential c WHERE c.key_id = current_key) THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT format('The keys that seal the stored credentials, such as "%s", are not in it. '
                          'Put them back, or have the credentials entered again.', min(k.key_id))
            FROM (SELECT DISTINCT c.key_id FROM twilio_private.credential c) k
            HAVING NOT bool_or(twilio_private.has_key(k.key_id)));
EXCEPTION WHEN undefined_file THEN
    GET STACKED DIAGNOSTICS trouble = PG_EXCEPTION_DETAIL;
    RETURN trouble;
END
$$;
COMMENT ON FUNCTION twilio_private.key_file_trouble() IS 'Why no credential can be opened: what is wrong with the key file, or null.';
REVOKE ALL ON FUNCTION twilio_private.key_file_trouble() FROM PUBLIC;

CREATE FUNCTION twilio_private.account_trouble(user_id uuid, OUT reason text, OUT hint text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settings @extschema@.twilio_settings;
BEGIN
    SELECT * INTO settings FROM @extschema@.twilio_settings s WHERE s.user_id = account_trouble.user_id;
    IF account_trouble.user_id IS NULL THEN
        reason := 'no Twilio user is known';
        hint := twilio_private.identity_hint();
    ELSIF settings.user_id IS NULL THEN
        reason := 'no Twilio account is configured for the current user';
        hint := 'Configure it: INSERT INTO twilio_settings (account_sid, auth_token) VALUES (…).';
    ELSIF NOT settings.is_active THEN
        reason := 'the Twilio account is switched off';
        hint := 'Switch it on: UPDATE twilio_settings SET is_active = true WHERE user_id = twilio_current_user_id().';
    ELSIF NOT EXISTS (SELECT FROM twilio_private.credential c WHERE c.user_id = account_trouble.user_id) THEN
        reason := 'no Twilio credential is stored';
        hint := 'The settings were restored without it: enter the Auth Token (and the API key, if there is one) again.';
    ELSIF EXISTS (SELECT FROM twilio_private.credential c
                  WHERE c.user_id = account_trouble.user_id AND NOT twilio_private.has_key(c.key_id)) THEN
        reason := 'the stored Twilio credential cannot be opened: its key is not in the key file';
        hint := 'Enter the Auth Token (and the API key, if there is one) again, or have the server''s administrator put the key back.';
    ELSIF settings.verification_error IS NOT NULL THEN
        reason := settings.verification_error;
        hint := 'Correct the settings, or the account at Twilio, then verify: SELECT * FROM twilio_verify().';
    ELSIF NOT settings.is_verified THEN
        reason := 'the credentials have not been verified since they were entered';
        hint := 'Verify them: SELECT * FROM twilio_verify().';
    ELSIF NOT settings.sms_enabled THEN
        reason := 'SMS is switched off';
        hint := 'Switch it on: UPDATE twilio_settings SET sms_enabled = true WHERE user_id = twilio_current_user_id().';
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.account_trouble(uuid) IS 'Why a user''s own account cannot send, and what to do; nulls when it can.';
REVOKE ALL ON FUNCTION twilio_private.account_trouble(uuid) FROM PUBLIC;

-- SECURITY DEFINER: functions in a view run with the rights of whoever reads it. EXECUTE is granted, but without USAGE
-- on the schema the view is the only way here. What tells of other users is left out unless an administrator asks.
CREATE FUNCTION twilio_private.status(
    administrator boolean, OUT running boolean, OUT state text, OUT armed boolean, OUT enabled boolean, OUT reason text, OUT hint text,
    OUT queued bigint, OUT lag interval, OUT pid int, OUT started_at timestamptz, OUT in_flight int, OUT asks_answered bigint,
    OUT sent bigint, OUT failed bigint, OUT last_error text, OUT last_error_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller CONSTANT uuid := @extschema@.twilio_current_user_id();
    worker record;
BEGIN
    SELECT * INTO worker FROM twilio_private.worker_stats();
    running := coalesce(worker.running, false);
    state := worker.state;
    armed := twilio_private.armed();
    enabled := coalesce(current_setting('twilio.enabled', true)::boolean, true);

    IF state = 'not preloaded' THEN
        reason := 'pg_twilio is not loaded at server start';
        hint := 'Add shared_preload_libraries = ''pg_twilio'' to postgresql.conf and restart the server.';
    ELSIF pg_is_in_recovery() THEN
        reason := 'this server is a standby';
        hint := 'Nothing is sent from a standby. The worker starts when it is promoted.';
    ELSIF NOT running THEN
        reason := format('the worker is not running: %s', coalesce(state, 'unknown'));
        hint := CASE WHEN state LIKE 'paused%'
            THEN 'Run ALTER EXTENSION pg_twilio UPDATE, and restart the server when the library is the older.'
            ELSE 'Look for twilio: in the server log; a full worker table needs a higher max_worker_processes.'
        END;
    ELSIF row_security_active('twilio_private.arming'::regclass) THEN
        reason := 'the owner of the extension is no superuser any more, so its functions see no row';
        hint := format('Make it one again: ALTER ROLE %I SUPERUSER.', current_user);
    ELSIF NOT enabled THEN
        reason := 'twilio.enabled is off';
        hint := 'Set twilio.enabled = on and reload the server.';
    ELSIF (current_setting('twilio.edge') = '') <> (current_setting('twilio.region') = '') THEN
        reason := 'of twilio.edge and twilio.region only one is set';
        hint := 'Set both or neither, and reload the server.';
    ELSIF twilio_private.key_file_trouble() IS NOT NULL THEN
        reason := 'no credential can be opened: the key file cannot be used';
        hint := twilio_private.key_file_trouble();
    ELSIF NOT EXISTS (SELECT FROM twilio_private.arming) THEN
        reason := 'no account has been stored yet';
        hint := 'The first one arms this database: INSERT INTO twilio_settings (account_sid, auth_token) VALUES (…).';
    ELSIF NOT armed AND EXISTS (SELECT FROM twilio_private.arming a WHERE NOT a.armed) THEN
        reason := 'this database was disarmed';
        hint := 'An administrator arms it: SELECT twilio_arm().';
    ELSIF NOT armed THEN
        reason := 'this database is a copy: it was armed on another cluster, as another database or before a restore';
        hint := 'If it is to send from now on, an administrator arms it: SELECT twilio_arm().';
    ELSIF NOT administrator OR EXISTS (SELECT FROM @extschema@.twilio_settings s WHERE s.user_id = caller) THEN
        SELECT t.reason, t.hint INTO reason, hint FROM twilio_private.account_trouble(caller) t;
    END IF;

    SELECT count(*), coalesce(date_trunc('milliseconds', clock_timestamp() - min(o.due_at)
                                                         FILTER (WHERE o.due_at <= clock_timestamp())), '0')
    INTO queued, lag
    FROM twilio_private.outbox o
    WHERE o.kind = 'message' AND o.state = 'queued' AND (administrator OR o.user_id = caller);
    IF administrator THEN
        pid := worker.pid;
        started_at := worker.started_at;
        in_flight := worker.in_flight;
        asks_answered := worker.asks_answered;
        sent := worker.sent;
        failed := worker.failed;
        last_error := worker.last_error;
        last_error_at := worker.last_error_at;
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.status(boolean) IS 'The row of twilio_status.';
REVOKE ALL ON FUNCTION twilio_private.status(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION twilio_private.status(boolean) TO twilio_user;

CREATE VIEW @extschema@.twilio_status WITH (security_barrier) AS
    SELECT s.running, s.state, s.armed, s.enabled, s.reason, s.hint, s.queued, s.lag, s.pid, s.started_at, s.in_flight,
           s.asks_answered, s.sent, s.failed, s.last_error, s.last_error_at
    FROM twilio_private.status(pg_has_role(current_user, 'twilio_admin', 'USAGE')) s;
COMMENT ON VIEW @extschema@.twilio_status IS
    'Whether the worker of this database runs, and why nothing is sent, by anybody or by the current user.
One row; twilio_tenant_status has one per user. The figures from pid on are for administrators; others read null there.';
COMMENT ON COLUMN @extschema@.twilio_status.running IS 'Whether the worker runs.';
COMMENT ON COLUMN @extschema@.twilio_status.state IS 'What the worker is doing, such as running or paused.';
COMMENT ON COLUMN @extschema@.twilio_status.armed IS 'Whether this database may send orders; questions are asked in any case.';
COMMENT ON COLUMN @extschema@.twilio_status.enabled IS 'The setting twilio.enabled.';
COMMENT ON COLUMN @extschema@.twilio_status.reason IS
    'Why nothing is sent: first what holds for all, then what is wrong with the own account; null when all is well.';
COMMENT ON COLUMN @extschema@.twilio_status.hint IS 'What to do about it.';
COMMENT ON COLUMN @extschema@.twilio_status.queued IS 'Messages that wait: the own ones, for administrators all.';
COMMENT ON COLUMN @extschema@.twilio_status.lag IS 'For how long the oldest of them has been due.';
COMMENT ON COLUMN @extschema@.twilio_status.pid IS 'Process id of the worker.';
COMMENT ON COLUMN @extschema@.twilio_status.started_at IS 'When the worker started.';
COMMENT ON COLUMN @extschema@.twilio_status.in_flight IS 'Requests in flight now.';
COMMENT ON COLUMN @extschema@.twilio_status.asks_answered IS 'Synchronous questions answered since the worker started.';
COMMENT ON COLUMN @extschema@.twilio_status.sent IS 'Orders that Twilio accepted since the worker started.';
COMMENT ON COLUMN @extschema@.twilio_status.failed IS 'Orders that Twilio refused since the worker started.';
COMMENT ON COLUMN @extschema@.twilio_status.last_error IS 'The last thing that went wrong.';
COMMENT ON COLUMN @extschema@.twilio_status.last_error_at IS 'When that was.';
GRANT SELECT ON @extschema@.twilio_status TO twilio_user;
