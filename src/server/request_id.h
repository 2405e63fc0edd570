// What a request is called in answers and logs.
#pragma once

#include <string>
#include <string_view>

namespace tidemill {

// The client's x-request-id when it is fit to be echoed and logged (apis.md CO-8), else a new UUID.
std::string request_id_for(std::string_view wanted);

// Version 4; any thread.
std::string random_uuid();

// The trace id of a W3C traceparent; empty when that is malformed.
std::string trace_id_of(std::string_view traceparent);

// Who asks, for the log: the connection fills it, and whoever answers writes the line.
struct Caller {
  std::string trace_id;  // empty: none was sent
  std::string key_name;  // empty: no key was needed
};

}  // namespace tidemill
