// The configuration parameters under `twilio.` as C++ values.
//
// Durations are kept in the unit that the name ends with. Strings are never
// null. What a parameter is for stands in settings.cpp, once, where it is defined.
#pragma once

#include "pg.hpp"

namespace twilio::settings {

enum class Identity { automatic, jwt, setting, role };

extern bool enabled;
extern char* keyFile;
extern char* webhookUrl;
extern int maxInFlight;
extern int userMaxInFlight;
extern int connectTimeoutMs;
extern int requestTimeoutMs;
extern int askTimeoutMs;
extern int apiRateLimit;
extern double rateLimitPerSecond;
extern int messageTtlS;
extern int reconcileAfterS;
extern int pollIntervalS;
extern int tokenGraceS;
extern int maxAttempts;
extern int maxResponseSize;
extern char* caFile;
extern char* proxy;
extern char* edge;
extern char* region;
extern char* connectTo;
extern int identity;
extern char* userId;
extern bool logRequests;

void define();

// The absolute path of the key ring file.
std::string keyFilePath();

// Host of a Twilio product with edge and region, e.g. api.dublin.ie1.twilio.com
// ("Global infrastructure", rule of the Twilio SDK). Empty when only one of
// twilio.edge and twilio.region is set.
std::string regionalHost(std::string_view host);

} // namespace twilio::settings
