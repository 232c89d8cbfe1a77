-- Numbers of other carriers that are ported to Twilio: whether they can be, the requests, and what has become of them.
--
-- A request has secrets: the PINs of the numbers and the account number at the other carrier. They go to Twilio and
-- nowhere else. So the functions that see a request plan their statements without its values, which auto_explain would
-- log as constants of the plan.

-- SECURITY DEFINER: reads the sealed credential of the current user.
CREATE FUNCTION @extschema@.twilio_portability(
    number text, OUT phone_number text, OUT portable boolean, OUT reason text, OUT reason_code int, OUT number_type text,
    OUT country text, OUT pin_and_account_number_required boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    account CONSTANT twilio_private.account := twilio_private.require_verified_account(twilio_private.require_user());
    answer record;
BEGIN
    answer := twilio_private.ask_account(account, 'portability', 'GET', 'numbers.twilio.com',
                                         '/v1/Porting/Portability/PhoneNumber/' || twilio_private.require_dialled(number),
                                         deadline => deadline);
    IF answer.http_status = 404 THEN -- nothing that could be a number
        phone_number := number;
        portable := false;
        reason := 'Twilio does not know this number.';
    ELSE
        PERFORM twilio_private.require_answer(account, 'a portability', answer.http_status, answer.error_code, answer.error_message);
        phone_number := answer.body ->> 'phone_number';
        portable := answer.body -> 'portable' = 'true';
        reason := answer.body ->> 'not_portable_reason';
        reason_code := twilio_private.whole(answer.body ->> 'not_portable_reason_code');
        number_type := answer.body ->> 'number_type';
        country := answer.body ->> 'country';
        pin_and_account_number_required := answer.body -> 'pin_and_account_number_required' = 'true';
        IF portable IS NULL THEN
            PERFORM twilio_private.refuse_answer('a portability');
        END IF;
    END IF;
    PERFORM twilio_private.await_audit();
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_portability(text) IS
    'Whether a number of another carrier can be ported to Twilio, and if not why. twilio_port_in() has it ported.';
REVOKE ALL ON FUNCTION @extschema@.twilio_portability(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_portability(text) TO twilio_user;

CREATE FUNCTION twilio_private.parse_iso8601(value text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET "TimeZone" = 'UTC'
AS $$
BEGIN
    RETURN CASE WHEN value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$'
                THEN value::timestamptz END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.parse_iso8601(text) IS
    'The time in ISO 8601 (2024-02-29T10:15:00Z), in UTC where it says no zone; null for anything else.';
REVOKE ALL ON FUNCTION twilio_private.parse_iso8601(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.port_status(value text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN translate(lower(value COLLATE "C"), ' -', '__');
COMMENT ON FUNCTION twilio_private.port_status(text) IS 'A status of porting in one spelling: Twilio writes "In Review" and "in_review".';
REVOKE ALL ON FUNCTION twilio_private.port_status(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.require_port_in(request jsonb, account_sid text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    carrier CONSTANT jsonb := request -> 'losing_carrier_information';
    reason text;
    number jsonb;
BEGIN
    IF jsonb_typeof(request) IS DISTINCT FROM 'object' THEN
        reason := 'The request is a JSON object.';
    ELSIF coalesce(request ->> 'account_sid', account_sid) <> account_sid THEN
        reason := 'account_sid is another account than that of the settings; leave it out.';
    ELSIF jsonb_typeof(request -> 'phone_numbers') IS DISTINCT FROM 'array' OR jsonb_array_length(request -> 'phone_numbers') = 0 THEN
        reason := 'phone_numbers is an array of objects, one for each number, such as {"phone_number": "+12025550123"}.';
    ELSIF octet_length(request::text) > 6000 THEN -- an ask has room for little more
        reason := 'It is longer than 6000 bytes, some hundred numbers; port the rest by another request.';
    ELSIF jsonb_typeof(request -> 'documents') IS DISTINCT FROM 'array' OR jsonb_array_length(request -> 'documents') = 0 THEN
        reason := 'documents is an array of the SIDs (RD…) of the bills that were uploaded at https://console.twilio.com.';
    ELSIF jsonb_typeof(carrier) IS DISTINCT FROM 'object' THEN
        reason := 'losing_carrier_information is an object: whose the numbers are at the other carrier.';
    ELSIF coalesce(carrier ->> 'customer_name', '') = '' OR coalesce(carrier ->> 'authorized_representative', '') = ''
          OR coalesce(carrier ->> 'authorized_representative_email', '') = '' THEN
        reason := 'losing_carrier_information has a customer_name, an authorized_representative and an authorized_representative_email.';
    ELSIF request ->> 'target_port_in_date' IS NOT NULL AND twilio_private.parse_day(request ->> 'target_port_in_date') IS NULL THEN
        reason := 'target_port_in_date is a day, such as 2030-01-31.';
    ELSE
        FOR number IN SELECT jsonb_array_elements(request -> 'phone_numbers') LOOP
            IF twilio_private.is_number(number ->> 'phone_number') IS NOT TRUE THEN
                reason := 'Each phone_number is written in E.164 format: +, country code, number, at most 15 digits.';
            END IF;
        END LOOP;
        FOR number IN SELECT jsonb_array_elements(request -> 'documents') LOOP
            IF (number #>> '{}' ~ '^RD[0-9A-Za-z]{32}$') IS NOT TRUE THEN
                reason := 'Each document is the SID (RD…) of a bill that was uploaded at https://console.twilio.com.';
            END IF;
        END LOOP;
    END IF;
    IF reason IS NOT NULL THEN
        PERFORM twilio_private.refuse_input('invalid port-in request', reason, 'See the porting of numbers in docs/api.md.');
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.require_port_in(jsonb, text) IS
    'Fails with 22023 where a request to port numbers is plainly incomplete, or for another account than this; no value is repeated.';
REVOKE ALL ON FUNCTION twilio_private.require_port_in(jsonb, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.without_port_secrets(words text, request jsonb) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    secret text;
BEGIN
    FOR secret IN
        SELECT s.value #>> '{}'
        FROM (SELECT jsonb_path_query(request, '$.**.pin') UNION SELECT jsonb_path_query(request, '$.**.account_number')) s (value)
        WHERE s.value <> 'null'
        ORDER BY length(s.value #>> '{}') DESC
    LOOP
        words := replace(words, secret, '…');
    END LOOP;
    RETURN words;
END
$$;
COMMENT ON FUNCTION twilio_private.without_port_secrets(text, jsonb) IS
    'What Twilio says about a request to port numbers, without the PINs and account numbers in it.';
REVOKE ALL ON FUNCTION twilio_private.without_port_secrets(text, jsonb) FROM PUBLIC;

CREATE FUNCTION twilio_private.without_members(value jsonb, VARIADIC names text[]) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN CASE jsonb_typeof(value)
        WHEN 'object' THEN (
            SELECT coalesce(jsonb_object_agg(m.key, twilio_private.without_members(m.value, VARIADIC names)), '{}')
            FROM jsonb_each(value) m WHERE m.key <> ALL (names))
        WHEN 'array' THEN (
            SELECT coalesce(jsonb_agg(twilio_private.without_members(e.value, VARIADIC names) ORDER BY e.n), '[]')
            FROM jsonb_array_elements(value) WITH ORDINALITY e (value, n))
        ELSE value
    END;
END
$$;
COMMENT ON FUNCTION twilio_private.without_members(jsonb, text[]) IS 'The value without the members of these names, at any depth.';
REVOKE ALL ON FUNCTION twilio_private.without_members(jsonb, text[]) FROM PUBLIC;

-- SECURITY DEFINER: reads the sealed credential of the current user.
CREATE FUNCTION @extschema@.twilio_port_in(
    request jsonb, OUT sid text, OUT status text, OUT signature_request_url text, OUT raw jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    account CONSTANT twilio_private.account := twilio_private.require_verified_account(twilio_private.require_user());
    answer record;
    words text;
    reason text;
BEGIN
    PERFORM twilio_private.require_port_in(request, account.account_sid);
    BEGIN
        answer := twilio_private.ask_account(
            account, 'port_in', 'POST', 'numbers.twilio.com', '/v1/Porting/PortIn',
            (request || jsonb_build_object('account_sid', account.account_sid))::text, 'application/json', deadline => deadline);
        sid := answer.body ->> 'port_in_request_sid';
        IF answer.http_status < 300 AND sid IS NULL THEN
            PERFORM twilio_private.refuse_answer('a port-in request');
        END IF;
    EXCEPTION WHEN SQLSTATE 'PT502' OR SQLSTATE 'PT504' THEN
        GET STACKED DIAGNOSTICS words = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL;
        IF words IN ('Twilio cannot be reached', 'pg_twilio is not configured correctly', 'the pg_twilio worker cannot start', 'the pg_twilio worker is paused') THEN
            RAISE; -- nothing has left
        END IF;
        RAISE EXCEPTION USING
            ERRCODE = SQLSTATE, MESSAGE = words,
            DETAIL = concat_ws(' ', nullif(twilio_private.without_port_secrets(reason, request), ''), 'Twilio may have the port-in request all the same.'),
            HINT = 'Look for it before you ask again: SELECT * FROM twilio_port_ins().';
    END;
    words := twilio_private.without_port_secrets(answer.error_message, request);
    IF answer.http_status >= 400 AND answer.http_status NOT IN (401, 403, 404) THEN
        PERFORM twilio_private.refuse_input(
            'Twilio refused the port-in request', twilio_private.refusal(answer.http_status, answer.error_code, words),
            'Correct the request and ask again; Twilio has not taken it.');
    END IF;
    PERFORM twilio_private.require_answer(account, 'a port-in request', answer.http_status, answer.error_code, words);
    status := twilio_private.port_status(answer.body ->> 'port_in_request_status');
    signature_request_url := nullif(answer.body ->> 'signature_request_url', '');
    raw := twilio_private.without_members(answer.body, 'pin', 'port_out_pin', 'account_number');
    PERFORM twilio_private.await_audit();
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_port_in(jsonb) IS
    'Asks Twilio to port numbers of another carrier, at once: a rollback does not take it back, twilio_cancel_port_in() does.
The request is Twilio''s: phone_numbers, documents, losing_carrier_information and so on; account_sid is filled in. documents
are the SIDs of bills that were uploaded at https://console.twilio.com. PINs and account numbers go to Twilio and are kept
nowhere. After PT502 and PT504 Twilio may have it: look with twilio_port_ins() before asking again. What Twilio refuses is 22023.';
REVOKE ALL ON FUNCTION @extschema@.twilio_port_in(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_port_in(jsonb) TO twilio_user;

-- SECURITY DEFINER: reads the sealed credential of the current user.
CREATE FUNCTION @extschema@.twilio_port_ins()
RETURNS TABLE (sid text, status text, numbers int, ported int, suggested_action text, updated_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    account CONSTANT twilio_private.account := twilio_private.require_verified_account(twilio_private.require_user());
    token text;
    visited text[] := '{}';
    pages jsonb[] := '{}';
    answer record;
BEGIN
    LOOP
        answer := twilio_private.ask_account(
            account, 'port_ins', 'GET', 'numbers.twilio.com',
            '/v1/Porting/PortIn/PortInRequests?' || twilio_private.form_encode(ARRAY['Size', '100', 'Token', token]),
            counted => token IS NULL, deadline => deadline);
        PERFORM twilio_private.require_answer(account, 'a list of port-in requests', answer.http_status, answer.error_code, answer.error_message);
        IF jsonb_typeof(answer.body -> 'port_in_requests') IS DISTINCT FROM 'array' THEN
            PERFORM twilio_private.refuse_answer('a list of port-in requests');
        END IF;
        pages := array_append(pages, answer.body -> 'port_in_requests');
        visited := array_append(visited, token);
        token := nullif(answer.body #>> '{meta,next_token}', '');
        EXIT WHEN token IS NULL;
        IF token = ANY (visited) THEN
            PERFORM twilio_private.refuse_answer('the next page of the list');
        END IF;
    END LOOP;
    PERFORM twilio_private.await_audit();
    -- The list is live: a request may move from one page to the next while it is read.
    RETURN QUERY
        SELECT DISTINCT ON (r.value ->> 'port_in_request_sid')
               r.value ->> 'port_in_request_sid', twilio_private.port_status(r.value ->> 'port_in_request_status'),
               twilio_private.whole(r.value ->> 'phone_numbers_requested'), twilio_private.whole(r.value ->> 'phone_numbers_ported'),
               nullif(r.value ->> 'suggested_action', ''), twilio_private.parse_iso8601(r.value ->> 'status_last_updated_timestamp')
        FROM unnest(pages) page, jsonb_array_elements(page) r
        WHERE r.value ->> 'port_in_request_sid' IS NOT NULL;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_port_ins() IS
    'The port-in requests of the user''s account, live and complete, with their statuses in one spelling: in_review,
waiting_for_signature, in_progress, action_required, completed, canceled, expired.';
REVOKE ALL ON FUNCTION @extschema@.twilio_port_ins() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_port_ins() TO twilio_user;

CREATE FUNCTION twilio_private.port_in_path(sid text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (sid ~ '^KW[0-9A-Za-z]{32}$') IS NOT TRUE THEN
        PERFORM twilio_private.refuse_input('invalid port-in request SID', 'The SID of a port-in request has 34 characters and starts with KW.',
                                            'twilio_port_ins() lists them.');
    END IF;
    RETURN '/v1/Porting/PortIn/' || sid;
END
$$;
COMMENT ON FUNCTION twilio_private.port_in_path(text) IS 'Where Twilio has a port-in request; fails with 22023 if it is no SID of one.';
REVOKE ALL ON FUNCTION twilio_private.port_in_path(text) FROM PUBLIC;

-- SECURITY DEFINER: reads the sealed credential of the current user.
CREATE FUNCTION @extschema@.twilio_port_in_numbers(sid text)
RETURNS TABLE (phone_number text, status text, port_date timestamptz, rejection_reason text, rejection_reason_code int,
               request_status text, signature_request_url text, cancellation_reason text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    account CONSTANT twilio_private.account := twilio_private.require_verified_account(twilio_private.require_user());
    answer record;
BEGIN
    answer := twilio_private.ask_account(account, 'port_in_numbers', 'GET', 'numbers.twilio.com', twilio_private.port_in_path(sid),
                                         deadline => deadline, object => sid);
    IF answer.http_status = 404 THEN
        RAISE EXCEPTION 'Port-in request not found'
            USING ERRCODE = 'PT404',
                  DETAIL = 'The user''s account has no port-in request with this SID.',
                  HINT = 'twilio_port_ins() lists them.';
    END IF;
    PERFORM twilio_private.require_answer(account, 'a port-in request', answer.http_status, answer.error_code, answer.error_message);
    IF jsonb_typeof(answer.body -> 'phone_numbers') IS DISTINCT FROM 'array' THEN
        PERFORM twilio_private.refuse_answer('a port-in request');
    END IF;
    PERFORM twilio_private.await_audit();
    RETURN QUERY
        SELECT n.value ->> 'phone_number', twilio_private.port_status(n.value ->> 'port_in_phone_number_status'),
               twilio_private.parse_iso8601(n.value ->> 'port_date'),
               coalesce(nullif(n.value ->> 'rejection_reason', ''), nullif(n.value ->> 'not_portability_reason', '')),
               twilio_private.whole(coalesce(n.value ->> 'rejection_reason_code', n.value ->> 'not_portability_reason_code')),
               twilio_private.port_status(answer.body ->> 'port_in_request_status'), nullif(answer.body ->> 'signature_request_url', ''),
               nullif(answer.body ->> 'order_cancellation_reason', '')
        FROM jsonb_array_elements(answer.body -> 'phone_numbers') n;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_port_in_numbers(text) IS
    'What has become of the numbers of a port-in request: status, the date once the other carrier has agreed to it, or why it
refuses; and of the request as a whole. Unknown or another account''s SID: PT404.';
REVOKE ALL ON FUNCTION @extschema@.twilio_port_in_numbers(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_port_in_numbers(text) TO twilio_user;

-- SECURITY DEFINER: reads the sealed credential of the current user.
CREATE FUNCTION @extschema@.twilio_cancel_port_in(sid text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    account CONSTANT twilio_private.account := twilio_private.require_verified_account(twilio_private.require_user());
    answer record;
BEGIN
    answer := twilio_private.ask_account(account, 'cancel_port_in', 'DELETE', 'numbers.twilio.com', twilio_private.port_in_path(sid),
                                         deadline => deadline, object => sid);
    IF answer.http_status >= 400 AND answer.http_status NOT IN (401, 403, 404) THEN
        RAISE EXCEPTION 'the port-in request cannot be canceled'
            USING ERRCODE = 'PT409',
                  DETAIL = twilio_private.refusal(answer.http_status, answer.error_code, answer.error_message),
                  HINT = 'twilio_port_in_numbers() tells how far it has come.';
    ELSIF answer.http_status <> 404 THEN
        PERFORM twilio_private.require_answer(account, 'no answer', answer.http_status, answer.error_code, answer.error_message);
    END IF;
    PERFORM twilio_private.await_audit();
    RETURN answer.http_status <> 404;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_cancel_port_in(text) IS
    'Cancels a port-in request, at once: true. Unknown or another account''s SID: false. Too late for it: PT409.';
REVOKE ALL ON FUNCTION @extschema@.twilio_cancel_port_in(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_cancel_port_in(text) TO twilio_user;
