# What users write and what Twilio answers that nobody wants to see: refused with a sentence, or kept as
# it is; nothing crashes and nothing is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => <<'END');
twilio.poll_interval = 1h
twilio.request_timeout = 20s
twilio.reconcile_after = 1s
twilio.max_response_size = 1MB
END
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, $_) for 1 .. 2;
my $worker = worker_pid($node, 'postgres');

# ---- from users: refused before any request -----------------------------------------------------

my $before = $standin->stats->{requests};
for my $case (
	[ 'an empty body', '22023', { body => '' } ],
	[ 'no body', '22023', { body => undef } ],
	[ '1,601 characters', '22023', { body => 'x' x 1601 } ],
	[ '801 emoji', '22023', { body => "\xf0\x9f\x98\x80" x 801 } ],
	[ 'a recipient without +', '22023', { body => 'x', to_number => '12025550199' } ],
	[ 'a recipient with letters', '22023', { body => 'x', to_number => '+1202555ABCD' } ],
	[ 'a recipient with 16 digits', '22023', { body => 'x', to_number => '+1234567890123456' } ],
	[ 'a recipient with a line after it', '22023', { body => 'x', to_number => "+12025550199\n" } ],
	[ 'no recipient', '22023', { body => 'x', to_number => '' } ],
	[ 'a bad sender', '22023', { body => 'x', from_number => 'not a sender at all' } ],
	[ '11 media', '22023', { body => 'x', media_urls => [ ('https://example.com/a.png') x 11 ] } ],
	[ 'a file as media', '22023', { media_urls => ['file:///etc/passwd'] } ],
	[ 'media with a space', '22023', { media_urls => ['https://example.com/a b.png'] } ],
	[ 'a time far ahead', '22023', { body => 'x', send_at => '9999-12-31' } ],
	[ 'an empty idempotency key', '22023', { body => 'x', idempotency_key => '' } ])
{
	my ($name, $state, $arguments) = @$case;
	my %arguments = (to_number => '+12025550199', %$arguments);
	my $refused = as_user($node, 1, 'SELECT twilio_send_sms(' . join(', ', map { "$_ => " . quote($arguments{$_}) } sort keys %arguments) . ')');
	is($refused->{state}, $state, "refused: $name") or diag($refused->{error});
	like($refused->{hint}, qr/\w/, '... with a hint');
}
# E'\x80' and U&'\0000' are no text for PostgreSQL itself; what counts is that nothing is sent.
isnt(as_user($node, 1, "SELECT twilio_send_sms('+12025550199', E'bad \\x80 byte')")->{state}, '', 'refused: bad UTF-8');
isnt(as_user($node, 1, "SELECT twilio_send_sms('+12025550199', E'a\\x00b')")->{state}, '', 'refused: NUL');
is($standin->stats->{requests}, $before, '... and nothing was sent');

# ---- from users: unchanged at Twilio --------------------------------------------------------------

my %unchanged = (
	'1,600 characters' => 'x' x 1600,
	'800 emoji' => "\xf0\x9f\x98\x80" x 800,
	'form syntax' => 'a=b&c=d;e%20f+g?h#i',
	'quotes' => q{'"\\`$1 %s {AccountSid} ${x}},
	'lines and tabs' => "a\r\nb\n\tc",
	'spaces around' => '  x  ',
	'controls' => "a\x01\x1b[31m\x7fb",
	'scripts' => "\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d \xe4\xbd\xa0 \xe2\x80\xae \xef\xbb\xbf<script>",
	'JSON' => '{"a": "b"}');
for my $name (sort keys %unchanged)
{
	my $text = $unchanged{$name};
	$standin->control(DELETE => 'ledger');
	my $id = send_sms($node, 1, body => $text);
	wait_until { message($node, $id, 'sid') } 10, "$name: sent" or diag(message($node, $id, 'status, error_code, error_message'));
	my ($post) = @{ $standin->ledger(method => 'POST') };
	my ($body) = map { $_->[1] } grep { $_->[0] eq 'Body' } @{ $post->{params} };
	utf8::downgrade($body, 1) or utf8::encode($body);
	ok($body eq $text, '... unchanged') or diag("sent: $body");
}

# ---- from Twilio --------------------------------------------------------------------------------

# What cannot be read leaves the message unknown; Twilio's lists, which can, tell its SID.
my %broken = (
	'html' => { action => 'html', status => 200, accept => JSON::PP::true },
	'html-502' => { action => 'html', accept => JSON::PP::true },
	'truncated' => { action => 'truncate' },
	'not-json' => { action => 'bad-json' },
	'ten-megabytes' => { action => 'huge' },
	'nul-in-json' => { action => 'status', status => 201, body_text => '{"sid": "SM\u0000", "status": "queued"}', accept => JSON::PP::true },
	'not-utf-8' => { action => 'status', status => 201, accept => JSON::PP::true,
		body_base64 => encode_base64(qq({"sid": "SM0123456789abcdef0123456789abcdef", "status": "queued", "body": "\x80"}), '') },
	'empty-object' => { action => 'status', status => 201, body_text => '{}', accept => JSON::PP::true },
	'an-array' => { action => 'status', status => 201, body_text => '[1, 2]', accept => JSON::PP::true },
	'a-number' => { action => 'status', status => 201, body_text => '1e999999', accept => JSON::PP::true },
	'deep' => { action => 'status', status => 201, body_text => '[' x 100000 . ']' x 100000, accept => JSON::PP::true });
for my $name (sort keys %broken)
{
	$standin->control(POST => 'behave', { %{ $broken{$name} }, match => { method => 'POST', body => "broken-$name" }, times => 1 });
}
my %id = map { $_ => send_sms($node, 1, body => "broken-$_") } sort keys %broken;
for my $name (sort keys %id)
{
	wait_until { message($node, $id{$name}, 'sid') =~ /^SM[0-9a-f]{32}$/ } 20, "$name: a message with such an answer is found at Twilio"
	  or diag(message($node, $id{$name}, 'status, error_code, error_message'));
	is(posts($standin, body => "broken-$name"), 1, '... and was sent once');
}
is(worker_pid($node, 'postgres'), $worker, 'it is still the same worker');

for my $case (
	[ 'unknown-status', { status => 'levitating' }, 'levitating', '' ],
	[ 'long-status', { status => "\xc3\xbc" x 100 }, "\xc3\xbc" x 64, '' ],
	[ 'null-price', { price => undef, price_unit => undef }, 'queued', '' ],
	[ 'odd-types', { num_segments => 'many', num_media => undef, price => 'free', error_code => 'none' }, 'queued', '' ])
{
	my ($name, $change, $status, $code) = @$case;
	my $sid = sprintf 'SM%032x', 4711 + length $name;
	$standin->behave('status', match => { method => 'POST', body => $name }, status => 201,
		body_json => { sid => $sid, account_sid => account_sid(2), status => 'queued', body => $name, to => '+12025550199', from => number_of(2),
			direction => 'outbound-api', num_segments => '1', num_media => '0', price => undef, price_unit => 'USD', error_code => undef, error_message => undef, %$change });
	my $id = send_sms($node, 2, body => $name);
	wait_until { message($node, $id, 'sid, status') eq "$sid|$status" } 10, "$name: the message has its SID and status"
	  or diag(message($node, $id, 'sid, status, error_code'));
}

for my $case (
	[ 'plain-400', { status => 400, body_text => 'no JSON at all' }, '' ],
	[ 'not-utf-8-400', { status => 400, body_base64 => encode_base64(qq({"code": 21211, "message": "\xff", "status": 400}), '') }, '' ],
	[ 'null-code', { status => 400, body_json => { code => undef, message => 'Reason in words', status => 400 } }, 'Reason in words' ],
	[ 'big-code', { status => 400, body_text => '{"code": 99999999999999, "message": "Reason in words", "status": 400}' }, 'Reason in words' ],
	[ 'long-reason', { status => 400, body_json => { code => 1, message => 'Reason in words ' . 'x' x 100000, status => 400 } }, 'Reason in words' ],
	[ 'problem-json', { status => 422, body_json => { type => 'x', title => 'Title', detail => 'Reason in words' } }, 'Reason in words' ])
{
	my ($name, $answer, $reason) = @$case;
	$standin->behave('status', match => { method => 'POST', body => $name }, %$answer);
	my $id = send_sms($node, 2, body => $name);
	wait_until { message($node, $id) eq 'failed' } 10, "$name: a refusal like this fails the message";
	like(message($node, $id, 'error_message'), qr/\w/, '... with a reason');
	like(message($node, $id, 'error_message'), qr/^\Q$reason\E/, "... Twilio's") if $reason;
}
is(worker_pid($node, 'postgres'), $worker, 'it is still the same worker');
is($node->safe_psql('postgres', "SELECT count(*) FROM twilio_messages WHERE status IN ('pending', 'submitting')"), '0', 'no message was left behind');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal|invalid byte sequence.*pg_twilio|cache lookup/, 'and the log has no accident');
TwilioTest::finish();
