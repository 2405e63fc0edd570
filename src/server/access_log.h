// One line per request, text or JSON as log_format says (apis.md 20). No prompt, no answer, no
// value of a header but the ids; every field is escaped and cut by base/log.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "executor/response_stream.h"
#include "server/request_id.h"

namespace tidemill {

struct AccessLine {
  std::string_view request_id;
  const Caller& caller;
  std::string_view route;    // a pattern; never a path as the client wrote it
  std::string_view outcome;  // "done", the finish reason, or the slug of what went wrong
  int64_t status = 0;        // 0: nothing was answered
  std::chrono::duration<double, std::milli> total{};
};

void log_access(const AccessLine& line);

// What a generation request's line has beside.
struct GenerationLine {
  std::string_view model;  // empty: none was found
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;
  int64_t choices = 0;
  RequestTimes times;
};

void log_access(const AccessLine& line, const GenerationLine& generation);

}  // namespace tidemill
