-- What the engine needs in the database: its schema, the group roles, the functions that C++ offers to SQL, and the
-- table of sealed credentials. Nothing in twilio_private is granted to anyone; definer functions reach it.

-- Nothing planted in another schema may be found by what follows.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Others cannot even read this script; this one could not read what Twilio says.
DO $$
BEGIN
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
        RAISE EXCEPTION 'pg_twilio cannot be installed in a database in the encoding SQL_ASCII'
            USING ERRCODE = 'feature_not_supported', HINT = 'Create the database with ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$$;

CREATE SCHEMA twilio_private;
COMMENT ON SCHEMA twilio_private IS 'Internals of pg_twilio. Nobody but its own functions may use it.';
REVOKE ALL ON SCHEMA twilio_private FROM PUBLIC;

DO $$
DECLARE
    role_name name;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['twilio_user', 'twilio_admin', 'twilio_webhook'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = role_name) THEN
            BEGIN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database was faster
            END;
        END IF;
    END LOOP;
    IF NOT pg_catalog.pg_has_role('twilio_admin', 'twilio_user', 'MEMBER') THEN
        GRANT twilio_user TO twilio_admin;
    END IF;
END
$$;

-- ---- identity ------------------------------------------------------------------------------------------------------

CREATE FUNCTION twilio_private.identity_source() RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_twilio_identity_source';
COMMENT ON FUNCTION twilio_private.identity_source() IS 'The value of twilio.identity: auto, jwt, setting or role.';
REVOKE ALL ON FUNCTION twilio_private.identity_source() FROM PUBLIC;

CREATE FUNCTION twilio_private.uuid_v7() RETURNS uuid
LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_twilio_uuid_v7';
COMMENT ON FUNCTION twilio_private.uuid_v7() IS 'A new UUID of version 7 (RFC 9562); later ones of a session sort behind earlier ones.';
REVOKE ALL ON FUNCTION twilio_private.uuid_v7() FROM PUBLIC;

CREATE FUNCTION twilio_private.system_identifier() RETURNS bigint
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_twilio_system_identifier';
COMMENT ON FUNCTION twilio_private.system_identifier() IS
    'The identifier of this cluster, as pg_control_system() has it, without reading pg_control each time.';
REVOKE ALL ON FUNCTION twilio_private.system_identifier() FROM PUBLIC;

CREATE FUNCTION twilio_private.was_cut_off_long_ago() RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_twilio_was_cut_off_long_ago';
COMMENT ON FUNCTION twilio_private.was_cut_off_long_ago() IS
    'Whether this server was started on files that had not been written for a while and not been closed, as those of a snapshot.';
REVOKE ALL ON FUNCTION twilio_private.was_cut_off_long_ago() FROM PUBLIC;

CREATE FUNCTION twilio_private.database_oid() RETURNS oid
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_twilio_database_oid';
COMMENT ON FUNCTION twilio_private.database_oid() IS 'The OID of this database.';
REVOKE ALL ON FUNCTION twilio_private.database_oid() FROM PUBLIC;

-- ---- secrets -------------------------------------------------------------------------------------------------------

CREATE FUNCTION twilio_private.stash_clear() RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_stash_clear';
COMMENT ON FUNCTION twilio_private.stash_clear() IS 'Forgets what stash_put kept for an earlier statement.';
REVOKE ALL ON FUNCTION twilio_private.stash_clear() FROM PUBLIC;

CREATE FUNCTION twilio_private.stash_put(user_id uuid, kind text, secret text, replace boolean) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_stash_put';
COMMENT ON FUNCTION twilio_private.stash_put(uuid, text, text, boolean) IS
    'Seals a secret and keeps it for the AFTER trigger of the same statement; without replace the first one wins.';
REVOKE ALL ON FUNCTION twilio_private.stash_put(uuid, text, text, boolean) FROM PUBLIC;

CREATE FUNCTION twilio_private.stash_take(user_id uuid, kind text, OUT key_id text, OUT sealed bytea)
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_stash_take';
COMMENT ON FUNCTION twilio_private.stash_take(uuid, text) IS 'Takes out what stash_put kept; nulls when there is nothing.';
REVOKE ALL ON FUNCTION twilio_private.stash_take(uuid, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.reseal(user_id uuid, kind text, old_key_id text, old_sealed bytea, OUT key_id text, OUT sealed bytea)
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_reseal';
COMMENT ON FUNCTION twilio_private.reseal(uuid, text, text, bytea) IS 'Opens a sealed credential and seals it with the first key of the key file.';
REVOKE ALL ON FUNCTION twilio_private.reseal(uuid, text, text, bytea) FROM PUBLIC;

CREATE FUNCTION twilio_private.current_key_id() RETURNS text
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_current_key_id';
COMMENT ON FUNCTION twilio_private.current_key_id() IS 'The id of the key that seals: the first in the key file.';
REVOKE ALL ON FUNCTION twilio_private.current_key_id() FROM PUBLIC;

CREATE FUNCTION twilio_private.has_key(key_id text) RETURNS boolean
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_has_key';
COMMENT ON FUNCTION twilio_private.has_key(text) IS 'Whether this key is in the key file.';
REVOKE ALL ON FUNCTION twilio_private.has_key(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.add_key() RETURNS text
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_add_key';
COMMENT ON FUNCTION twilio_private.add_key() IS 'Puts a new key first into the key file and returns its id.';
REVOKE ALL ON FUNCTION twilio_private.add_key() FROM PUBLIC;

CREATE TABLE twilio_private.credential (
    user_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('auth_token', 'api_key_secret')),
    key_id text NOT NULL,
    sealed bytea NOT NULL,
    previous_key_id text,
    previous_sealed bytea,
    previous_until timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, kind),
    CONSTRAINT previous_is_whole_or_absent
        CHECK ((previous_sealed IS NULL) = (previous_key_id IS NULL) AND (previous_sealed IS NULL) = (previous_until IS NULL))
);
ALTER TABLE twilio_private.credential ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
COMMENT ON TABLE twilio_private.credential IS
    'Sealed credentials: pgcrypto PGP messages that open with a key of twilio.key_file and only for their owner.';
COMMENT ON COLUMN twilio_private.credential.user_id IS 'Whose credential it is.';
COMMENT ON COLUMN twilio_private.credential.kind IS 'auth_token or api_key_secret.';
COMMENT ON COLUMN twilio_private.credential.key_id IS 'Which key of the key file opens it.';
COMMENT ON COLUMN twilio_private.credential.sealed IS 'The sealed secret, bound to user_id and kind.';
COMMENT ON COLUMN twilio_private.credential.previous_key_id IS 'Which key opens the previous auth token.';
COMMENT ON COLUMN twilio_private.credential.previous_sealed IS 'The previous auth token, which still validates webhooks for a while.';
COMMENT ON COLUMN twilio_private.credential.previous_until IS 'When the previous auth token stops to validate webhooks (twilio.token_grace).';
COMMENT ON COLUMN twilio_private.credential.updated_at IS 'When the secret was stored; sealing it anew under another key does not change that.';
SELECT pg_catalog.pg_extension_config_dump('twilio_private.credential', '');

CREATE FUNCTION twilio_private.store_credential(user_id uuid, kind text, key_id text, sealed bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    grace interval := current_setting('twilio.token_grace')::interval;
    -- Only a token that worked is believed for longer: one with a typing error does not take the place of the one before.
    worked boolean := kind = 'auth_token' AND EXISTS (
        SELECT FROM @extschema@.twilio_settings s WHERE s.user_id = store_credential.user_id AND s.last_verified_at IS NOT NULL);
BEGIN
    INSERT INTO twilio_private.credential AS c (user_id, kind, key_id, sealed)
    VALUES (store_credential.user_id, store_credential.kind, store_credential.key_id, store_credential.sealed)
    ON CONFLICT (user_id, kind) DO UPDATE
        SET key_id = EXCLUDED.key_id,
            sealed = EXCLUDED.sealed,
            previous_key_id = CASE WHEN NOT worked THEN c.previous_key_id WHEN grace > '0' THEN c.key_id END,
            previous_sealed = CASE WHEN NOT worked THEN c.previous_sealed WHEN grace > '0' THEN c.sealed END,
            previous_until = CASE WHEN NOT worked THEN c.previous_until WHEN grace > '0' THEN clock_timestamp() + grace END,
            updated_at = clock_timestamp();
    PERFORM twilio_private.close_breaker(store_credential.user_id);
END
$$;
COMMENT ON FUNCTION twilio_private.store_credential(uuid, text, text, bytea) IS
    'Stores a sealed credential; a replaced auth token that worked stays valid for webhooks for twilio.token_grace.
Orders that waited because Twilio refused the old one go on.';
REVOKE ALL ON FUNCTION twilio_private.store_credential(uuid, text, text, bytea) FROM PUBLIC;

CREATE FUNCTION twilio_private.end_token_grace(user_id uuid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE twilio_private.credential c SET previous_key_id = NULL, previous_sealed = NULL, previous_until = NULL
    WHERE c.user_id = end_token_grace.user_id AND c.previous_until IS NOT NULL
$$;
COMMENT ON FUNCTION twilio_private.end_token_grace(uuid) IS 'Forgets the previous auth token of a user.';
REVOKE ALL ON FUNCTION twilio_private.end_token_grace(uuid) FROM PUBLIC;

CREATE FUNCTION twilio_private.forget_credential(user_id uuid, kind text DEFAULT NULL) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM twilio_private.credential c
    WHERE c.user_id = forget_credential.user_id
      AND (forget_credential.kind IS NULL OR c.kind = forget_credential.kind)
$$;
COMMENT ON FUNCTION twilio_private.forget_credential(uuid, text) IS 'Deletes the credentials of a user, or one kind of them.';
REVOKE ALL ON FUNCTION twilio_private.forget_credential(uuid, text) FROM PUBLIC;

-- ---- requests ------------------------------------------------------------------------------------------------------

CREATE FUNCTION twilio_private.ask(
    user_id uuid, action text, object text, username text, kind text, key_id text, sealed bytea,
    method text, host text, path text, content text, content_type text, counted boolean, deadline timestamptz,
    OUT http_status integer, OUT error_code integer, OUT error_message text, OUT body jsonb)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pg_twilio_ask';
COMMENT ON FUNCTION twilio_private.ask(uuid, text, text, text, text, text, bytea, text, text, text, text, text, boolean, timestamptz) IS
    'One HTTPS request to Twilio through the worker, answered in the same statement.
Returns definite answers (2xx, 4xx but 429). Raises 25006 in a read-only transaction, 55000 when not preloaded, PT409 when
switched off or the credential does not open, PT429, PT502 and PT504. What is no GET leaves at most once, whatever becomes of
its answer. content: of the type content_type, null for none. counted: charge twilio.api_rate_limit.
deadline: null means now plus twilio.ask_timeout.';
REVOKE ALL ON FUNCTION twilio_private.ask(uuid, text, text, text, text, text, bytea, text, text, text, text, text, boolean, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.await_audit() RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_await_audit';
COMMENT ON FUNCTION twilio_private.await_audit() IS
    'Waits until the audit row of this session''s last ask is visible: the last thing a function does that asks.';
REVOKE ALL ON FUNCTION twilio_private.await_audit() FROM PUBLIC;

CREATE FUNCTION twilio_private.ask_deadline() RETURNS timestamptz
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_ask_deadline';
COMMENT ON FUNCTION twilio_private.ask_deadline() IS
    'The time by which a synchronous call that begins now has to end: the first thing a function does that asks.
Raises 25006, 55000 and PT409 as ask() does, where nothing can be asked.';
REVOKE ALL ON FUNCTION twilio_private.ask_deadline() FROM PUBLIC;

CREATE FUNCTION twilio_private.form_encode(pairs text[]) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_twilio_form_encode';
COMMENT ON FUNCTION twilio_private.form_encode(text[]) IS
    'Names and values in turn as application/x-www-form-urlencoded (RFC 3986 escapes); a null value leaves its pair out.';
REVOKE ALL ON FUNCTION twilio_private.form_encode(text[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.worker_stats(
    OUT running boolean, OUT pid integer, OUT started_at timestamptz, OUT in_flight integer, OUT asks_answered bigint,
    OUT sent bigint, OUT failed bigint, OUT last_error text, OUT last_error_at timestamptz, OUT state text)
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_worker_stats';
COMMENT ON FUNCTION twilio_private.worker_stats() IS 'How the worker of this database is doing, from shared memory.';
REVOKE ALL ON FUNCTION twilio_private.worker_stats() FROM PUBLIC;

-- ---- verification --------------------------------------------------------------------------------------------------

CREATE FUNCTION twilio_private.permit_verification(user_id uuid) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_permit_verification';
COMMENT ON FUNCTION twilio_private.permit_verification(uuid) IS
    'Until end_verification() or the first UPDATE of this user''s settings, they may be given what Twilio thinks of the credentials.';
REVOKE ALL ON FUNCTION twilio_private.permit_verification(uuid) FROM PUBLIC;

CREATE FUNCTION twilio_private.take_verification_permit(user_id uuid, confirms boolean) RETURNS boolean
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_take_verification_permit';
COMMENT ON FUNCTION twilio_private.take_verification_permit(uuid, boolean) IS
    'Whether the permit is for this user, which uses it up. confirms: nothing but the time of the verification is new.';
REVOKE ALL ON FUNCTION twilio_private.take_verification_permit(uuid, boolean) FROM PUBLIC;

CREATE FUNCTION twilio_private.end_verification() RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_end_verification';
COMMENT ON FUNCTION twilio_private.end_verification() IS
    'Takes the permit back. A transaction that did nothing but confirm a verification then commits without waiting for the disk.';
REVOKE ALL ON FUNCTION twilio_private.end_verification() FROM PUBLIC;

-- ---- orders --------------------------------------------------------------------------------------------------------

CREATE FUNCTION twilio_private.wake_at_commit() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'pg_twilio_wake_at_commit';
COMMENT ON FUNCTION twilio_private.wake_at_commit() IS 'Statement trigger: the commit of this transaction wakes the worker, once.';
REVOKE ALL ON FUNCTION twilio_private.wake_at_commit() FROM PUBLIC;

CREATE FUNCTION twilio_private.wake_worker() RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_wake_worker';
COMMENT ON FUNCTION twilio_private.wake_worker() IS 'The commit of this transaction wakes the worker, once.';
REVOKE ALL ON FUNCTION twilio_private.wake_worker() FROM PUBLIC;

CREATE FUNCTION twilio_private.may_commit_lazily(updated regclass, inserted regclass) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_may_commit_lazily';
COMMENT ON FUNCTION twilio_private.may_commit_lazily(regclass, regclass) IS
    'The commit of this transaction need not wait for the disk if all that it does, by its end, is to update rows of
the one table and to insert rows into the other. PostgreSQL 14 cannot tell: there it waits.';
REVOKE ALL ON FUNCTION twilio_private.may_commit_lazily(regclass, regclass) FROM PUBLIC;

CREATE FUNCTION twilio_private.notify_at_commit(notice text) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_notify_at_commit';
COMMENT ON FUNCTION twilio_private.notify_at_commit(text) IS
    'Tells the listeners of the channel twilio when this transaction commits; one that is prepared tells them nothing.';
REVOKE ALL ON FUNCTION twilio_private.notify_at_commit(text) FROM PUBLIC;

-- ---- texts ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION twilio_private.read_webhook(
    url text, body bytea, content_type text, method text, OUT account_sid text, OUT message_id uuid, OUT parameters jsonb)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_twilio_read_webhook';
COMMENT ON FUNCTION twilio_private.read_webhook(text, bytea, text, text) IS
    'What a webhook says: the account that it names, the message (m=) in its URL, and the parameters as an object.
A name that is repeated has an array of its values; bytes that are no UTF-8 become U+FFFD.';
REVOKE ALL ON FUNCTION twilio_private.read_webhook(text, bytea, text, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.webhook_valid(
    user_id uuid, key_id text, sealed bytea, url text, body bytea, content_type text, method text, signature text)
RETURNS boolean
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_webhook_valid';
COMMENT ON FUNCTION twilio_private.webhook_valid(uuid, text, bytea, text, bytea, text, text, text) IS
    'Whether X-Twilio-Signature fits a sealed auth token of the user (Twilio, "Webhooks security").';
REVOKE ALL ON FUNCTION twilio_private.webhook_valid(uuid, text, bytea, text, bytea, text, text, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.sms_segments(
    body text, OUT encoding text, OUT units integer, OUT segments integer, OUT utf16_units integer)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_twilio_sms_segments';
COMMENT ON FUNCTION twilio_private.sms_segments(text) IS
    'Encoding (GSM-7 or UCS-2), units of it, segments, and UTF-16 units of an SMS body, as Twilio counts them.';
REVOKE ALL ON FUNCTION twilio_private.sms_segments(text) FROM PUBLIC;
