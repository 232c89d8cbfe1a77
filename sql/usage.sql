-- What else a user asks Twilio: what the account has used and owes, and what is known about a phone number.

CREATE FUNCTION twilio_private.parse_day(value text) RETURNS date
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' THEN value::date END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.parse_day(text) IS 'The day that a text is (2024-02-29), null if it is none.';
REVOKE ALL ON FUNCTION twilio_private.parse_day(text) FROM PUBLIC;

-- SECURITY DEFINER: reads the sealed credential of the current user.
CREATE FUNCTION @extschema@.twilio_usage(
    since date DEFAULT date_trunc('month', now() AT TIME ZONE 'UTC')::date, until date DEFAULT (now() AT TIME ZONE 'UTC')::date,
    only_category text DEFAULT NULL)
RETURNS TABLE (category text, description text, start_date date, end_date date, count numeric, count_unit text,
               usage numeric, usage_unit text, price numeric, price_unit text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    account CONSTANT twilio_private.account := twilio_private.require_verified_account(twilio_private.require_user());
    pages jsonb[];
BEGIN
    IF (since <= until AND isfinite(since) AND isfinite(until)) IS NOT TRUE THEN
        RAISE EXCEPTION 'invalid dates'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'since is a day, and until is no earlier one.',
                  HINT = 'Leave both out for the current month.';
    END IF;
    pages := twilio_private.ask_pages(
        account, 'usage',
        '/2010-04-01/Accounts/{AccountSid}/Usage/Records.json?'
        || twilio_private.form_encode(ARRAY['StartDate', to_char(since, 'YYYY-MM-DD'), 'EndDate', to_char(until, 'YYYY-MM-DD'), 'Category', only_category])
        || '&',
        'usage_records', 'a list of usage records', deadline);
    PERFORM twilio_private.await_audit();
    RETURN QUERY
        SELECT r.value ->> 'category', r.value ->> 'description', twilio_private.parse_day(r.value ->> 'start_date'), twilio_private.parse_day(r.value ->> 'end_date'),
               twilio_private.decimal(r.value ->> 'count'), r.value ->> 'count_unit',
               twilio_private.decimal(r.value ->> 'usage'), r.value ->> 'usage_unit',
               twilio_private.decimal(r.value ->> 'price'), upper((r.value ->> 'price_unit') COLLATE "C")
        FROM unnest(pages) page, jsonb_array_elements(page) r
        WHERE only_category IS NOT NULL OR r.value ->> 'category' = 'totalprice'
           OR twilio_private.decimal(r.value ->> 'usage') <> 0 OR twilio_private.decimal(r.value ->> 'price') <> 0
        ORDER BY 1;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_usage(date, date, text) IS
    'What the user''s account has used from one day to another, both included, in UTC, by category as Twilio bills it.
Categories contain each other (sms contains sms-outbound): totalprice is the sum, nothing else is to be added up.
Left out is what was not used, unless it is the category that is asked for. Twilio''s figures lag by up to a day.';
REVOKE ALL ON FUNCTION @extschema@.twilio_usage(date, date, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_usage(date, date, text) TO twilio_user;

-- SECURITY DEFINER: reads the sealed credential of the current user.
CREATE FUNCTION @extschema@.twilio_balance(OUT balance numeric, OUT currency text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    account CONSTANT twilio_private.account := twilio_private.require_verified_account(twilio_private.require_user());
    answer record;
BEGIN
    answer := twilio_private.ask_account(account, 'balance', 'GET', 'api.twilio.com', '/2010-04-01/Accounts/{AccountSid}/Balance.json',
                                         deadline => deadline);
    PERFORM twilio_private.require_answer(account, 'a balance', answer.http_status, answer.error_code, answer.error_message);
    balance := twilio_private.decimal(answer.body ->> 'balance');
    currency := upper((answer.body ->> 'currency') COLLATE "C");
    IF balance IS NULL THEN
        PERFORM twilio_private.refuse_answer('a balance');
    END IF;
    PERFORM twilio_private.await_audit();
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_balance() IS
    'What the user''s account has left, as Twilio says; it follows what is sent with some delay.';
REVOKE ALL ON FUNCTION @extschema@.twilio_balance() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_balance() TO twilio_user;

CREATE FUNCTION twilio_private.require_dialled(number text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF number IS NULL OR number !~ '^[+0-9(][-+0-9 ().]{1,30}$' THEN
        RAISE EXCEPTION 'invalid phone number'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'A number to be asked about has digits, blanks, dots, dashes and parentheses.',
                  HINT = 'Write it like +1234567890.';
    END IF;
    RETURN substr(twilio_private.form_encode(ARRAY['n', number]), 3);
END
$$;
COMMENT ON FUNCTION twilio_private.require_dialled(text) IS
    'Returns a number as part of a path, fails with 22023 if it could be something else.';
REVOKE ALL ON FUNCTION twilio_private.require_dialled(text) FROM PUBLIC;

-- SECURITY DEFINER: reads the sealed credential of the current user.
CREATE FUNCTION @extschema@.twilio_lookup(
    number text, details text[] DEFAULT NULL, OUT phone_number text, OUT valid boolean, OUT country_code text,
    OUT national_format text, OUT validation_errors text[], OUT line_type text, OUT carrier_name text, OUT raw jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    account CONSTANT twilio_private.account := twilio_private.require_verified_account(twilio_private.require_user());
    answer record;
BEGIN
    answer := twilio_private.ask_account(
        account, 'lookup', 'GET', 'lookups.twilio.com',
        '/v2/PhoneNumbers/' || twilio_private.require_dialled(number)
        || coalesce('?' || twilio_private.form_encode(ARRAY['Fields', array_to_string(details, ',')]), ''),
        deadline => deadline);
    phone_number := number;
    valid := false;
    IF answer.http_status <> 404 THEN -- nothing that could be a number
        PERFORM twilio_private.require_answer(account, 'a phone number', answer.http_status, answer.error_code, answer.error_message);
        IF answer.body ->> 'phone_number' IS NULL THEN
            PERFORM twilio_private.refuse_answer('a phone number');
        END IF;
        raw := answer.body;
        phone_number := raw ->> 'phone_number';
        valid := raw -> 'valid' = 'true';
        country_code := raw ->> 'country_code';
        national_format := raw ->> 'national_format';
        line_type := raw #>> '{line_type_intelligence,type}';
        carrier_name := raw #>> '{line_type_intelligence,carrier_name}';
        IF jsonb_typeof(raw -> 'validation_errors') = 'array' THEN
            validation_errors := ARRAY(SELECT jsonb_array_elements_text(raw -> 'validation_errors'));
        END IF;
    END IF;
    PERFORM twilio_private.await_audit();
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_lookup(text, text[]) IS
    'What Twilio knows about a phone number: is it one, of which country. details are packages that Twilio charges for,
such as line_type_intelligence (line_type, carrier_name) or caller_name; raw holds all of the answer.';
REVOKE ALL ON FUNCTION @extschema@.twilio_lookup(text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_lookup(text, text[]) TO twilio_user;
