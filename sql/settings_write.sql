-- What happens when twilio_settings is written: who may, what is accepted, and where the secrets go.
--
-- A secret that is written is sealed and stashed before the row is formed; the row holds a mask. An upsert runs the
-- BEFORE INSERT trigger, then the BEFORE UPDATE ones with the first one's result, and ON CONFLICT DO NOTHING only the
-- first: so what BEFORE INSERT seals waits in the stash until a row was really inserted, or until BEFORE UPDATE finds
-- the column in the SET list. The stash is emptied at the start of each statement.
--
-- Expressions that touch a plaintext are assignments, never PERFORM or SELECT: PL/pgSQL evaluates an assignment
-- without the executor, so auto_explain and other executor hooks have nothing to show.

-- SECURITY INVOKER, because it asks about the rights of whoever writes.
CREATE FUNCTION twilio_private.settings_guard() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    read_only CONSTANT text[] := ARRAY['id', 'created_at', 'updated_at', 'is_verified', 'last_verified_at', 'account_name',
        'account_status', 'account_type', 'verification_error', 'rate_limit_per_second', 'max_in_flight'];
    present @extschema@.twilio_settings;
    own boolean;
    administrator boolean;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.user_id IS DISTINCT FROM OLD.user_id THEN
        RAISE EXCEPTION 'settings cannot be given to another user'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'user_id of a row of twilio_settings cannot be changed.',
                  HINT = 'Delete the row; the other user enters the account anew.';
    END IF;
    IF NOT row_security_active(TG_RELID) THEN
        RETURN NEW;
    END IF;

    NEW.user_id := coalesce(NEW.user_id, @extschema@.twilio_current_user_id());
    own := NEW.user_id IS NOT DISTINCT FROM @extschema@.twilio_current_user_id();
    administrator := pg_has_role(current_user, 'twilio_admin', 'USAGE');
    IF TG_OP = 'UPDATE' THEN
        present := OLD;
    ELSIF own THEN
        SELECT * INTO present FROM @extschema@.twilio_settings s WHERE s.user_id = NEW.user_id;
    END IF;

    IF NOT own AND (TG_OP = 'INSERT' OR NOT administrator OR to_jsonb(NEW) - read_only <> to_jsonb(OLD) - read_only) THEN
        RAISE EXCEPTION 'settings of another user cannot be changed'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'user_id is not the current user''s. An administrator may change rate_limit_per_second and max_in_flight only.',
                  HINT = 'Leave user_id out: it is filled in.';
    END IF;
    IF TG_OP = 'INSERT' AND NOT administrator THEN
        -- A partial upsert leaves out what is stored.
        NEW.rate_limit_per_second := coalesce(NEW.rate_limit_per_second, present.rate_limit_per_second);
        NEW.max_in_flight := coalesce(NEW.max_in_flight, present.max_in_flight);
    END IF;
    IF NOT administrator AND (NEW.rate_limit_per_second IS DISTINCT FROM present.rate_limit_per_second
                              OR NEW.max_in_flight IS DISTINCT FROM present.max_in_flight) THEN
        RAISE EXCEPTION 'only an administrator sets limits'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'rate_limit_per_second and max_in_flight differ from what is stored.',
                  HINT = 'Leave them out, or ask a member of twilio_admin.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION twilio_private.settings_guard() IS 'Refuses to write settings of others, and limits where it is no administrator.';
REVOKE ALL ON FUNCTION twilio_private.settings_guard() FROM PUBLIC;

-- The functions below are SECURITY DEFINER because they use twilio_private, which no user may; that the row is the
-- writer's own was seen to by settings_guard(), the first trigger in the order of names.
CREATE FUNCTION twilio_private.settings_begin() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    nothing text := twilio_private.stash_clear();
BEGIN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.settings_begin() IS 'Forgets the sealed secrets that an earlier statement left over.';
REVOKE ALL ON FUNCTION twilio_private.settings_begin() FROM PUBLIC;

CREATE FUNCTION twilio_private.stash_secret(user_id uuid, kind text, secret text, replace boolean) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    nothing text;
BEGIN
    IF secret IS NOT NULL AND secret <> twilio_private.mask() THEN
        secret := twilio_private.valid(kind, secret);
        nothing := twilio_private.stash_put(user_id, kind, secret, replace);
        RETURN twilio_private.mask();
    END IF;
    RETURN secret;
END
$$;
COMMENT ON FUNCTION twilio_private.stash_secret(uuid, text, text, boolean) IS
    'Seals and stashes a secret and returns what the row holds instead. The mask and null are returned as they are.';
REVOKE ALL ON FUNCTION twilio_private.stash_secret(uuid, text, text, boolean) FROM PUBLIC;

CREATE FUNCTION twilio_private.store_stashed(user_id uuid, kind text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stashed record;
BEGIN
    SELECT * INTO stashed FROM twilio_private.stash_take(store_stashed.user_id, store_stashed.kind);
    IF stashed.key_id IS NULL THEN
        RETURN false;
    END IF;
    PERFORM twilio_private.store_credential(store_stashed.user_id, store_stashed.kind, stashed.key_id, stashed.sealed);
    IF store_stashed.kind = 'auth_token' THEN
        PERFORM twilio_private.arm_first();
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION twilio_private.store_stashed(uuid, text) IS
    'Moves a secret that this statement sealed into twilio_private.credential; false when there is none.';
REVOKE ALL ON FUNCTION twilio_private.store_stashed(uuid, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.has_credential(user_id uuid, kind text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM twilio_private.credential c
                   WHERE c.user_id = has_credential.user_id AND c.kind = has_credential.kind);
END
$$;
COMMENT ON FUNCTION twilio_private.has_credential(uuid, text) IS 'Whether a sealed secret of this kind is stored for the user.';
REVOKE ALL ON FUNCTION twilio_private.has_credential(uuid, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.refuse_half_key() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'incomplete API key'
        USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'An API key is a SID and a secret; one of them is missing.',
              HINT = 'Give api_key_sid and api_key_secret together, or set both to null.';
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_half_key() IS 'Fails: an API key without SID or without secret.';
REVOKE ALL ON FUNCTION twilio_private.refuse_half_key() FROM PUBLIC;

CREATE FUNCTION twilio_private.settings_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    restoring boolean := twilio_private.restoring();
    stored record;
BEGIN
    IF NEW.user_id IS NULL THEN
        NEW.user_id := twilio_private.require_user();
    END IF;
    IF NOT restoring THEN
        NEW.id := twilio_private.uuid_v7();
        NEW.created_at := now();
        NEW.updated_at := now();
        NEW.is_verified := false;
        NEW.last_verified_at := NULL;
        NEW.account_name := NULL;
        NEW.account_status := NULL;
        NEW.account_type := NULL;
        NEW.verification_error := NULL;
    END IF;

    -- A partial upsert leaves out what is stored; NOT NULL is checked before the conflict is seen.
    SELECT s.account_sid, s.auth_token, s.api_key_sid, s.api_key_secret INTO stored
    FROM @extschema@.twilio_settings s WHERE s.user_id = NEW.user_id;
    NEW.account_sid := twilio_private.valid('account_sid', coalesce(NEW.account_sid, stored.account_sid, ''));
    NEW.auth_token := coalesce(NEW.auth_token, stored.auth_token);
    NEW.phone_number := twilio_private.valid('phone_number', nullif(NEW.phone_number, ''));
    NEW.messaging_service_sid := twilio_private.valid('messaging_service_sid', nullif(NEW.messaging_service_sid, ''));
    NEW.api_key_sid := twilio_private.valid('api_key_sid', nullif(NEW.api_key_sid, ''));
    NEW.api_key_secret := coalesce(nullif(NEW.api_key_secret, ''), stored.api_key_secret);
    IF NEW.api_key_sid IS NULL AND NEW.api_key_secret <> twilio_private.mask() THEN
        NEW.api_key_sid := stored.api_key_sid;
    END IF;

    IF NEW.auth_token IS NULL OR (NEW.auth_token = twilio_private.mask() AND NOT restoring
                                  AND NOT twilio_private.has_credential(NEW.user_id, 'auth_token')) THEN
        RAISE EXCEPTION 'missing auth token'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'No Auth Token is stored for this user yet.',
                  HINT = 'Copy the Auth Token from the dashboard at https://console.twilio.com.';
    END IF;
    NEW.auth_token := twilio_private.stash_secret(NEW.user_id, 'auth_token', NEW.auth_token, false);

    IF NEW.api_key_sid IS NULL AND NEW.api_key_secret = twilio_private.mask() THEN
        NEW.api_key_secret := NULL;
    END IF;
    IF (NEW.api_key_sid IS NULL) <> (NEW.api_key_secret IS NULL)
       OR (NEW.api_key_secret = twilio_private.mask() AND NOT restoring
           AND NOT twilio_private.has_credential(NEW.user_id, 'api_key_secret')) THEN
        PERFORM twilio_private.refuse_half_key();
    END IF;
    NEW.api_key_secret := twilio_private.stash_secret(NEW.user_id, 'api_key_secret', NEW.api_key_secret, false);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION twilio_private.settings_insert() IS
    'Completes and checks a new row, seals its secrets into the stash and masks them.';
REVOKE ALL ON FUNCTION twilio_private.settings_insert() FROM PUBLIC;

CREATE FUNCTION twilio_private.settings_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stored boolean := twilio_private.store_stashed(NEW.user_id, 'auth_token');
BEGIN
    PERFORM twilio_private.store_stashed(NEW.user_id, 'api_key_secret');
    IF twilio_private.restoring() THEN
        RETURN NULL;
    END IF;
    IF NOT stored AND NOT twilio_private.has_credential(NEW.user_id, 'auth_token') THEN
        RAISE EXCEPTION 'the auth token was not kept'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'Another statement wrote twilio_settings in the middle of this one.',
                  HINT = 'Write twilio_settings with one plain statement.';
    END IF;
    PERFORM twilio_private.audit(NEW.user_id, 'settings.insert', NEW.account_sid, jsonb_build_object('columns',
        (SELECT jsonb_agg(c.key ORDER BY c.key) FROM jsonb_each(to_jsonb(NEW)) c
         WHERE c.value <> 'null'::jsonb AND c.key NOT IN ('id', 'user_id', 'created_at', 'updated_at', 'is_verified'))));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.settings_inserted() IS 'Stores the sealed secrets of a row that was really inserted.';
REVOKE ALL ON FUNCTION twilio_private.settings_inserted() FROM PUBLIC;

-- Fires for each secret that is in the SET list. 'sealed' in NEW tells settings_update(), which fires next and puts the
-- mask there, that a secret was stored; a user cannot write that, for it would be refused here as too short.
CREATE FUNCTION twilio_private.settings_seal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_ARGV[0] = 'auth_token' THEN
        NEW.auth_token := twilio_private.stash_secret(NEW.user_id, 'auth_token', coalesce(NEW.auth_token, ''), true);
        IF twilio_private.store_stashed(NEW.user_id, 'auth_token') THEN
            NEW.auth_token := 'sealed';
        END IF;
    ELSE
        NEW.api_key_secret :=
            twilio_private.stash_secret(NEW.user_id, 'api_key_secret', nullif(NEW.api_key_secret, ''), true);
        IF twilio_private.store_stashed(NEW.user_id, 'api_key_secret') THEN
            NEW.api_key_secret := 'sealed';
        END IF;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION twilio_private.settings_seal() IS 'Seals and stores a secret, named by its argument, that an UPDATE or an upsert sets.';
REVOKE ALL ON FUNCTION twilio_private.settings_seal() FROM PUBLIC;

CREATE FUNCTION twilio_private.settings_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_token boolean := NEW.auth_token = 'sealed';
    new_secret boolean := coalesce(NEW.api_key_secret = 'sealed', false);
    changed text[];
BEGIN
    NEW.updated_at := now();
    IF twilio_private.take_verification_permit(
        NEW.user_id,
        confirms => (NEW.is_verified, NEW.account_name, NEW.account_status, NEW.account_type, NEW.verification_error)
                    IS NOT DISTINCT FROM
                    (OLD.is_verified, OLD.account_name, OLD.account_status, OLD.account_type, OLD.verification_error))
    THEN
        RETURN NEW;
    END IF;

    NEW.id := OLD.id;
    NEW.created_at := OLD.created_at;
    NEW.is_verified := OLD.is_verified;
    NEW.last_verified_at := OLD.last_verified_at;
    NEW.account_name := OLD.account_name;
    NEW.account_status := OLD.account_status;
    NEW.account_type := OLD.account_type;
    NEW.verification_error := OLD.verification_error;
    NEW.auth_token := twilio_private.mask();
    NEW.account_sid := twilio_private.valid('account_sid', coalesce(NEW.account_sid, ''));
    NEW.phone_number := twilio_private.valid('phone_number', nullif(NEW.phone_number, ''));
    NEW.messaging_service_sid := twilio_private.valid('messaging_service_sid', nullif(NEW.messaging_service_sid, ''));
    NEW.api_key_sid := twilio_private.valid('api_key_sid', nullif(NEW.api_key_sid, ''));

    IF new_secret THEN
        NEW.api_key_secret := twilio_private.mask();
    ELSIF NEW.api_key_sid IS NULL THEN
        NEW.api_key_secret := NULL;
        IF OLD.api_key_sid IS NOT NULL THEN
            PERFORM twilio_private.forget_credential(NEW.user_id, 'api_key_secret');
        END IF;
    ELSIF OLD.api_key_sid IS NULL THEN
        PERFORM twilio_private.refuse_half_key();
    END IF;
    IF (NEW.api_key_sid IS NULL) <> (NEW.api_key_secret IS NULL) THEN
        PERFORM twilio_private.refuse_half_key();
    END IF;

    IF new_token OR new_secret OR NEW.account_sid <> OLD.account_sid OR NEW.api_key_sid IS DISTINCT FROM OLD.api_key_sid THEN
        NEW.is_verified := false;
        NEW.last_verified_at := NULL;
        NEW.account_name := NULL;
        NEW.account_status := NULL;
        NEW.account_type := NULL;
        NEW.verification_error := NULL;
    END IF;

    IF NEW.account_sid <> OLD.account_sid THEN
        PERFORM twilio_private.end_token_grace(NEW.user_id);
    END IF;

    SELECT array_agg(c.key ORDER BY c.key) INTO changed
    FROM jsonb_each(to_jsonb(NEW)) c
    WHERE CASE c.key
              WHEN 'auth_token' THEN new_token
              WHEN 'api_key_secret' THEN new_secret OR (OLD.api_key_secret IS NOT NULL AND NEW.api_key_secret IS NULL)
              ELSE c.value <> to_jsonb(OLD) -> c.key
                   AND c.key NOT IN ('updated_at', 'is_verified', 'last_verified_at', 'account_name', 'account_status',
                                     'account_type', 'verification_error')
          END;
    IF changed IS NOT NULL THEN
        PERFORM twilio_private.audit(NEW.user_id, 'settings.update', NEW.account_sid, jsonb_build_object('columns', changed));
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION twilio_private.settings_update() IS
    'Checks a changed row, keeps what is read-only, and resets the verification of changed credentials.';
REVOKE ALL ON FUNCTION twilio_private.settings_update() FROM PUBLIC;

CREATE FUNCTION twilio_private.settings_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM twilio_private.forget_credential(OLD.user_id);
    PERFORM twilio_private.audit(OLD.user_id, 'settings.delete', OLD.account_sid);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.settings_deleted() IS 'Forgets the secrets of deleted settings.';
REVOKE ALL ON FUNCTION twilio_private.settings_deleted() FROM PUBLIC;

CREATE FUNCTION twilio_private.settings_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM twilio_private.credential;
    PERFORM twilio_private.audit(NULL, 'settings.truncate', 'twilio_settings');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.settings_truncated() IS 'Forgets all secrets.';
REVOKE ALL ON FUNCTION twilio_private.settings_truncated() FROM PUBLIC;

-- Triggers of one kind fire in the order of their names.
CREATE TRIGGER begin BEFORE INSERT OR UPDATE ON @extschema@.twilio_settings
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.settings_begin();
CREATE TRIGGER step1_guard BEFORE INSERT OR UPDATE ON @extschema@.twilio_settings
    FOR EACH ROW EXECUTE FUNCTION twilio_private.settings_guard();
CREATE TRIGGER step2_insert BEFORE INSERT ON @extschema@.twilio_settings
    FOR EACH ROW EXECUTE FUNCTION twilio_private.settings_insert();
CREATE TRIGGER step2_seal_key BEFORE UPDATE OF api_key_secret ON @extschema@.twilio_settings
    FOR EACH ROW EXECUTE FUNCTION twilio_private.settings_seal('api_key_secret');
CREATE TRIGGER step2_seal_token BEFORE UPDATE OF auth_token ON @extschema@.twilio_settings
    FOR EACH ROW EXECUTE FUNCTION twilio_private.settings_seal('auth_token');
CREATE TRIGGER step3_update BEFORE UPDATE ON @extschema@.twilio_settings
    FOR EACH ROW EXECUTE FUNCTION twilio_private.settings_update();
CREATE TRIGGER inserted AFTER INSERT ON @extschema@.twilio_settings
    FOR EACH ROW EXECUTE FUNCTION twilio_private.settings_inserted();
CREATE TRIGGER deleted AFTER DELETE ON @extschema@.twilio_settings
    FOR EACH ROW EXECUTE FUNCTION twilio_private.settings_deleted();
CREATE TRIGGER truncated AFTER TRUNCATE ON @extschema@.twilio_settings
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.settings_truncated();
