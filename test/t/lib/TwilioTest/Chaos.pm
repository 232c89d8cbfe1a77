# What tests under fire share: Twilio's bad days, accidents of the server, and the comparison of what Twilio has
# accepted with what the tables say.
package TwilioTest::Chaos;

use strict;
use warnings;
use Exporter 'import';
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use TwilioTest;
use TwilioTest::Messages;

our @EXPORT = qw(misbehave accidents try_sql load_ledger sent_twice tell_about process_id anonymous_memory descriptors);

# All at once, in the proportions of a bad day.
sub misbehave
{
	my ($standin) = @_;
	my %post = (match => { method => 'POST' });
	$standin->behave('429', %post, probability => 0.05);
	$standin->behave('500', %post, probability => 0.03);
	$standin->behave('500', %post, probability => 0.02, accept => JSON::PP::true);
	$standin->behave('accept-then-drop', %post, probability => 0.02);
	$standin->behave('accept-then-drop', %post, probability => 0.02, only_stream => JSON::PP::true);
	$standin->behave('drop-before', %post, probability => 0.02, only_stream => JSON::PP::true);
	$standin->behave('truncate', %post, probability => 0.02);
	$standin->behave('bad-json', %post, probability => 0.01);
	$standin->behave('html', %post, probability => 0.01);
	$standin->behave('hang', %post, probability => 0.005);
	$standin->behave('503', match => { method => 'GET' }, probability => 0.05);
	$standin->behave('delay', ms => 20);
	return;
}

# ---- accidents -------------------------------------------------------------------------------------

sub start_again
{
	my ($node) = @_;
	# Processes of the former server may still be on their way out; a start that fails because of them has
	# read the process id that the former server left behind.
	for (1 .. 100)
	{
		return if $node->start(fail_ok => 1);
		$node->{_pid} = undef;
		usleep(100_000);
	}
	BAIL_OUT('the server does not start again');
}

# As run_sql, of a server that may be gone before psql has read the statement.
sub try_sql { my (@arguments) = @_; return eval { run_sql(@arguments) } // { ok => '', out => '', error => $@ } }

# The process of a type in a database (without one, any), undef when there is none.
sub process_id
{
	my ($node, $type, $db) = @_;
	my $here = defined $db ? " AND datname = '$db'" : '';
	return try_sql($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'$here LIMIT 1", db => 'template1')->{out} || undef;
}

sub signal_process { my ($node, $signal, @process) = @_; my $pid = process_id($node, @process); kill $signal => $pid if $pid; return }

# What can happen to a server, by name.
sub accidents
{
	my ($node, $standin) = @_;
	return (
		'the worker is killed' => sub { signal_process($node, KILL => 'pg_twilio worker', 'postgres') },
		'the postmaster is killed' => sub { $node->kill9; start_again($node) },
		'immediate shutdown' => sub { $node->stop('immediate'); start_again($node) },
		'fast shutdown' => sub { $node->stop('fast'); start_again($node) },
		'the worker is terminated' => sub { signal_process($node, TERM => 'pg_twilio worker', 'postgres') },
		'the launcher is killed' => sub { signal_process($node, KILL => 'pg_twilio launcher') },
		'all connections are cut' => sub { $standin->listener('cut') },
		'nobody listens for a while' => sub { $standin->listener('closed'); $standin->listener('cut'); usleep(300_000); $standin->listener('open') });
}

# ---- a process's own memory (kB) and descriptors -----------------------------------------------------

sub anonymous_memory { my ($pid) = @_; return (eval { slurp_file("/proc/$pid/status") } // q()) =~ /^RssAnon:\s+(\d+)/m ? $1 : 0 }
sub descriptors { my ($pid) = @_; my @open = glob "/proc/$pid/fd/*"; return scalar @open }

# ---- Twilio's side and ours --------------------------------------------------------------------------

# Writes the stand-in's ledger of messages into the table `ledger`, to be compared where the messages are.
sub load_ledger
{
	my ($node, $standin) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir('ledger') . '/page.json';
	my $last = 0;
	$node->safe_psql('postgres', <<'END');
DROP TABLE IF EXISTS ledger;
CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz, account text, http text, status int, accepted boolean, sid text, to_number text, body text)
END
	while (length $last)
	{
		open my $out, '>', $file or die $!;
		print $out $standin->text(GET => "ledger?method=POST&path=Messages.json&limit=20000&since=$last");
		close $out;
		$last = $node->safe_psql('postgres', <<"END");
WITH page AS (
	INSERT INTO ledger
	SELECT (e ->> 'n')::int, (e ->> 'at')::timestamptz, e ->> 'account', e ->> 'http', (e ->> 'status')::int, (e ->> 'accepted')::boolean, e ->> 'sid', p.to_number, p.body
	FROM jsonb_array_elements(pg_read_file('$file')::jsonb) e,
		 LATERAL (SELECT max(q ->> 1) FILTER (WHERE q ->> 0 = 'To'), max(q ->> 1) FILTER (WHERE q ->> 0 = 'Body') FROM jsonb_array_elements(e -> 'params') q) p (to_number, body)
	RETURNING n)
SELECT max(n) FROM page
END
	}
	$node->safe_psql('postgres', 'CREATE INDEX ON ledger (body); CREATE INDEX ON ledger (sid); ANALYZE ledger');
	return;
}

# The texts of messages that Twilio has accepted more than once, by the loaded ledger.
sub sent_twice
{
	my ($node) = @_;
	return split /\n/, $node->safe_psql('postgres', 'SELECT body FROM ledger WHERE accepted GROUP BY account, to_number, body HAVING count(*) > 1');
}

# All that is known of messages: the requests, the rows with their events, the orders, in the order of time.
sub tell_about
{
	my ($node, @bodies) = @_;
	for my $body (@bodies)
	{
		my $text = quote($body);
		diag("$body\n" . $node->safe_psql('postgres', <<"END"));
SELECT l.at, 'request', l.n, l.account, 'HTTP/' || l.http, 'status', l.status, CASE WHEN l.accepted THEN 'accepted' ELSE 'refused' END, l.sid FROM ledger l WHERE l.body = $text
UNION ALL SELECT m.submitted_at, 'submitted', NULL, m.id::text, m.status, m.sid, m.error_code, m.error_message, m.former_sids::text FROM twilio_messages m WHERE m.body = $text
UNION ALL SELECT e.occurred_at, 'event', NULL, e.status, e.source, NULL, e.error_code, e.raw::text, NULL
	FROM twilio_messages m JOIN twilio_message_events e ON e.user_id = m.user_id AND e.message_id = m.id WHERE m.body = $text
UNION ALL SELECT o.attempted_at, 'order', o.id, o.kind, o.state, o.subject, o.attempts, o.note, 'due ' || o.due_at
	FROM twilio_messages m JOIN twilio_private.outbox o ON o.ref = m.id WHERE m.body = $text
ORDER BY 1
END
	}
	return;
}

1;
