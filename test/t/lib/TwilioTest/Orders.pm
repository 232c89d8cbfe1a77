# A kind of order that only tests have: `parcel`, a row with a recipient and a text, posted as a message.
#
# It shows what the engine promises to every kind of order, without the rules of the kinds that the
# extension brings: the two functions do nothing but build the request and write down what came of it.
package TwilioTest::Orders;

use strict;
use warnings;
use Exporter 'import';
use TwilioTest;

our @EXPORT = qw(install_parcels order order_sql parcels queued posts accepted duplicates);

# Installs the kind in a database.
sub install_parcels
{
	my ($node, $db) = @_;
	$node->safe_psql($db // 'postgres', <<'END');
CREATE TABLE parcel (
	user_id uuid NOT NULL,
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	body text,
	path text NOT NULL DEFAULT '/2010-04-01/Accounts/{AccountSid}/Messages.json',
	host text NOT NULL DEFAULT 'api.twilio.com',
	outcome text,
	outcomes text[] NOT NULL DEFAULT '{}',
	sid text,
	code int,
	error text);

CREATE FUNCTION twilio_private.parcel_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM unnest(orders) o JOIN public.parcel p ON p.id = o.ref WHERE p.body ~ '^poison') THEN
		RAISE EXCEPTION 'this parcel cannot be built';
	END IF;
	RETURN QUERY SELECT o.id, 'POST', p.host, p.path,
		twilio_private.form_encode(ARRAY['To', '+12025550199', 'From', '+12025550100', 'Body', p.body])
	FROM unnest(orders) o JOIN public.parcel p ON p.id = o.ref WHERE p.body <> 'withdrawn';
END $$;

CREATE FUNCTION twilio_private.parcel_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	UPDATE public.parcel p
	SET outcome = r.outcome, outcomes = p.outcomes || r.outcome, sid = r.sid, code = r.error_code, error = r.error_message
	FROM unnest(results) r WHERE p.id = r.ref
$$;

-- The same, but an unclear end is no reason not to ask again.
INSERT INTO twilio_private.order_kind VALUES
	('parcel', false, 'parcel_requests', 'parcel_results'),
	('query', true, 'parcel_requests', 'parcel_results');

CREATE FUNCTION order_parcels(user_id uuid, bodies text[], kind text DEFAULT 'parcel', due_at timestamptz DEFAULT now(),
                              expires_at timestamptz DEFAULT NULL, path text DEFAULT NULL, host text DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
	WITH made AS (
		INSERT INTO parcel (user_id, body, path, host)
		SELECT $1, b, coalesce($6, '/2010-04-01/Accounts/{AccountSid}/Messages.json'), coalesce($7, 'api.twilio.com')
		FROM unnest(bodies) b RETURNING *
	)
	INSERT INTO twilio_private.outbox (user_id, kind, ref, due_at, expires_at) SELECT m.user_id, $3, m.id, $4, $5 FROM made m
$$;
END
	return;
}

# SQL that orders COUNT parcels of the n-th user; their texts are PREFIX 1, PREFIX 2 and so on.
#   kind, due, expires (SQL expressions), path, host
sub order_sql
{
	my ($n, $prefix, $count, %options) = @_;
	my @arguments = ("'" . user_id($n) . "'", "ARRAY(SELECT '$prefix ' || i FROM generate_series(1, " . ($count // 1) . ') i)');
	push @arguments, "kind => '$options{kind}'" if $options{kind};
	push @arguments, "due_at => $options{due}" if $options{due};
	push @arguments, "expires_at => $options{expires}" if $options{expires};
	push @arguments, "path => '$options{path}'" if $options{path};
	push @arguments, "host => '$options{host}'" if $options{host};
	return 'SELECT order_parcels(' . join(', ', @arguments) . ')';
}

sub order
{
	my ($node, $n, $prefix, $count, %options) = @_;
	$node->safe_psql(delete $options{db} // 'postgres', order_sql($n, $prefix, $count, %options));
	return;
}

# How many parcels have this prefix and outcome.
sub parcels
{
	my ($node, $prefix, $outcome, $db) = @_;
	return $node->safe_psql($db // 'postgres', "SELECT count(*) FROM parcel WHERE body LIKE '$prefix %'"
		. (defined $outcome ? " AND outcome = '$outcome'" : ''));
}

# How many orders are not done.
sub queued
{
	my ($node, $state, $db) = @_;
	return $node->safe_psql($db // 'postgres', 'SELECT count(*) FROM twilio_private.outbox' . (defined $state ? " WHERE state = '$state'" : ''));
}

# What the stand-in has got: POSTs of messages, those of them that it accepted, and texts accepted more than once.
sub posts { my ($standin, %filter) = @_; return $standin->count(method => 'POST', path => 'Messages', %filter) }
sub accepted { my ($standin, %filter) = @_; return posts($standin, accepted => 'true', %filter) }
sub duplicates { my ($standin) = @_; return $standin->control(GET => 'ledger/duplicates?method=POST&key=To,Body')->{extra} }

1;
