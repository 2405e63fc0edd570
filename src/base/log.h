// Log lines on standard error: one event, one line, at most 256 bytes per field. Never a prompt,
// a completion or a credential. Control bytes in what is logged are escaped.
// Any thread may log. The library's headers stay in log.cc.
#pragma once

#include <fmt/core.h>

#include <string_view>

namespace tidemill {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };
enum class LogFormat { kText, kJson };

void set_log(LogLevel level, LogFormat format);
LogFormat log_format();
bool logs(LogLevel level);  // whether a line of that level is written
void log_line(LogLevel level, std::string_view text);

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
