-- What Twilio tells us: who may come in. One URL takes everything; webhook_messages.sql applies what concerns
-- messages, call_status.sql what concerns calls.
--
-- A webhook is believed when it is signed with an auth token of the account that it names (the current one, or the one
-- before for twilio.token_grace). Of any other no row is written, whatever it says: whoever has no token could fill a disk.

CREATE DOMAIN @extschema@."text/xml" AS xml;
COMMENT ON DOMAIN @extschema@."text/xml" IS 'An answer that PostgREST sends as text/xml.';
REVOKE ALL ON DOMAIN @extschema@."text/xml" FROM PUBLIC;
GRANT USAGE ON DOMAIN @extschema@."text/xml" TO twilio_webhook;

CREATE INDEX twilio_settings_account_sid ON @extschema@.twilio_settings (lower(account_sid));

-- Counts without a row, and a rollback does not undo it.
CREATE SEQUENCE twilio_private.refused_webhooks;
COMMENT ON SEQUENCE twilio_private.refused_webhooks IS 'Number of webhooks that were refused.';

CREATE FUNCTION twilio_private.count_refusal(reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint := nextval('twilio_private.refused_webhooks');
BEGIN
    IF n <= 10 OR n % 1000 = 0 THEN
        RAISE LOG 'twilio: webhook refused: %, % so far', reason, n
            USING HINT = 'The first ten are logged, then every thousandth.';
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.count_refusal(text) IS 'Counts a refused webhook, and logs some of them.';
REVOKE ALL ON FUNCTION twilio_private.count_refusal(text) FROM PUBLIC;

-- Returns the answer, or null where the webhook is refused.
CREATE FUNCTION twilio_private.receive_webhook(
    url text, body bytea, signature text, content_type text, method text) RETURNS xml
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan -- planning would take longer than all the rest
SET enable_seqscan = off
AS $$
DECLARE
    silence CONSTANT xml := xml '<Response/>';
    most_bytes CONSTANT int := 262144;
    webhook record;
    said jsonb;
    status text;
    owners uuid[];
    nothing text;
BEGIN
    IF url IS NULL OR signature IS NULL OR octet_length(signature) > 200 OR octet_length(url) > 32768
       OR octet_length(body) > most_bytes THEN
        PERFORM twilio_private.count_refusal('no signature or too large');
        RETURN NULL;
    END IF;
    body := coalesce(body, '');
    content_type := coalesce(content_type, '');
    method := upper(coalesce(method, 'POST') COLLATE "C");
    webhook := twilio_private.read_webhook(url, body, content_type, method);
    said := webhook.parameters;

    owners := ARRAY(
        SELECT s.user_id
        FROM @extschema@.twilio_settings s
        JOIN twilio_private.credential c ON c.user_id = s.user_id AND c.kind = 'auth_token'
        WHERE lower(s.account_sid) = lower(webhook.account_sid) AND s.is_active
          -- While a token that worked is still believed, the new one is, too: nothing is lost until it has been verified.
          -- Where there is an API key, it may be that one which Twilio refuses since; the token signs as before.
          AND (s.is_verified OR c.previous_until > clock_timestamp()
               OR (s.api_key_sid IS NOT NULL AND s.last_verified_at IS NOT NULL))
          AND (twilio_private.webhook_valid(s.user_id, c.key_id, c.sealed, url, body, content_type, method, signature)
               OR (c.previous_until > clock_timestamp()
                   AND twilio_private.webhook_valid(s.user_id, c.previous_key_id, c.previous_sealed,
                                                    url, body, content_type, method, signature))));
    IF owners = '{}' THEN
        PERFORM twilio_private.count_refusal('the signature fits no verified account');
        RETURN NULL;
    END IF;

    IF said ? 'CallSid' AND NOT said ? 'MessageSid' THEN
        IF NOT twilio_private.receive_call(owners, webhook.message_id, said) THEN
            PERFORM twilio_private.count_refusal('the call is not one of the account');
            RETURN NULL;
        END IF;
        RETURN silence;
    END IF;

    status := lower(btrim(coalesce(said ->> 'MessageStatus', said ->> 'SmsStatus', '')) COLLATE "C");
    IF status NOT IN ('', 'receiving', 'received') THEN
        IF NOT twilio_private.apply_callback(owners, webhook.message_id, said) THEN
            PERFORM twilio_private.count_refusal('the message is not one of the account');
            RETURN NULL;
        END IF;
        -- A status that a crash loses is read again (reread.sql), so nobody has to wait for the disk. NOTIFY makes
        -- transactions commit one after the other, which with a flush each would be slow.
        nothing := twilio_private.may_commit_lazily('@extschema@.twilio_messages', '@extschema@.twilio_message_events');
        RETURN silence;
    ELSIF said ?& ARRAY['MessageSid', 'From', 'To'] THEN
        RETURN twilio_private.receive_message(owners, said);
    END IF;
    RETURN silence; -- nothing that we know, but it is Twilio's
END
$$;
COMMENT ON FUNCTION twilio_private.receive_webhook(text, bytea, text, text, text) IS
    'Checks a webhook''s signature and applies it; returns the TwiML to answer, null when it is refused.';
REVOKE ALL ON FUNCTION twilio_private.receive_webhook(text, bytea, text, text, text) FROM PUBLIC;

-- Where Twilio finds us is ours to say, not the caller's: the signature must be for where twilio.webhook_url points.
CREATE FUNCTION twilio_private.signed_url(seen text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    public_url CONSTANT text := regexp_replace(current_setting('twilio.webhook_url'), '://[^/@]*@', '://');
    public_host CONSTANT text := substring(public_url FROM '^https?://[^/]+');
    public_path CONSTANT text := rtrim(substr(public_url, length(public_host) + 1), '/');
    seen_path CONSTANT text := substring(seen FROM '^https?://[^/?#]+(.*)$');
BEGIN
    IF public_url = '' THEN
        RETURN seen;
    ELSIF seen IS NULL THEN
        RETURN public_url;
    ELSIF seen_path ~ '^/twilio/webhook' AND NOT starts_with(seen_path, public_path) THEN
        -- A proxy in front has taken away or changed what Twilio called, up to where nginx takes webhooks.
        RETURN public_host || public_path || substr(seen_path, length('/twilio/webhook') + 1);
    END IF;
    RETURN public_host || seen_path;
END
$$;
COMMENT ON FUNCTION twilio_private.signed_url(text) IS
    'The URL that Twilio must have signed, from the one that the proxy saw.';
REVOKE ALL ON FUNCTION twilio_private.signed_url(text) FROM PUBLIC;

-- SECURITY DEFINER: a webhook acts for the user whose token signed it, and for nobody before that.
CREATE FUNCTION @extschema@.twilio_webhook(bytea) RETURNS @extschema@."text/xml"
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET default_transaction_isolation = 'read committed' -- PostgREST begins the transaction with it, whatever the role has
AS $$
DECLARE
    headers CONSTANT jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
    answer xml := twilio_private.receive_webhook(
        twilio_private.signed_url(headers ->> 'x-twilio-url'), $1, headers ->> 'x-twilio-signature',
        headers ->> 'x-original-content-type', headers ->> 'x-original-method');
BEGIN
    IF answer IS NULL THEN
        PERFORM set_config('response.status', '403', true);
        RETURN '<Response/>';
    END IF;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_webhook(bytea) IS
    'Takes Twilio''s webhooks from nginx and PostgREST: the raw body, the rest in the headers X-Twilio-Url,
X-Twilio-Signature, X-Original-Method and X-Original-Content-Type. Answers TwiML; 403 and no change for what Twilio has not signed.';
REVOKE ALL ON FUNCTION @extschema@.twilio_webhook(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_webhook(bytea) TO twilio_webhook;

-- SECURITY DEFINER: as twilio_webhook().
CREATE FUNCTION @extschema@.twilio_handle_webhook(
    url text, body bytea, signature text, content_type text DEFAULT 'application/x-www-form-urlencoded', method text DEFAULT 'POST')
RETURNS xml
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer xml;
BEGIN
    IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
        answer := twilio_private.receive_webhook(url, body, signature, content_type, method);
    ELSE
        BEGIN
            answer := twilio_private.receive_webhook(url, body, signature, content_type, method);
        EXCEPTION WHEN serialization_failure THEN
            RAISE EXCEPTION 'the message has changed meanwhile'
                USING ERRCODE = 'PT409',
                      DETAIL = 'It was changed since this transaction began.',
                      HINT = 'Repeat the call in a new transaction; best is one that is READ COMMITTED.';
        END;
    END IF;
    IF answer IS NULL THEN
        RAISE EXCEPTION 'webhook refused'
            USING ERRCODE = 'PT403',
                  DETAIL = 'It is not signed with the Auth Token of a verified account here, or is about another account''s message.',
                  HINT = 'Pass the URL exactly as Twilio called it, the raw body, and the header X-Twilio-Signature.';
    END IF;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_handle_webhook(text, bytea, text, text, text) IS
    'Takes one of Twilio''s webhooks from an app that receives them itself: the URL that Twilio called, the raw body,
the header X-Twilio-Signature. Returns the TwiML to answer; fails with PT403 for what Twilio has not signed.';
REVOKE ALL ON FUNCTION @extschema@.twilio_handle_webhook(text, bytea, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_handle_webhook(text, bytea, text, text, text) TO twilio_webhook;
