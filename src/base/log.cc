#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>

#include "base/json.h"

namespace tidemill {
namespace {

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("tidemill",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    return made;
  }();
  return *instance;
}

LogFormat& format_in_use() {
  static LogFormat format = LogFormat::kText;
  return format;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

// Bytes that could forge a second line or move a terminal's cursor become \xNN.
std::string escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

void set_log(LogLevel level, LogFormat format) {
  logger().set_level(to_spdlog(level));
  format_in_use() = format;
  logger().set_pattern(format == LogFormat::kText
                           ? "%Y-%m-%dT%H:%M:%S.%e %l %v"
                           : R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%v})");
}

LogFormat log_format() { return format_in_use(); }

bool logs(LogLevel level) { return logger().should_log(to_spdlog(level)); }

void log_line(LogLevel level, std::string_view text) {
  if (!logs(level)) return;
  if (format_in_use() == LogFormat::kText) {
    logger().log(to_spdlog(level), escaped(text));
    return;
  }
  std::string quoted;
  append_json_string(&quoted, text);
  logger().log(to_spdlog(level), quoted);
}

}  // namespace tidemill
