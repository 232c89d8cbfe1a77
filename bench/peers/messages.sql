-- What an application keeps of its messages. `finished()`, `enqueue()` and `outlive_locks()` are each queue's own.
CREATE TABLE IF NOT EXISTS messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    to_number text NOT NULL,
    body text NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    sid text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- The messages that pg_twilio sends in the same benchmark.
CREATE OR REPLACE FUNCTION new_messages(n bigint) RETURNS SETOF messages LANGUAGE sql AS $$
    INSERT INTO messages (to_number, body)
    SELECT '+1500555' || lpad(g::text, 7, '0'), 'Your appointment is tomorrow at 10:15. Reply C to confirm, no. ' || g
    FROM generate_series(1, n) g RETURNING *
$$;

CREATE OR REPLACE FUNCTION is_last_recorded() RETURNS boolean LANGUAGE sql AS $$
    SELECT sid IS NOT NULL FROM messages ORDER BY id DESC LIMIT 1
$$;
