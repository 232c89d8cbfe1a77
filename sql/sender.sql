-- The number or Messaging Service that a user's messages and calls go out from where they name none.

CREATE VIEW twilio_private.sender WITH (security_barrier) AS
SELECT s.user_id, s.messaging_service_sid,
       -- a subquery, for to start a join costs more than it does
       coalesce((SELECT n.phone_number FROM @extschema@.twilio_numbers n WHERE n.user_id = s.user_id AND n.is_default),
                s.phone_number) AS phone_number,
       s.is_active AND s.is_verified AND s.sms_enabled AS may_send,
       s.is_active AND s.is_verified AND s.voice_enabled AS may_call
FROM @extschema@.twilio_settings s;
COMMENT ON VIEW twilio_private.sender IS 'What messages and calls go out from that name no sender, and whether any may.';
COMMENT ON COLUMN twilio_private.sender.user_id IS 'The user (tenant).';
COMMENT ON COLUMN twilio_private.sender.messaging_service_sid IS 'The Messaging Service, which comes first for messages.';
COMMENT ON COLUMN twilio_private.sender.phone_number IS 'The default number, else the phone_number of the settings.';
COMMENT ON COLUMN twilio_private.sender.may_send IS 'Whether the account may send messages.';
COMMENT ON COLUMN twilio_private.sender.may_call IS 'Whether the account may place calls.';

CREATE FUNCTION twilio_private.sender_of(user_id uuid) RETURNS twilio_private.sender
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pg_twilio_user_row';
COMMENT ON FUNCTION twilio_private.sender_of(uuid) IS 'The sender of a user, read once for all rows of a statement.';
REVOKE ALL ON FUNCTION twilio_private.sender_of(uuid) FROM PUBLIC;
