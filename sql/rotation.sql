-- twilio_rotate_key(): a new sealing key, and every stored secret sealed with it.

CREATE FUNCTION twilio_private.reseal_credentials(OUT resealed bigint, OUT unreadable bigint, OUT first_error text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    current_key CONSTANT text := twilio_private.current_key_id();
    old twilio_private.credential;
    new_key_id text;
    new_sealed bytea;
    new_previous_key_id text;
    new_previous_sealed bytea;
    why text;
BEGIN
    resealed := 0;
    unreadable := 0;
    -- A query in FOR is read through a cursor, a few rows at a time.
    FOR old IN
        SELECT * FROM twilio_private.credential c
        WHERE c.key_id <> current_key OR c.previous_key_id <> current_key
        FOR NO KEY UPDATE
    LOOP
        BEGIN
            SELECT r.key_id, r.sealed INTO new_key_id, new_sealed
            FROM twilio_private.reseal(old.user_id, old.kind, old.key_id, old.sealed) r;
            new_previous_key_id := NULL;
            new_previous_sealed := NULL;
            IF old.previous_until > now() THEN
                SELECT r.key_id, r.sealed INTO new_previous_key_id, new_previous_sealed
                FROM twilio_private.reseal(old.user_id, old.kind, old.previous_key_id, old.previous_sealed) r;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            -- A secret whose key is lost stays as it is, and keeps none of the others back.
            GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
            unreadable := unreadable + 1;
            first_error := coalesce(first_error, nullif(why, ''), SQLERRM);
            CONTINUE;
        END;
        UPDATE twilio_private.credential c
        SET key_id = new_key_id,
            sealed = new_sealed,
            previous_key_id = new_previous_key_id,
            previous_sealed = new_previous_sealed,
            previous_until = CASE WHEN new_previous_key_id IS NOT NULL THEN old.previous_until END
        WHERE c.user_id = old.user_id AND c.kind = old.kind;
        resealed := resealed + 1;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.reseal_credentials() IS
    'Seals every secret that is not under the current key with it; says how many there were, and how many cannot be opened.';
REVOKE ALL ON FUNCTION twilio_private.reseal_credentials() FROM PUBLIC;

-- SECURITY DEFINER: twilio_admin may rotate, but may not touch the credentials.
CREATE FUNCTION @extschema@.twilio_rotate_key() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    done record;
    new_key text;
BEGIN
    -- One rotation at a time; users go on storing and using their tokens.
    LOCK TABLE twilio_private.credential IN SHARE UPDATE EXCLUSIVE MODE;
    -- What an interrupted rotation left is finished first, without yet another key.
    done := twilio_private.reseal_credentials();
    IF done.resealed = 0 THEN
        new_key := twilio_private.add_key();
        done := twilio_private.reseal_credentials();
    END IF;
    IF done.unreadable > 0 THEN
        RAISE WARNING 'some Twilio secrets cannot be opened and keep their old key'
            USING DETAIL = format('Secrets: %s. The first: %s', done.unreadable, done.first_error),
                  HINT = 'Put the missing key back into the key file, or let these users enter their token again.';
    END IF;
    PERFORM twilio_private.audit(NULL, 'rotate_key', twilio_private.current_key_id(),
                                 jsonb_build_object('resealed', done.resealed, 'unreadable', done.unreadable, 'new_key', new_key IS NOT NULL));
    RETURN done.resealed;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_rotate_key() IS
    'Adds a new sealing key and seals every stored secret with it; returns how many. For administrators.
If an earlier rotation was interrupted, it is finished instead. Old keys stay in the key file, for backups.';
REVOKE ALL ON FUNCTION @extschema@.twilio_rotate_key() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_rotate_key() TO twilio_admin;
