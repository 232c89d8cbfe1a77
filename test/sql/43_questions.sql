-- What becomes of Twilio's answers to twilio_verify() and twilio_phone_numbers(). Twilio is not asked: ask() is replaced, in a
-- transaction that is rolled back.
\set alice '00000000-0000-0000-0000-00000000000a'
SET twilio.user_id = :'alice';
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('a', 32), repeat('a', 32));
BEGIN;
CREATE TABLE answers (n serial, http_status int, error_code int, error_message text, body jsonb);
CREATE TABLE asked (n serial, path text, kind text, username text, counted boolean);
CREATE OR REPLACE FUNCTION twilio_private.ask(
    user_id uuid, action text, object text, username text, kind text, key_id text, sealed bytea, method text, host text, path text, content text,
    content_type text, counted boolean, deadline timestamptz, OUT http_status integer, OUT error_code integer, OUT error_message text, OUT body jsonb)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO public.asked (path, kind, username, counted) VALUES (ask.path, ask.kind, ask.username, ask.counted);
    DELETE FROM public.answers a WHERE a.n = (SELECT min(n) FROM public.answers)
    RETURNING a.http_status, a.error_code, a.error_message, a.body INTO http_status, error_code, error_message, body;
END
$$;
CREATE FUNCTION answer(http_status int, body jsonb DEFAULT NULL, error_code int DEFAULT NULL, error_message text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    INSERT INTO answers (http_status, error_code, error_message, body) VALUES ($1, $3, $4, $2)
$$;
CREATE FUNCTION account(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql
RETURN jsonb_build_object('sid', 'AC' || repeat('a', 32), 'friendly_name', 'Good & Sons', 'status', 'active', 'type', 'Full') || more;
CREATE FUNCTION verify(http_status int, body jsonb DEFAULT NULL, error_code int DEFAULT NULL, error_message text DEFAULT NULL,
                       OUT verified boolean, OUT account_status text, OUT code int, OUT message text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM answer($1, $2, $3, $4);
    SELECT v.verified, v.account_status, v.error_code, v.message INTO verified, account_status, code, message FROM twilio_verify() v;
END
$$;

-- ---- twilio_verify() -----------------------------------------------------------------------------------------------

\x on
SELECT answer(200, account());
SELECT verified, account_sid, account_name, account_status, account_type, error_code, message FROM twilio_verify();
SELECT is_verified, last_verified_at > now() AS "just now", account_name, account_status, account_type, verification_error FROM twilio_settings;
-- what a refusal does not tell is kept, and when they were good last
SELECT last_verified_at AS verified_at FROM twilio_settings \gset
SELECT answer(401, NULL, 20003, 'Authenticate');
SELECT verified, account_name, account_status, error_code, message FROM twilio_verify();
SELECT is_verified, last_verified_at = :'verified_at' AS "as before", account_name, account_status, account_type, verification_error FROM twilio_settings;
-- a name changes, and how a SID is written does not matter
SELECT answer(200, account('{"friendly_name": "Better & Sons", "type": "Trial", "sid": "acAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}'));
SELECT verified FROM twilio_verify();
SELECT is_verified, last_verified_at > :'verified_at' AS later, account_name, account_status, account_type, verification_error FROM twilio_settings;
\x off
-- an account that can be read and is not active
SELECT * FROM verify(200, account('{"status": "closed"}'));
SELECT * FROM verify(200, account() - 'status');
-- refusals in plain words, with Twilio's
SELECT v.verified, v.code, left(v.message, 150) AS message FROM (VALUES
    (401, NULL, NULL), (403, 20403, 'Forbidden.'), (403, 20005, NULL), (403, 10001, ' '), (403, 20006, 'Access denied'), (403, 20010, NULL),
    (403, 20008, 'Test'), (404, 20404, 'Not found'), (400, NULL, 'x'), (400, 1, repeat('y', 400))) r (status, code, said),
    LATERAL verify(r.status, NULL, r.code, r.said) v;
-- an answer about another account is none
SELECT attempt(format('SELECT verify(200, %L)', body)) FROM (VALUES (account('{"sid": "AC"}')), ('[]')) v (body);

-- an API key is tried as well, and counts as no other question; a token that is refused is said first
DELETE FROM answers;
TRUNCATE asked;
UPDATE twilio_settings SET api_key_sid = 'SK' || repeat('1', 32), api_key_secret = repeat('s', 32);
SELECT answer(200, account()), answer(200, '{}'), answer(200, account()), answer(401, NULL, 20003, 'Authenticate'), answer(200, account());
SELECT verified, account_status, error_code, message FROM twilio_verify();
SELECT verified, account_status, error_code, message FROM twilio_verify();
SELECT * FROM verify(404, NULL, 20404);
SELECT * FROM verify(401, NULL, 20003);
SELECT replace(path, repeat('a', 32), '…') AS path, kind, left(username, 2) AS username, counted FROM asked ORDER BY n;
UPDATE twilio_settings SET api_key_sid = NULL;

-- a good word closes the breaker, a bad one does not
SELECT twilio_private.open_breaker(:'alice', 20003, 'Authenticate');
SELECT verified FROM verify(401, NULL, 20003);
SELECT count(*) FROM twilio_private.breaker;
SELECT verified FROM verify(200, account());
SELECT count(*) FROM twilio_private.breaker;
-- what Twilio said last is kept, in words of our own where it said none; of an API key it says so
SELECT twilio_private.open_breaker(:'alice', 20003, 'Authenticate'), twilio_private.open_breaker(:'alice', 10001, NULL);
SELECT error_code, message, (SELECT verification_error FROM twilio_settings) FROM twilio_private.breaker;
UPDATE twilio_settings SET api_key_sid = 'SK' || repeat('1', 32), api_key_secret = repeat('s', 32);
SELECT twilio_private.open_breaker(:'alice', 20003, 'Authenticate');
SELECT left(verification_error, 50) AS error FROM twilio_settings;
UPDATE twilio_settings SET api_key_sid = NULL;
SELECT verified FROM verify(200, account());
-- the secret was not restored
SAVEPOINT here;
DELETE FROM twilio_private.credential;
SELECT attempt('SELECT twilio_verify()');
ROLLBACK TO here;

-- ---- twilio_phone_numbers() ----------------------------------------------------------------------------------------

CREATE FUNCTION number(n int, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql
RETURN jsonb_build_object('sid', 'PN' || n, 'phone_number', '+1500555000' || n, 'friendly_name', 'Desk ' || n, 'capabilities', '{"sms": true, "mms": true, "voice": true}'::jsonb,
                          'sms_url', '', 'voice_url', 'https://example.com/' || n, 'date_created', 'Thu, 24 Aug 2023 05:01:45 +0000') || more;
CREATE FUNCTION listed(http_status int, body jsonb DEFAULT NULL, error_code int DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    DELETE FROM answers;
    SELECT answer($1, $2, $3);
    SELECT attempt('SELECT twilio_phone_numbers()')
$$;
CREATE FUNCTION page(next text, VARIADIC numbers jsonb[]) RETURNS void LANGUAGE sql
RETURN answer(200, jsonb_build_object('incoming_phone_numbers', to_jsonb(numbers), 'next_page_uri', next));
SELECT '/2010-04-01/Accounts/AC' || repeat('a', 32) || '/IncomingPhoneNumbers.json?' AS list \gset
-- pages are one list, though a number moves from one to the next; what is none is left out; what cannot be read is unknown
TRUNCATE asked;
SELECT page(:'list' || 'Page=1', number(3), number(1, '{"capabilities": {"sms": false, "voice": true}, "date_created": "2023-08-24"}'), number(2));
SELECT page('', number(2), number(4, '{"date_created": "Thu, 31 Feb 2023 05:01:45 +0000", "capabilities": {"sms": null}}'), number(5) - 'sid', number(6) - 'phone_number');
SET TimeZone = 'UTC';
SELECT * FROM twilio_phone_numbers();
SELECT replace(path, repeat('a', 32), '…') AS path, counted FROM asked ORDER BY n;
SELECT sid, phone_number, is_default, refreshed_at >= now() AS refreshed FROM twilio_numbers ORDER BY sid;
-- whatever Twilio changes is followed, and what is the user's is kept
UPDATE twilio_numbers SET is_default = (sid = 'PN1'), refreshed_at = now() - interval '1 day';
SELECT page(NULL, number(2), jsonb_build_object('sid', 'PN1', 'phone_number', '+447700900123', 'friendly_name', 'Moved', 'capabilities', '{"sms": true, "mms": true, "voice": false}'::jsonb,
            'sms_url', 'https://example.com/sms', 'voice_url', '', 'date_created', 'Fri, 25 Aug 2023 05:01:45 +0000'));
SELECT * FROM twilio_phone_numbers();
SELECT sid, is_default, refreshed_at >= now() AS refreshed FROM twilio_numbers ORDER BY sid;
-- neither to another account, list or host, nor round in circles
SELECT listed(200, jsonb_build_object('incoming_phone_numbers', jsonb_build_array(number(1)), 'next_page_uri', next)) FROM (VALUES
    ('/2010-04-01/Accounts/AC' || repeat('b', 32) || '/IncomingPhoneNumbers.json?Page=1'), ('/2010-04-01/Accounts/AC' || repeat('a', 32) || '/Messages.json?Page=1'),
    ('https://example.com/'), (:'list' || 'PageSize=250')) v (next);
-- refusals: of the credentials, of the request; and what is no list
SELECT listed(status, NULL, code) FROM (VALUES (401, 20003), (403, 20403), (404, 20404), (400, 21481)) v (status, code);
SELECT listed(200, body) FROM unnest(ARRAY[jsonb '{"incoming_phone_numbers": {}}', '[]']) body;
SELECT sid FROM twilio_numbers ORDER BY sid;
-- before they are verified nobody is asked
TRUNCATE asked;
SELECT twilio_private.record_verification(:'alice', false, NULL, NULL, NULL, 'Twilio refuses this.', now());
SELECT attempt('SELECT twilio_phone_numbers()');
UPDATE twilio_settings SET auth_token = repeat('b', 32);
SELECT attempt('SELECT twilio_phone_numbers()');
SELECT count(*) AS asked FROM asked;

-- ---- twilio_configure_webhooks() -----------------------------------------------------------------------------------

-- only Twilio's word about a number says where it reports
SELECT twilio_private.number_webhook_results(ARRAY[
    ROW(1, :'alice', gen_random_uuid(), n.sid, outcome, 200, NULL, NULL, NULL, jsonb_build_object('sid', said, 'sms_url', outcome, 'voice_url', ''), 1, now(), now(), NULL, NULL)::twilio_private.order_result])
FROM twilio_numbers n, (VALUES ('sent', 'PN2'), ('rejected', 'PN1')) v (outcome, said);
SELECT sid, sms_url, voice_url, n.twilio_reports_here FROM twilio_numbers n ORDER BY sid;
UPDATE twilio_numbers SET sms_url = NULL;
SELECT DISTINCT n.twilio_reports_here FROM twilio_numbers n;
-- ---- porting -------------------------------------------------------------------------------------------------------

-- one spelling of a status; times with and without a zone, and what is none
SELECT twilio_private.port_status(s) FROM unnest(ARRAY['In Review', 'in_review', 'Waiting-for-Signature', NULL]) s;
SELECT t, twilio_private.parse_iso8601(t) FROM unnest(ARRAY['2023-09-10T06:52:21Z', '2023-09-10T06:52:21.5+02:00', '2023-09-10T06:52:21', '2023-09-10', '2023-02-30', 'now', 'infinity', '']) t;
-- the secrets of a request are in nothing that Twilio says about it, the longest first
SELECT twilio_private.without_port_secrets('12 of 1234, 99 of a''b$1', '{"phone_numbers": [{"pin": "12"}, {"pin": 1234}, {"pin": null}, {"pin": ""}], "x": {"account_number": "a''b$1"}}'), twilio_private.without_port_secrets(NULL, '{"pin": "1"}');
ROLLBACK;
DELETE FROM twilio_settings;
