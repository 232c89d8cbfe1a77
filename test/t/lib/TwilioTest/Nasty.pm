# Random values of any type, as literals of SQL on one line: ordinary ones, and those that programs stumble over.
# What is chosen follows from srand().
package TwilioTest::Nasty;

use strict;
use warnings;
use Exporter 'import';
use JSON::PP;
use TwilioTest;
use TwilioTest::Messages;

our @EXPORT = qw(one_of literal text_literal bytes_literal nasty_text nasty_webhook webhook_headers);

my $json = JSON::PP->new->canonical->allow_nonref->ascii;

sub one_of { return $_[ rand @_ ] }

my @word = (
	'', ' ', "\t", "\n", "a\r\nb", "\x01\x1b[31m\x7f", 'x' x 1600, 'x' x 1601, 'x' x 100_000, "\x{1F600}", "\x{1F600}" x 801, "\x{202E}\x{FEFF}\x{FFFF}",
	"e\x{301}", "\x{FFFD}", q{'; SELECT 1; --}, q{"\\`$1 %s %n {AccountSid} ${x}}, '$$', '\\', '%00', '%', '&=;', 'a=b&a=c', '{}', '[]', 'null', 'true',
	'NaN', '-1', '1e999999', '0x10', '99999999999999999999', 'epoch', 'infinity', 'UTC', 'Europe/Berlin', 'Mars/Olympus', '-24:00:00', '../../etc/passwd',
	'pg_catalog', 'twilio_private', 'postgres', 'POST', 'GET', 'PUT', 'application/json', 'application/x-www-form-urlencoded', 'text/html; charset=x',
	'STOP', 'START', 'HELP', 'auth_token', 'api_key_secret', "\x{2022}" x 8, 'delivered', 'failed', 'received', 'pending', 'unknown', 'levitating',
	'outbound', 'inbound', 'verify', 'message', 'message_look', 'https://example.com/a.png', 'http://[::1]:99999/', 'file:///etc/passwd', 'api.twilio.com',
	'example.com', '/2010-04-01/Accounts/{AccountSid}/Messages.json');

sub nasty_text
{
	my @kind = (
		sub { one_of(@word) },
		sub { one_of(@word) . one_of(@word) },
		sub { one_of('+12025550199', '+1', '+', '12025550199', '+1234567890123456', "+12025550199\n", 'whatsapp:+12025550199', 'client:ada', number_of(1 + int rand 3)) },
		sub { one_of(qw(AC SM MM PN SK MG RQ ac XX)) . one_of(substr(account_sid(1), 2), '0' x 32, 'g' x 32, '0' x 31, '') },
		sub { one_of(account_sid(1), account_sid(2), token(1), token(2), user_id(1), webhook_url(), webhook_url() . '?m=' . user_id(1)) },
		sub { join '', map { chr one_of(1 + int rand 127, 1 + int rand 0xD7FF, 0x10000 + int rand 0xFFFFF) } 1 .. rand 40 },
		sub { my $json = nasty_json(3); length $json < 5000 ? $json : '{}' });
	return one_of(@kind)->();
}

my @member = qw(account_sid auth_token phone_number sms_enabled voice_enabled is_active is_verified id user_id created_at last_verified_at
  account_name api_key_sid api_key_secret messaging_service_sid resend_unknown rate_limit_per_second max_in_flight auto_reply sub role x);

sub nasty_json
{
	my ($depth) = @_;
	my @kind = (
		sub { $json->encode(nasty_text()) =~ s/\\u0000//gr },
		sub { one_of('null', 'true', 'false', '0', '-0', '1e1000', '-1.5', '9' x 100, '""') },
		sub { $depth == 0 ? '[]' : '[' . join(',', map { nasty_json($depth - 1) } 1 .. rand 4) . ']' },
		(sub { $depth == 0 ? '{}' : '{' . join(',', map { $json->encode(one_of(@member, nasty_text())) . ':' . nasty_json($depth - 1) } 1 .. rand 6) . '}' }) x 3,
		sub { '[' x 500 . ']' x 500 });
	return one_of(@kind)->();
}

# Parameters, named as Twilio names them, with values that it would hardly send, about one of these SIDs or another.
sub nasty_form
{
	my (@sids) = @_;
	my @name = qw(SmsSid MessageStatus SmsStatus Body NumMedia MediaUrl0 MediaContentType0 NumSegments ErrorCode ErrorMessage OptOutType
	  RawDlrDoneDate MessagingServiceSid Price);
	my %param = (
		AccountSid => rand() < 0.9 ? account_sid(1) : nasty_text(),
		MessageSid => one_of(@sids, sprintf('SM%032x', rand 50), nasty_text()),
		From => one_of(number_of(1), '+12025550199', nasty_text()),
		To => one_of(number_of(1), '+12025550199', nasty_text()),
		map { $_ => nasty_text() } grep { rand() < 0.4 } @name);
	delete $param{$_} for grep { rand() < 0.05 || length $param{$_} > 5000 } keys %param;
	return %param;
}

# A webhook that is signed, with nonsense in it: URL, body and signature.
sub nasty_webhook
{
	my $url = webhook_url() . one_of('', '', '', '?m=' . user_id(int rand 3), '?m=%', '?' . 'x' x 3000, '#x', "/\x{e4}?m");
	return ($url, signed_form(token(1), $url, nasty_form(@_)));
}

# The header that PostgREST makes of what nginx has seen.
sub webhook_headers
{
	my ($url, $signature) = @_;
	return text_literal($json->encode({ 'x-twilio-url' => $url, 'x-twilio-signature' => $signature, 'x-original-method' => 'POST',
		'x-original-content-type' => 'application/x-www-form-urlencoded' }));
}

# As psql reads it from a file, on one line.
sub text_literal
{
	my ($text) = @_;
	utf8::encode($text);
	$text =~ s/([\\'])/$1$1/g;
	$text =~ s/([\x00-\x1f\x7f])/sprintf '\\x%02x', ord $1/ge;
	return "E'$text'";
}

sub bytes_literal { my ($bytes) = @_; utf8::encode($bytes) unless utf8::downgrade($bytes, 1); return "'\\x" . unpack('H*', $bytes) . "'::bytea" }

# What fits in a place of a name, if the type is right, too; a row's id is one that there is.
my @fitting = (
	[ 'text', qr/number|^to|^from/ => sub { text_literal(one_of(number_of(1 + int rand 3), '+12025550199')) } ],
	[ 'text', qr/account_sid/ => sub { text_literal(account_sid(1 + int rand 3)) } ],
	[ 'text', qr/auth_token/ => sub { text_literal(token(1 + int rand 3)) } ],
	[ 'text', qr/^time_zone/ => sub { text_literal('Europe/Berlin') } ],
	[ 'text', qr/^url$/ => sub { text_literal(webhook_url()) } ],
	[ 'text', qr/^(?:body|name|friendly_name|auto_reply|idempotency_key)$/ => sub { text_literal(one_of('Hello', "\x{1F600}", 'x' x 1600, 'a ' . rand)) } ],
	[ 'text', qr/sid|status|key|error/ => sub { 'NULL' } ],
	[ 'text[]', qr/media/ => sub { one_of('NULL', "ARRAY['https://example.com/a.png']") } ],
	[ 'uuid', qr/^user_id/ => sub { "'" . user_id(1 + int rand 3) . "'::uuid" } ],
	[ 'uuid', qr/^(?:id|message_id)$/ => sub { '(SELECT id FROM twilio_messages ORDER BY random() LIMIT 1)' } ],
	[ 'timestamp with time zone', qr/_at$/ => sub { one_of('NULL', "now() + interval '1 hour'") } ],
	[ 'integer', qr/^days$/ => sub { 14 } ]);

my %of_type = (
	'text' => sub { text_literal(nasty_text()) . '::text' },
	'name' => sub { text_literal(substr nasty_text(), 0, 15) . '::name' },
	'uuid' => sub { one_of('gen_random_uuid()', map { "'$_'::uuid" } map({ user_id($_) } 1 .. 3), '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff') },
	'bytea' => sub { one_of(
			sub { bytes_literal(join '', map { chr rand 256 } 1 .. rand 300) },
			sub { bytes_literal(one_of(nasty_text(), nasty_json(3))) },
			sub { bytes_literal((nasty_webhook())[1]) },
			sub { "convert_to(repeat('a=b&', 300000), 'UTF8')" })->() },
	'boolean' => sub { one_of('true', 'false') },
	'integer' => sub { one_of(0, -1, 1, 14, 2147483647, "'-2147483648'::int", int rand 100000) },
	'bigint' => sub { one_of(0, -1, 1, '9223372036854775807', "'-9223372036854775808'::bigint", int rand 100000) },
	'numeric' => sub { one_of(0, -1, '0.0000000001', 1.5, '1e1000', '-1e1000', map { "'$_'::numeric" } qw(NaN Infinity -Infinity)) },
	'timestamp with time zone' => sub { one_of(
			map({ "'$_'::timestamptz" } 'infinity', '-infinity', 'epoch', '294276-12-31 23:59:59', '4713-01-01 BC', '2024-02-29'),
			map { "now() + interval '$_'" } '1 second', '-1 second', '20 minutes', '3 days', '35 days', '36 days', '100 years') },
	'interval' => sub { one_of(map { "'$_'::interval" } '0', '-1 day', '178000000 years', '1 microsecond') },
	'jsonb' => sub { text_literal(nasty_json(3)) . '::jsonb' });

# A literal of a type, as format_type() names it, for an argument or column of a name: what fits there with some probability.
sub literal
{
	my ($type, $name, $fits) = @_;
	if (rand() < $fits)
	{
		for (@fitting) { my ($right, $places, $value) = @$_; return $value->() if $type eq $right && $name =~ $places }
	}
	return "NULL::$type" if rand() < 0.08;
	if (my ($element) = $type =~ /^(.*)\[\]$/)
	{
		return one_of("'{}'::$type", "ARRAY[NULL]::$type", "ARRAY[ARRAY[" . literal($element, $name, $fits) . "]]::$type") if rand() < 0.3;
		return 'ARRAY[' . join(', ', map { literal($element, $name, $fits) } 1 .. rand 13) . "]::$type";
	}
	return $of_type{$type} ? $of_type{$type}->() : "NULL::$type";
}

1;
