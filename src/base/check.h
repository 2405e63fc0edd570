// CHECK(condition, "message with {}", values...): a programming error ends the process with the
// numbers. Active in every build. A request can never reach one: what users can get wrong is a
// Result (result.h) or, for a whole command, an exception.
#pragma once

#include <fmt/core.h>

#include <string>

namespace tidemill {

using fmt::format;  // until the standard library of our oldest compiler has std::format

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& message);

}  // namespace tidemill

#define CHECK(condition, ...)                                                               \
  do {                                                                                      \
    if (!(condition)) [[unlikely]] {                                                        \
      ::tidemill::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
    }                                                                                       \
  } while (false)
