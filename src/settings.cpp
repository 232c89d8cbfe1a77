// Defines the configuration parameters and refuses bad values at SET time.
#include "settings.hpp"

#include "compat.hpp"

namespace twilio::settings {

bool enabled = true;
char* keyFile = nullptr;
char* webhookUrl = nullptr;
int maxInFlight = 64;
int userMaxInFlight = 16;
int connectTimeoutMs = 5000;
int requestTimeoutMs = 30000;
int askTimeoutMs = 10000;
int apiRateLimit = 60;
double rateLimitPerSecond = 0;
int messageTtlS = 36000;
int reconcileAfterS = 60;
int pollIntervalS = 60;
int tokenGraceS = 86400;
int maxAttempts = 8;
int maxResponseSize = 1024 * 1024;
char* caFile = nullptr;
char* proxy = nullptr;
char* edge = nullptr;
char* region = nullptr;
char* connectTo = nullptr;
int identity = static_cast<int>(Identity::automatic);
char* userId = nullptr;
bool logRequests = false;

namespace {

const config_enum_entry identities[] = {
    {"auto", static_cast<int>(Identity::automatic), false},
    {"jwt", static_cast<int>(Identity::jwt), false},
    {"setting", static_cast<int>(Identity::setting), false},
    {"role", static_cast<int>(Identity::role), false},
    {nullptr, 0, false},
};

bool isLabel(std::string_view text)
{
    return text.size() <= 32 && std::all_of(text.begin(), text.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
           });
}

bool checkLabel(char** value, void**, GucSource)
{
    if (*value == nullptr || isLabel(*value))
        return true;
    GUC_check_errdetail("It consists of small letters, digits and hyphens, for example dublin or ie1.");
    return false;
}

bool checkConnectTo(char** value, void**, GucSource)
{
    if (*value == nullptr || **value == '\0')
        return true;
    std::string_view const text = *value;
    auto const colon = text.rfind(':');
    if (colon != std::string_view::npos && colon > 0) {
        std::string_view const port = text.substr(colon + 1);
        bool const digits = !port.empty() && port.size() <= 5 &&
                            std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; });
        if (digits && std::atoi(port.data()) >= 1 && std::atoi(port.data()) <= 65535 &&
            text.find_first_of(" \t,;/@") == std::string_view::npos)
            return true;
    }
    GUC_check_errdetail("It has the form host:port.");
    return false;
}

bool checkWebhookUrl(char** value, void**, GucSource)
{
    if (*value == nullptr || **value == '\0')
        return true;
    std::string_view const text = *value;
    std::size_t const host = text.starts_with("https://") ? 8 : text.starts_with("http://") ? 7 : text.size();
    std::string_view const authority = text.substr(host, text.find('/', host) - host);
    if (!authority.empty() && text.size() <= 2000 && text.find_first_of(" \t\r\n?#\"<>") == std::string_view::npos &&
        authority.substr(authority.rfind('@') + 1).find('_') == std::string_view::npos)
        return true;
    GUC_check_errdetail("It is a URL like https://crm.example.com/twilio/webhook, without a query. Twilio takes no "
                        "underscore in the host.");
    return false;
}

// As uuid_in() reads it: 32 hexadecimal digits, a hyphen or none behind each four of them, in braces or not.
bool isUuid(std::string_view text)
{
    constexpr std::string_view hexadecimal = "0123456789abcdefABCDEF";
    if (text.size() > 1 && text.front() == '{' && text.back() == '}')
        text = text.substr(1, text.size() - 2);
    int digits = 0;
    char before = '-';
    for (char const c : text) {
        bool const hyphen = c == '-' && before != '-' && digits % 4 == 0 && digits < 32;
        if (!hyphen && hexadecimal.find(c) == std::string_view::npos)
            return false;
        digits += hyphen ? 0 : 1;
        before = c;
    }
    return digits == 32;
}

bool checkUserId(char** value, void**, GucSource)
{
    if (*value == nullptr || **value == '\0' || isUuid(*value))
        return true;
    GUC_check_errdetail("It is a UUID like 018f4a3e-0000-7000-8000-000000000001, or empty.");
    return false;
}

bool checkKeyFile(char** value, void**, GucSource)
{
    if (*value != nullptr && **value != '\0')
        return true;
    GUC_check_errdetail("It is the name of a file.");
    return false;
}

// The kinds of proxy that libcurl knows; without a scheme it is an HTTP proxy.
bool isProxyScheme(std::string_view scheme)
{
    constexpr std::string_view known[] = {"http", "https", "socks4", "socks4a", "socks5", "socks5h"};
    return std::find(std::begin(known), std::end(known), scheme) != std::end(known);
}

bool checkProxy(char** value, void**, GucSource)
{
    if (*value == nullptr || **value == '\0')
        return true;
    std::string_view const text = *value;
    auto const scheme = text.find("://");
    std::size_t const host = scheme == std::string_view::npos ? 0 : scheme + 3;
    if ((host == 0 || isProxyScheme(text.substr(0, scheme))) && host < text.size() &&
        text.find_first_of(" \t\r\n") == std::string_view::npos)
        return true;
    GUC_check_errdetail("It has the form http://host:port, or http://user:password@host:port.");
    return false;
}

void defineString(const char* name, const char* purpose, char** variable, const char* fallback, GucContext context,
                  int flags = 0, GucStringCheckHook check = nullptr)
{
    DefineCustomStringVariable(name, purpose, nullptr, variable, fallback, context, flags, check, nullptr, nullptr);
}

void defineInt(const char* name, const char* purpose, int* variable, int fallback, int least, int most,
               GucContext context = PGC_SIGHUP, int flags = 0)
{
    DefineCustomIntVariable(name, purpose, nullptr, variable, fallback, least, most, context, flags, nullptr, nullptr,
                            nullptr);
}

void defineBool(const char* name, const char* purpose, bool* variable, bool fallback)
{
    DefineCustomBoolVariable(name, purpose, nullptr, variable, fallback, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
}

void defineTraffic()
{
    defineBool("twilio.enabled", "Switch for all traffic to Twilio.", &enabled, true);
    defineInt("twilio.max_in_flight", "Requests in flight per worker.", &maxInFlight, 64, 1, 10000);
    defineInt("twilio.user_max_in_flight", "Requests in flight per tenant.", &userMaxInFlight, 16, 1, 10000);
    defineInt("twilio.connect_timeout", "Time to connect to Twilio.", &connectTimeoutMs, 5000, 1, 600000, PGC_SIGHUP,
              GUC_UNIT_MS);
    defineInt("twilio.request_timeout", "Time for one request to Twilio.", &requestTimeoutMs, 30000, 1, 600000,
              PGC_SIGHUP, GUC_UNIT_MS);
    defineInt("twilio.ask_timeout", "Time for one synchronous call, waiting included.", &askTimeoutMs, 10000, 1, 600000,
              PGC_USERSET, GUC_UNIT_MS);
    defineInt("twilio.api_rate_limit", "Synchronous calls per tenant and minute, 0 for no limit.", &apiRateLimit, 60, 0,
              1000000);
    DefineCustomRealVariable("twilio.rate_limit_per_second", "Pace of posts per tenant, 0 for no limit.", nullptr,
                             &rateLimitPerSecond, 0, 0, 100000, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    defineInt("twilio.message_ttl", "How long a message may wait before it expires.", &messageTtlS, 36000, 1,
              35 * 86400, PGC_SIGHUP, GUC_UNIT_S);
    defineInt("twilio.reconcile_after", "Age at which an unknown outcome is looked up at Twilio.", &reconcileAfterS, 60,
              1, 86400, PGC_SIGHUP, GUC_UNIT_S);
    defineInt("twilio.poll_interval", "Interval of the safety poll of the worker.", &pollIntervalS, 60, 1, 86400,
              PGC_SIGHUP, GUC_UNIT_S);
    defineInt("twilio.token_grace", "How long a replaced auth token still validates webhooks.", &tokenGraceS, 86400, 0,
              30 * 86400, PGC_SIGHUP, GUC_UNIT_S);
    defineInt("twilio.max_attempts", "Attempts to send one order.", &maxAttempts, 8, 1, 100);
    defineInt("twilio.max_response_size", "Size at which a reply of Twilio is cut off.", &maxResponseSize, 1024 * 1024,
              1024, 256 * 1024 * 1024, PGC_SIGHUP, GUC_UNIT_BYTE);
    defineBool("twilio.log_requests", "Write one line to the server log per request.", &logRequests, false);
}

void defineNetwork()
{
    defineString("twilio.webhook_url", "Public URL where Twilio's webhooks arrive.", &webhookUrl, "", PGC_SIGHUP, 0,
                 checkWebhookUrl);
    defineString("twilio.ca_file", "Certificates to trust instead of the system's.", &caFile, "", PGC_SIGHUP);
    defineString("twilio.proxy", "HTTP proxy on the way to Twilio.", &proxy, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
                 checkProxy);
    defineString("twilio.edge", "Twilio edge location, set together with twilio.region.", &edge, "", PGC_SIGHUP, 0,
                 checkLabel);
    defineString("twilio.region", "Twilio region, set together with twilio.edge.", &region, "", PGC_SIGHUP, 0,
                 checkLabel);
    defineString("twilio.connect_to", "host:port where every connection really goes; TLS checks are unchanged.",
                 &connectTo, "", PGC_SIGHUP, 0, checkConnectTo);
}

void defineIdentity()
{
    // A parameter of context postmaster can only be made while the postmaster starts.
    defineString("twilio.key_file", "File with the keys that seal credentials.", &keyFile, "pg_twilio.key",
                 process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, GUC_SUPERUSER_ONLY,
                 checkKeyFile);
    DefineCustomEnumVariable("twilio.identity", "Where the tenant's user id comes from.", nullptr, &identity,
                             static_cast<int>(Identity::automatic), identities, PGC_SUSET, 0, nullptr, nullptr,
                             nullptr);
    defineString("twilio.user_id", "The tenant's user id, set by a trusted application.", &userId, "", PGC_USERSET, 0,
                 checkUserId);
}

} // namespace

void define()
{
    defineTraffic();
    defineNetwork();
    defineIdentity();
    MarkGUCPrefixReserved("twilio");
}

std::string keyFilePath()
{
    std::string const name = keyFile;
    return name.empty() || name.front() == '/' ? name : std::string(DataDir) + "/" + name;
}

std::string regionalHost(std::string_view host)
{
    std::string_view const edgeName = edge;
    std::string_view const regionName = region;
    if (edgeName.empty() && regionName.empty())
        return std::string(host);
    if (edgeName.empty() || regionName.empty())
        return {};
    auto const dot = host.find('.');
    std::string result(host.substr(0, dot));
    result.append(".").append(edgeName).append(".").append(regionName).append(host.substr(dot));
    return result;
}

} // namespace twilio::settings
