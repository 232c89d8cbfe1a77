-- twilio_configure_webhooks(): tells Twilio where to report what the user's numbers receive. An order of the kind
-- `number_webhooks` per number; its subject is the SID of the number.

-- SECURITY DEFINER: a user may not write orders. It is about the numbers of the current user alone.
CREATE FUNCTION @extschema@.twilio_configure_webhooks() RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner CONSTANT uuid := twilio_private.require_user();
    settings CONSTANT @extschema@.twilio_settings := twilio_private.require_settings(owner);
BEGIN
    IF current_setting('twilio.webhook_url') = '' THEN
        RAISE EXCEPTION 'this server has no webhook URL'
            USING ERRCODE = 'PT409',
                  DETAIL = 'twilio.webhook_url is empty.',
                  HINT = 'The server''s administrator sets it, such as https://crm.example.com/twilio/webhook.';
    END IF;
    PERFORM twilio_private.require_working(settings);
    INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, expires_at)
    SELECT owner, 'number_webhooks', md5(owner || n.sid)::uuid, n.sid, now() + interval '1 hour'
    FROM @extschema@.twilio_numbers n
    WHERE n.user_id = owner AND (n.sms OR n.mms)
      AND NOT EXISTS (SELECT FROM twilio_private.outbox o WHERE o.ref = md5(owner || n.sid)::uuid AND o.state = 'queued');
    IF NOT EXISTS (SELECT FROM @extschema@.twilio_numbers n WHERE n.user_id = owner) THEN
        RAISE EXCEPTION 'no phone numbers are known'
            USING ERRCODE = 'PT409',
                  DETAIL = 'twilio_numbers has none of the account''s numbers.',
                  HINT = 'List them first: SELECT * FROM twilio_phone_numbers().';
    END IF;
    RETURN (SELECT count(*) FROM @extschema@.twilio_numbers n WHERE n.user_id = owner AND (n.sms OR n.mms));
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_configure_webhooks() IS
    'Makes Twilio report to twilio.webhook_url what the user''s numbers receive, and returns how many numbers that are.
It happens when the transaction commits; twilio_numbers.sms_url shows it, twilio_queue and twilio_audit_log what is in the way.';
REVOKE ALL ON FUNCTION @extschema@.twilio_configure_webhooks() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_configure_webhooks() TO twilio_user;

-- PostgREST takes it for a column of the table, where a request names it.
CREATE FUNCTION @extschema@.twilio_reports_here(number @extschema@.twilio_numbers) RETURNS boolean
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce(number.sms_url = current_setting('twilio.webhook_url'), false);
END;
COMMENT ON FUNCTION @extschema@.twilio_reports_here(@extschema@.twilio_numbers) IS
    'Whether what a number receives is reported to twilio.webhook_url: GET /api/twilio_numbers?select=*,twilio_reports_here.';
REVOKE ALL ON FUNCTION @extschema@.twilio_reports_here(@extschema@.twilio_numbers) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_reports_here(@extschema@.twilio_numbers) TO twilio_user;

CREATE FUNCTION twilio_private.number_webhook_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    url CONSTANT text := current_setting('twilio.webhook_url');
BEGIN
    RETURN QUERY
        SELECT o.id, 'POST', 'api.twilio.com', format('/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers/%s.json', n.sid),
               -- Where a number has an application, Twilio ignores its SmsUrl.
               twilio_private.form_encode(ARRAY['SmsUrl', url, 'SmsMethod', 'POST', 'SmsApplicationSid', '',
                                                'StatusCallback', url, 'StatusCallbackMethod', 'POST'])
        FROM unnest(orders) o
        JOIN @extschema@.twilio_numbers n ON n.user_id = o.user_id AND n.sid = o.subject
        WHERE url <> '';
END
$$;
COMMENT ON FUNCTION twilio_private.number_webhook_requests(twilio_private.outbox[]) IS 'The POSTs that set the webhooks of numbers.';
REVOKE ALL ON FUNCTION twilio_private.number_webhook_requests(twilio_private.outbox[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.number_webhook_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.twilio_numbers n
    SET sms_url = nullif(r.body ->> 'sms_url', ''), voice_url = nullif(r.body ->> 'voice_url', ''), refreshed_at = clock_timestamp()
    FROM unnest(results) r
    WHERE r.outcome = 'sent' AND n.user_id = r.user_id AND n.sid = r.subject AND r.body ->> 'sid' = n.sid;
END
$$;
COMMENT ON FUNCTION twilio_private.number_webhook_results(twilio_private.order_result[]) IS
    'Takes what came of setting the webhooks of numbers.';
REVOKE ALL ON FUNCTION twilio_private.number_webhook_results(twilio_private.order_result[]) FROM PUBLIC;

INSERT INTO twilio_private.order_kind (kind, repeatable, request_function, result_function) VALUES
    ('number_webhooks', true, 'number_webhook_requests', 'number_webhook_results');
