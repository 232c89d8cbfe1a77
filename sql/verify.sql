-- twilio_verify(): do the stored credentials work? And what every synchronous question to a user's account needs.
--
-- What returns nothing is called by an assignment: PL/pgSQL evaluates that without the executor, which is several times
-- as fast as PERFORM.

CREATE FUNCTION twilio_private.require_settings(user_id uuid) RETURNS @extschema@.twilio_settings
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settings @extschema@.twilio_settings;
BEGIN
    SELECT * INTO settings FROM @extschema@.twilio_settings s WHERE s.user_id = require_settings.user_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Settings not found'
            USING ERRCODE = 'PT404',
                  DETAIL = 'No Twilio account is configured for the current user.',
                  HINT = 'Configure it first: INSERT INTO twilio_settings (account_sid, auth_token) VALUES (…).';
    END IF;
    RETURN settings;
END
$$;
COMMENT ON FUNCTION twilio_private.require_settings(uuid) IS 'Returns the user''s settings, or fails with PT404.';
REVOKE ALL ON FUNCTION twilio_private.require_settings(uuid) FROM PUBLIC;

CREATE TYPE twilio_private.account AS (
    user_id uuid, account_sid text, api_key_sid text, is_verified boolean, verification_error text,
    auth_token_key_id text, auth_token_sealed bytea, auth_token_at timestamptz,
    api_key_secret_key_id text, api_key_secret_sealed bytea, api_key_secret_at timestamptz);
COMMENT ON TYPE twilio_private.account IS
    'What a question to Twilio needs of a user: the SIDs, the sealed secrets and when they were stored, and the last verdict.';
REVOKE ALL ON TYPE twilio_private.account FROM PUBLIC;

CREATE FUNCTION twilio_private.require_account(user_id uuid) RETURNS twilio_private.account
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account twilio_private.account;
BEGIN
    SELECT s.user_id, s.account_sid, s.api_key_sid, s.is_verified, s.verification_error,
           token.key_id, token.sealed, token.updated_at, secret.key_id, secret.sealed, secret.updated_at
    INTO account
    FROM @extschema@.twilio_settings s
    LEFT JOIN twilio_private.credential token ON token.user_id = s.user_id AND token.kind = 'auth_token'
    LEFT JOIN twilio_private.credential secret ON secret.user_id = s.user_id AND secret.kind = 'api_key_secret'
    WHERE s.user_id = require_account.user_id;
    IF NOT FOUND THEN
        PERFORM twilio_private.require_settings(require_account.user_id);
    END IF;
    RETURN account;
END
$$;
COMMENT ON FUNCTION twilio_private.require_account(uuid) IS
    'Returns what a question needs of the user''s account, or fails with PT404 where there are no settings.';
REVOKE ALL ON FUNCTION twilio_private.require_account(uuid) FROM PUBLIC;

CREATE FUNCTION twilio_private.ask_account(
    account twilio_private.account, action text, method text, host text, path text, content text DEFAULT NULL,
    content_type text DEFAULT 'application/x-www-form-urlencoded', counted boolean DEFAULT true, deadline timestamptz DEFAULT NULL,
    credential text DEFAULT 'any', object text DEFAULT NULL,
    OUT http_status int, OUT error_code int, OUT error_message text, OUT body jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    by_token CONSTANT boolean := credential = 'auth_token' OR (credential = 'any' AND account.api_key_sid IS NULL);
    sealed CONSTANT bytea := CASE WHEN by_token THEN account.auth_token_sealed ELSE account.api_key_secret_sealed END;
    answer record;
BEGIN
    IF sealed IS NULL THEN
        RAISE EXCEPTION 'no Twilio credential is stored'
            USING ERRCODE = 'PT409',
                  DETAIL = 'The settings are there, but the secret is not: they were restored without it.',
                  HINT = 'Enter the Auth Token (and the API key, if there is one) again.';
    END IF;
    answer := twilio_private.ask(
        account.user_id, action, coalesce(object, account.account_sid),
        CASE WHEN by_token THEN account.account_sid ELSE account.api_key_sid END,
        CASE WHEN by_token THEN 'auth_token' ELSE 'api_key_secret' END,
        CASE WHEN by_token THEN account.auth_token_key_id ELSE account.api_key_secret_key_id END,
        sealed, method, host, replace(path, '{AccountSid}', account.account_sid), content, content_type, counted, deadline);
    http_status := answer.http_status;
    error_code := answer.error_code;
    error_message := answer.error_message;
    body := answer.body;
END
$$;
COMMENT ON FUNCTION twilio_private.ask_account(twilio_private.account, text, text, text, text, text, text, boolean, timestamptz, text, text) IS
    'Asks Twilio one question with the user''s account; {AccountSid} in the path is filled in.
credential: auth_token, api_key_secret, or any: the API key where there is one, else the token.
object: what the audit log names; null: the account.';
REVOKE ALL ON FUNCTION twilio_private.ask_account(twilio_private.account, text, text, text, text, text, text, boolean, timestamptz, text, text)
    FROM PUBLIC;

CREATE FUNCTION twilio_private.refusal(http_status int, error_code int, error_message text, api_key boolean DEFAULT false)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN error_code = 20003 AND api_key THEN
            'Twilio does not accept the API key: its SID or secret is wrong, it was deleted or lacks the permission, or the account is suspended'
        WHEN error_code = 20003 OR (error_code IS NULL AND http_status = 401) THEN
            'Twilio does not accept the credentials: the Account SID or the Auth Token is wrong, or the account is suspended'
        WHEN error_code = 20403 THEN 'Twilio forbids this account to use its API: it is usually suspended or closed'
        WHEN error_code IN (20005, 10001) THEN 'The Twilio account is not active: see the notices at https://console.twilio.com'
        WHEN error_code IN (20006, 20010) THEN 'Twilio denies this account the access'
        WHEN error_code = 20008 THEN 'These are test credentials; enter the live Account SID and Auth Token'
        WHEN error_code = 20404 AND api_key THEN 'The API key is not one of this account'
        WHEN error_code = 20404 THEN 'Twilio does not know this Account SID'
        ELSE 'Twilio refused the request'
    END || format(' (%s%s).',
                  coalesce('error ' || error_code, 'HTTP status ' || http_status),
                  ': ' || nullif(btrim(left(error_message, 300), ' .'), ''))
$$;
COMMENT ON FUNCTION twilio_private.refusal(int, int, text, boolean) IS
    'A plain sentence for an answer with status 4xx, followed by Twilio''s code and own words.';
REVOKE ALL ON FUNCTION twilio_private.refusal(int, int, text, boolean) FROM PUBLIC;

CREATE FUNCTION twilio_private.refuse_answer(expected text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'Twilio gave an unusable answer'
        USING ERRCODE = 'PT502',
              DETAIL = format('Expected %s.', expected),
              HINT = 'Try again. If it lasts, look at https://status.twilio.com and at what stands between this server and Twilio.';
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_answer(text) IS 'Fails with PT502: the answer is JSON but not what was asked for.';
REVOKE ALL ON FUNCTION twilio_private.refuse_answer(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.require_answer(
    account twilio_private.account, expected text, http_status int, error_code int, error_message text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF http_status IN (401, 403, 404) THEN
        RAISE EXCEPTION 'Twilio refused the credentials'
            USING ERRCODE = 'PT409',
                  DETAIL = twilio_private.refusal(http_status, error_code, error_message, api_key => account.api_key_sid IS NOT NULL),
                  HINT = 'Correct the settings, then verify them again: SELECT * FROM twilio_verify().';
    ELSIF http_status >= 300 THEN
        PERFORM twilio_private.refuse_answer(
            expected || ', but ' || rtrim(twilio_private.refusal(http_status, error_code, error_message), '.'));
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.require_answer(twilio_private.account, text, int, int, text) IS
    'Fails with PT409 where Twilio refuses the credentials, with PT502 where it refuses the question.';
REVOKE ALL ON FUNCTION twilio_private.require_answer(twilio_private.account, text, int, int, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.refuse_unverified(verification_error text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'Twilio credentials are not verified'
        USING ERRCODE = 'PT409',
              DETAIL = coalesce(verification_error, 'They have not been verified since they were entered.'),
              HINT = 'Verify them first: SELECT * FROM twilio_verify().';
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_unverified(text) IS 'Fails with PT409: the credentials are not verified, for this reason.';
REVOKE ALL ON FUNCTION twilio_private.refuse_unverified(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.require_verified_account(user_id uuid) RETURNS twilio_private.account
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account CONSTANT twilio_private.account := twilio_private.require_account(user_id);
BEGIN
    IF NOT account.is_verified THEN
        PERFORM twilio_private.refuse_unverified(account.verification_error);
    END IF;
    RETURN account;
END
$$;
COMMENT ON FUNCTION twilio_private.require_verified_account(uuid) IS
    'As require_account(); fails with PT409 where the credentials are not verified.';
REVOKE ALL ON FUNCTION twilio_private.require_verified_account(uuid) FROM PUBLIC;

-- All pages of a list: path without PageSize, ending in ? or &.
CREATE FUNCTION twilio_private.ask_pages(
    account twilio_private.account, action text, path text, member text, expected text, deadline timestamptz) RETURNS jsonb[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    list_path CONSTANT text := replace(path, '{AccountSid}', account.account_sid);
    -- Twilio gives up to 1000 a page, but a thousand objects with long URLs exceed twilio.max_response_size.
    next_path text := list_path || 'PageSize=250';
    visited text[];
    pages jsonb[];
    answer record;
BEGIN
    LOOP
        answer := twilio_private.ask_account(account, action, 'GET', 'api.twilio.com', next_path,
                                             counted => visited IS NULL, deadline => deadline);
        PERFORM twilio_private.require_answer(account, expected, answer.http_status, answer.error_code, answer.error_message);
        IF jsonb_typeof(answer.body -> member) IS DISTINCT FROM 'array' THEN
            PERFORM twilio_private.refuse_answer(expected);
        END IF;
        pages := array_append(pages, answer.body -> member);
        visited := array_append(visited, next_path);

        next_path := nullif(answer.body ->> 'next_page_uri', '');
        EXIT WHEN next_path IS NULL;
        -- Nothing that an answer says may lead to another host or account, or round in circles.
        IF NOT starts_with(next_path, substring(list_path FROM '^[^?]*[?]')) OR next_path = ANY (visited) THEN
            PERFORM twilio_private.refuse_answer('the next page of the list');
        END IF;
    END LOOP;
    RETURN pages;
END
$$;
COMMENT ON FUNCTION twilio_private.ask_pages(twilio_private.account, text, text, text, text, timestamptz) IS
    'All pages of one of the account''s lists, each an array of Twilio''s objects, by the deadline.';
REVOKE ALL ON FUNCTION twilio_private.ask_pages(twilio_private.account, text, text, text, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.refuse_changed() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'Twilio settings have changed meanwhile'
        USING ERRCODE = 'PT409',
              DETAIL = 'Account SID, token or API key were changed while Twilio was asked.',
              HINT = 'Ask again.';
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_changed() IS 'Fails with PT409: the answer is about credentials that are no longer stored.';
REVOKE ALL ON FUNCTION twilio_private.refuse_changed() FROM PUBLIC;

-- What Twilio said belongs to the credentials it was asked with. Whoever changes them locks the row of the settings, so
-- the caller has locked it before.
CREATE FUNCTION twilio_private.require_unchanged(account twilio_private.account) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM
    FROM @extschema@.twilio_settings s
    WHERE s.user_id = account.user_id
      AND s.account_sid = account.account_sid
      AND s.api_key_sid IS NOT DISTINCT FROM account.api_key_sid
      AND account.auth_token_at IS NOT DISTINCT FROM (
          SELECT c.updated_at FROM twilio_private.credential c WHERE c.user_id = s.user_id AND c.kind = 'auth_token')
      AND account.api_key_secret_at IS NOT DISTINCT FROM (
          SELECT c.updated_at FROM twilio_private.credential c WHERE c.user_id = s.user_id AND c.kind = 'api_key_secret');
    IF NOT FOUND THEN
        PERFORM twilio_private.refuse_changed();
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.require_unchanged(twilio_private.account) IS
    'Fails with PT409 if the user''s SIDs or secrets are no longer what they were; sealed anew, they are.';
REVOKE ALL ON FUNCTION twilio_private.require_unchanged(twilio_private.account) FROM PUBLIC;

CREATE FUNCTION twilio_private.record_verification(
    user_id uuid, verified boolean, account_name text, account_status text, account_type text, message text, checked_at timestamptz
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    nothing text;
BEGIN
    nothing := twilio_private.permit_verification(record_verification.user_id);
    UPDATE @extschema@.twilio_settings s
    SET is_verified = verified,
        last_verified_at = CASE WHEN verified THEN checked_at ELSE s.last_verified_at END,
        account_name = coalesce(record_verification.account_name, s.account_name),
        account_status = record_verification.account_status,
        account_type = coalesce(record_verification.account_type, s.account_type),
        verification_error = CASE WHEN NOT verified THEN message END
    WHERE s.user_id = record_verification.user_id;
    nothing := twilio_private.end_verification();
    -- Closing wakes the worker, which asks who waits: only where there is something to close.
    IF verified AND EXISTS (SELECT FROM twilio_private.breaker b WHERE b.user_id = record_verification.user_id) THEN
        PERFORM twilio_private.close_breaker(record_verification.user_id);
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.record_verification(uuid, boolean, text, text, text, text, timestamptz) IS
    'Writes into the user''s settings what Twilio thinks of the credentials; orders that waited for a good word go on.';
REVOKE ALL ON FUNCTION twilio_private.record_verification(uuid, boolean, text, text, text, text, timestamptz) FROM PUBLIC;

-- SECURITY DEFINER: reads the sealed credential and writes the read-only columns, for the current user alone.
CREATE FUNCTION @extschema@.twilio_verify(
    OUT verified boolean, OUT account_sid text, OUT account_name text, OUT account_status text, OUT account_type text,
    OUT error_code int, OUT message text, OUT checked_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    account CONSTANT twilio_private.account := twilio_private.require_account(twilio_private.require_user());
    answer record;
    nothing text;
BEGIN
    account_sid := account.account_sid;
    answer := twilio_private.ask_account(account, 'verify', 'GET', 'api.twilio.com', '/2010-04-01/Accounts/{AccountSid}.json',
                                         deadline => deadline, credential => 'auth_token');
    verified := answer.http_status < 300;
    IF verified THEN
        IF lower(answer.body ->> 'sid') IS DISTINCT FROM lower(account_sid) THEN
            PERFORM twilio_private.refuse_answer('the account that was asked for');
        END IF;
        account_name := answer.body ->> 'friendly_name';
        account_status := answer.body ->> 'status';
        account_type := answer.body ->> 'type';
        IF account_status IS DISTINCT FROM 'active' THEN
            verified := false;
            message := format('The Twilio account is not active; its status is %s.', coalesce(account_status, 'unknown'));
        END IF;
    ELSE
        error_code := answer.error_code;
        message := twilio_private.refusal(answer.http_status, answer.error_code, answer.error_message);
    END IF;

    IF verified AND account.api_key_sid IS NOT NULL THEN
        answer := twilio_private.ask_account(account, 'verify', 'GET', 'api.twilio.com',
                                             '/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers.json?PageSize=1',
                                             counted => false, deadline => deadline, credential => 'api_key_secret');
        IF answer.http_status >= 300 THEN
            verified := false;
            error_code := answer.error_code;
            message := twilio_private.refusal(answer.http_status, answer.error_code, answer.error_message, api_key => true);
        END IF;
    END IF;

    IF verified THEN
        message := 'Twilio accepted the credentials.';
    END IF;
    checked_at := clock_timestamp();
    BEGIN
        nothing := twilio_private.record_verification(account.user_id, verified, account_name, account_status, account_type, message, checked_at);
        nothing := twilio_private.require_unchanged(account);
    EXCEPTION WHEN serialization_failure THEN
        PERFORM twilio_private.refuse_changed();
    END;
    nothing := twilio_private.await_audit();
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_verify() IS
    'Asks Twilio whether the stored credentials work, and records the answer in twilio_settings.
Wrong credentials or a suspended account are an answer: verified is false, error_code and message say why.
If Twilio cannot be reached it fails (PT502, PT504, PT429) and nothing changes. Without settings: PT404.';
REVOKE ALL ON FUNCTION @extschema@.twilio_verify() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_verify() TO twilio_user;
