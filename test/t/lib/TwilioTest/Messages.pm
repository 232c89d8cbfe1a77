# Tenants who send and receive messages, and Twilio's webhooks about them, as an app would hand them in.
package TwilioTest::Messages;

use strict;
use warnings;
use Digest::SHA qw(hmac_sha1_base64);
use Exporter 'import';
use JSON::PP;
use Test::More;
use TwilioTest;

our @EXPORT = qw(enable_sending number_of send_sms write_messages sent message messages_with set_due_now quote posts accepted duplicates
  webhook_call handle_webhook callback signed_form webhook_url);

sub webhook_url { return 'https://crm.example.com/twilio/webhook' }

# The number that the n-th tenant sends from.
sub number_of { return sprintf '+1202555%04d', shift }

# A literal of SQL: strings, null, and numbers alike.
sub quote
{
	my ($value) = @_;
	return 'NULL' unless defined $value;
	return "ARRAY[" . join(', ', map { quote($_) } @$value) . "]::text[]" if ref $value;
	$value =~ s/'/''/g;
	return "'$value'";
}

# Settings of the n-th tenant, verified, with a number; webhooks are sent only when a test asks for them.
sub enable_sending
{
	my ($node, $standin, $n, %account) = @_;
	my $db = delete $account{db} // 'postgres';
	configure($node, $standin, $n, numbers => [ number_of($n) ], callbacks => 'manual', db => $db, %account);
	my $number = number_of($n);
	my $done = as_user($node, $n, "SELECT verified FROM twilio_verify(); UPDATE twilio_settings SET phone_number = '$number'", db => $db);
	BAIL_OUT("tenant $n cannot send: $done->{error}") unless $done->{out} eq 't';
	return;
}

# Sends one message as the n-th tenant and returns its id. %arguments are those of twilio_send_sms.
sub send_sms
{
	my ($node, $n, %arguments) = @_;
	my $db = delete $arguments{db};
	$arguments{to_number} //= '+12025550199';
	my $call = join ', ', map { "$_ => " . quote($arguments{$_}) } sort keys %arguments;
	my $sent = as_user($node, $n, "SELECT id FROM twilio_send_sms($call)", db => $db);
	BAIL_OUT("not sent: $sent->{error}") unless $sent->{ok};
	return $sent->{out};
}

# Writes COUNT messages as the n-th tenant, in one statement; their texts are PREFIX 1, PREFIX 2 and so on.
sub write_messages
{
	my ($node, $n, $prefix, $count) = @_;
	my $done = as_user($node, $n, "INSERT INTO twilio_messages (to_number, body) SELECT '+12025550199', '$prefix ' || i FROM generate_series(1, $count) i",
		timeout => 600);
	BAIL_OUT("not written: $done->{error}") unless $done->{ok};
	return;
}

# How many of these Twilio has.
sub sent
{
	my ($node, $prefix) = @_;
	return $node->safe_psql('postgres', "SELECT count(*) FROM twilio_messages WHERE body LIKE '$prefix %' AND sid IS NOT NULL");
}

# Columns of one message, joined by |.
sub message
{
	my ($node, $id, $columns, $db) = @_;
	return $node->safe_psql($db // 'postgres', 'SELECT ' . ($columns // 'status') . " FROM twilio_messages WHERE id = '$id'");
}

# How many messages have a text like this and, if it is given, this status.
sub messages_with
{
	my ($node, $body, $status) = @_;
	return $node->safe_psql('postgres', 'SELECT count(*) FROM twilio_messages WHERE body LIKE ' . quote($body)
		. (defined $status ? ' AND status = ' . quote($status) : ''));
}

# Lets waiting orders of a kind be due now, so that no test waits for a minute.
sub set_due_now
{
	my ($node, $kind) = @_;
	$node->safe_psql('postgres', "UPDATE twilio_private.outbox SET due_at = now() WHERE kind = '$kind' AND state = 'queued'; SELECT twilio_private.wake_worker()");
	return;
}

sub posts { my ($standin, %filter) = @_; return $standin->count(method => 'POST', path => 'Messages.json', %filter) }
sub accepted { my ($standin, %filter) = @_; return posts($standin, accepted => 'true', %filter) }
sub duplicates { my ($standin) = @_; return $standin->control(GET => 'ledger/duplicates?method=POST&key=To,Body')->{extra} }

# The call that hands a signed request in. %change replaces parts of it: url, body, signature, content_type, method.
sub webhook_call
{
	my ($request, %change) = @_;
	my %part = (
		url => $request->{url},
		body => $request->{body},
		signature => $request->{headers}{'x-twilio-signature'},
		content_type => $request->{headers}{'content-type'} // '',
		method => $request->{method},
		%change);
	utf8::downgrade($part{body}, 1) or utf8::encode($part{body});
	my $bytes = "'\\x" . unpack('H*', $part{body}) . "'";
	return "SELECT twilio_handle_webhook(" . join(', ', quote($part{url}), $bytes, map { quote($part{$_}) } qw(signature content_type method)) . ')';
}

# Hands a signed request in, as an app does.
# prepare => the name under which the transaction is to be prepared instead of committed.
sub handle_webhook
{
	my ($node, $request, %change) = @_;
	my $prepare = delete $change{prepare};
	my $call = webhook_call($request, %change);
	return run_sql($node, $prepare ? "BEGIN; $call; PREPARE TRANSACTION '$prepare'" : $call, role => 'twilio_webhook');
}

# A form and its signature, for those who need thousands of them; all others take what the official SDK has signed.
sub signed_form
{
	my ($token, $url, %param) = @_;
	my %encoded = %param;
	utf8::encode($_) for $url, values %encoded;
	my $body = join '&', map { join '=', map { s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger } $_, $encoded{$_} } sort keys %encoded;
	return ($body, hmac_sha1_base64(join('', $url, map { ($_, $encoded{$_}) } sort keys %encoded), $token) . '=');
}

# Twilio says that a message, known by its SID, has a status. %more: error_code, url, token.
sub callback
{
	my ($node, $standin, $n, $sid, $status, %more) = @_;
	return handle_webhook($node, $standin->control(POST => 'callback', { account => account_sid($n), message => $sid, status => $status, %more }));
}

1;
