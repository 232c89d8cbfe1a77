-- Templates: each user's own, rendered in one pass, sent as any message.
\set alice '00000000-0000-0000-0000-00000000000a'
\set bob '00000000-0000-0000-0000-00000000000b'
SELECT twilio_disarm();
SET twilio.user_id = :'alice';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('AC' || repeat('a', 32), repeat('a', 32), '+15005550001');
SELECT count(twilio_private.record_verification(user_id, true, 'x', 'active', 'Full', 'ok', now())::text) FROM twilio_settings;
SET ROLE regress_twilio_app;
INSERT INTO twilio_templates (name, body) VALUES ('reminder', 'Hello {{name}}, see you at {{ time }}. {{name}}!'), ('plain', 'No places: { } {{}} {{1st}} {{ä}} }} {');
SELECT twilio_render_template('reminder', '{"name": "Grace", "time": 9, "unused": true}');
SELECT twilio_render_template('reminder', '{"name": "{{time}} \\1 &", "time": "{{name}}"}') AS "values are no places";
SELECT twilio_render_template('plain');
SELECT attempt($$SELECT twilio_render_template('reminder', '{"name": "Grace"}')$$), attempt($$SELECT twilio_render_template('reminder', '{"name": null, "time": 9}')$$),
       attempt($$SELECT twilio_render_template('reminder', NULL)$$), attempt($$SELECT twilio_render_template('none')$$), attempt('SELECT twilio_render_template(NULL)');

SELECT to_number, body, status FROM twilio_send_template('+15005550009', 'reminder', '{"name": "Grace", "time": "9"}', idempotency_key => 'k');
SELECT attempt($$SELECT twilio_send_template('+15005550009', 'reminder', '{"name": "Alan", "time": "9"}', idempotency_key => 'k')$$);
SELECT count(*) FROM twilio_messages;
SELECT attempt($$INSERT INTO twilio_templates (name, body) VALUES ('', 'x')$$), attempt($$INSERT INTO twilio_templates (name, body) VALUES ('empty', '')$$),
       attempt($$INSERT INTO twilio_templates (name, body) VALUES ('reminder', 'x')$$);

-- nobody reads or writes another's
UPDATE twilio_templates SET created_at = 'epoch', body = body || ' Bye.' WHERE name = 'plain' RETURNING created_at > 'epoch' AS kept;
SET twilio.user_id = :'bob';
SELECT count(*) FROM twilio_templates;
SELECT attempt($$SELECT twilio_render_template('plain')$$);
SELECT attempt(format('INSERT INTO twilio_templates (user_id, name, body) VALUES (%L, %L, %L)', :'alice', 'x', 'x'));
INSERT INTO twilio_templates (name, body) VALUES ('plain', 'Bob''s');
SELECT twilio_render_template('plain');
SELECT attempt(format('UPDATE twilio_templates SET user_id = %L', :'alice'));
RESET twilio.user_id;
SELECT attempt($$INSERT INTO twilio_templates (name, body) VALUES ('x', 'x')$$);

RESET ROLE;
SET client_min_messages = error;
DELETE FROM twilio_templates;
DELETE FROM twilio_messages;
DELETE FROM twilio_settings;
