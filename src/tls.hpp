// What OpenSSL knows of a request's connection, and what it is told; nothing where libcurl has another library.
#pragma once

#include <curl/curl.h>

namespace twilio::tls {

// The connection that a request has at present. Null: it has none.
const void* connectionOf(CURL* easy);

// Whether it was agreed to speak HTTP/2 on the connection of this request.
bool isHttp2(CURL* easy);

// The connection serves many requests: it keeps its buffers, which otherwise OpenSSL wipes, frees and takes anew for
// each record.
void keepBuffers(CURL* easy);

// Connections made for this handle leave nothing in memory of what was received. False: the option cannot be set.
bool wipeWhatWasRead(CURL* easy);

} // namespace twilio::tls
