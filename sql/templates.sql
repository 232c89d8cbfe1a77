-- twilio_templates: texts that a user sends again and again, with places for what differs: {{name}}.

CREATE TABLE @extschema@.twilio_templates (
    user_id uuid NOT NULL DEFAULT @extschema@.twilio_current_user_id(),
    name text NOT NULL CONSTRAINT name_is_short_and_plain CHECK (name ~ '^[^[:cntrl:]]+$' AND char_length(name) <= 100),
    body text NOT NULL CONSTRAINT body_is_a_text CHECK (char_length(body) BETWEEN 1 AND 4000),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, name)
);
COMMENT ON TABLE @extschema@.twilio_templates IS
    'Texts for messages with places for what differs, {{name}}; each user has the own ones. twilio_send_template() sends one.';
COMMENT ON COLUMN @extschema@.twilio_templates.user_id IS 'The user (tenant); filled in from the caller''s identity.';
COMMENT ON COLUMN @extschema@.twilio_templates.name IS 'What the user calls it, at most 100 characters.';
COMMENT ON COLUMN @extschema@.twilio_templates.body IS
    'The text. {{name}} stands for the variable name: a letter, then letters, digits and _.';
COMMENT ON COLUMN @extschema@.twilio_templates.created_at IS 'When it was written first. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_templates.updated_at IS 'When it was changed last. Read-only.';

-- No statistics of what people write: see settings.sql.
ALTER TABLE @extschema@.twilio_templates
    ALTER name SET STATISTICS 0,
    ALTER body SET STATISTICS 0;

ALTER TABLE @extschema@.twilio_templates ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON @extschema@.twilio_templates TO twilio_user
    USING (user_id = (SELECT @extschema@.twilio_current_user_id()))
    WITH CHECK (user_id = (SELECT @extschema@.twilio_current_user_id()));
GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.twilio_templates TO twilio_user;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_templates', '');

-- SECURITY DEFINER: uses twilio_private; it touches nothing but the row.
CREATE FUNCTION twilio_private.template_written() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF twilio_private.restoring() THEN
        RETURN NEW;
    END IF;
    IF NEW.user_id IS NULL THEN
        NEW.user_id := twilio_private.require_user();
    END IF;
    NEW.created_at := CASE TG_OP WHEN 'UPDATE' THEN OLD.created_at ELSE now() END;
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION twilio_private.template_written() IS 'Fills in what the user does not decide.';
REVOKE ALL ON FUNCTION twilio_private.template_written() FROM PUBLIC;
CREATE TRIGGER written BEFORE INSERT OR UPDATE ON @extschema@.twilio_templates
    FOR EACH ROW EXECUTE FUNCTION twilio_private.template_written();

-- SECURITY INVOKER: the row policy shows the caller's own templates only. In one pass, so that a value that looks like a
-- place stays what it is.
CREATE FUNCTION @extschema@.twilio_render_template(name text, variables jsonb DEFAULT '{}') RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    body text := (SELECT t.body FROM @extschema@.twilio_templates t
                  WHERE t.user_id = (SELECT @extschema@.twilio_current_user_id()) AND t.name = name);
    missing text;
    rendered text;
BEGIN
    IF body IS NULL THEN
        RAISE EXCEPTION 'Template not found'
            USING ERRCODE = 'PT404',
                  DETAIL = 'The current user has no template with this name.',
                  HINT = 'See twilio_templates.';
    END IF;
    SELECT string_agg(CASE WHEN piece[2] IS NULL THEN piece[1] ELSE variables ->> piece[2] END, '' ORDER BY n),
           string_agg(DISTINCT piece[2], ', ') FILTER (WHERE variables ->> piece[2] IS NULL)
    INTO rendered, missing
    FROM regexp_matches(body, '([{]{2}[[:space:]]*([A-Za-z][A-Za-z0-9_]*)[[:space:]]*[}]{2}|[^{]+|[{])', 'g')
         WITH ORDINALITY AS m (piece, n);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing variable'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('The template has places for which there is no value: %s.', missing),
                  HINT = 'Give a value for each, such as {"name": "Grace"}.';
    END IF;
    RETURN rendered;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_render_template(text, jsonb) IS
    'The text of one of the user''s templates, with the variables'' values in their places.
Without such a template: PT404. A place without a value: 22023.';
REVOKE ALL ON FUNCTION @extschema@.twilio_render_template(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_render_template(text, jsonb) TO twilio_user;

CREATE FUNCTION @extschema@.twilio_send_template(
    to_number text, template text, variables jsonb DEFAULT '{}', from_number text DEFAULT NULL,
    send_at timestamptz DEFAULT NULL, idempotency_key text DEFAULT NULL)
RETURNS @extschema@.twilio_messages
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN @extschema@.twilio_send_sms(to_number, @extschema@.twilio_render_template(template, variables), from_number,
                                       send_at => send_at, idempotency_key => idempotency_key);
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_send_template(text, text, jsonb, text, timestamptz, text) IS
    'As twilio_send_sms(), with the text of one of the user''s templates.';
REVOKE ALL ON FUNCTION @extschema@.twilio_send_template(text, text, jsonb, text, timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_send_template(text, text, jsonb, text, timestamptz, text) TO twilio_user;
