CREATE OR REPLACE FUNCTION enqueue(n bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pgboss.job (name, data)
    SELECT 'send', jsonb_build_object('id', m.id, 'to', m.to_number, 'body', m.body) FROM new_messages(n) m
$$;

-- The first question is answered by the index of what is waiting, the second reads the whole table.
CREATE OR REPLACE FUNCTION finished() RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM pgboss.job WHERE name = 'send' AND state < 'active') THEN false
           ELSE NOT EXISTS (SELECT FROM pgboss.job WHERE name = 'send' AND state < 'completed') END
$$;

-- As if the quarter of an hour had passed after which a job of a worker that died is tried again.
CREATE OR REPLACE FUNCTION outlive_locks() RETURNS void LANGUAGE sql AS $$
    UPDATE pgboss.job SET started_on = started_on - interval '16 minutes' WHERE state = 'active'
$$;
