// Log lines on standard error: one event, one line, at most 256 bytes per field. Never a prompt,
// a completion or a credential. Control bytes in what is logged are escaped. A line that standard
// error does not take at once (its reader is blocked, its disk is full) is dropped and counted:
// nobody waits for a log.
// Any thread may log. The library's headers stay in log.cc.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

namespace tidemill {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };
enum class LogFormat { kText, kJson };

void set_log(LogLevel level, LogFormat format);
LogFormat log_format();
bool logs(LogLevel level);  // whether a line of that level is written
void log_line(LogLevel level, std::string_view text);

int64_t dropped_log_lines();  // since the start

// A line of named values: as text `event name=value ...`, as JSON members of those names. At most
// 256 bytes of a value are shown.
struct LogField {
  std::string_view name;
  std::variant<std::string_view, int64_t, double> value;
};
void log_fields(LogLevel level, std::string_view event, std::span<const LogField> fields);

template <typename... Args>
void log_debug(fmt::format_string<Args...> text, Args&&... args) {
  log_line(LogLevel::kDebug, fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
void log_info(fmt::format_string<Args...> text, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> text, Args&&... args) {
  log_line(LogLevel::kWarning, fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> text, Args&&... args) {
  log_line(LogLevel::kError, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace tidemill
