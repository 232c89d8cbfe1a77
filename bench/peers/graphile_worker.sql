CREATE OR REPLACE FUNCTION enqueue(n bigint) RETURNS void LANGUAGE sql AS $$
    SELECT count(*) FROM graphile_worker.add_jobs((
        SELECT array_agg(json_populate_record(NULL::graphile_worker.job_spec, json_build_object(
            'identifier', 'send', 'payload', json_build_object('id', m.id, 'to', m.to_number, 'body', m.body))))
        FROM new_messages(n) m))
$$;

-- Jobs go when they are done, in the order in which they came. The second question reads all that went.
CREATE OR REPLACE FUNCTION finished() RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE WHEN is_last_recorded() THEN NOT EXISTS (SELECT FROM graphile_worker._private_jobs) ELSE false END
$$;

-- As if the four hours had passed after which a job of a worker that died is free again.
CREATE OR REPLACE FUNCTION outlive_locks() RETURNS void LANGUAGE sql AS $$
    UPDATE graphile_worker._private_jobs SET locked_at = locked_at - interval '5 hours' WHERE locked_at IS NOT NULL
$$;
