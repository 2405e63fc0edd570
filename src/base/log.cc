#include "base/log.h"

#include <poll.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <string>

#include "base/json.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr size_t kMaxFieldBytes = 256;
// A pipe that has room takes so many bytes without a wait, and whole (PIPE_BUF of Linux).
constexpr size_t kMaxLineBytes = 4096;

std::atomic<int64_t>& dropped_lines() {
  static std::atomic<int64_t> count{0};
  return count;
}

// Standard error, without ever waiting for whoever reads it. Lines are written one by one under the
// sink's lock; their number is told as soon as there is room again.
class PromptSink : public spdlog::sinks::base_sink<std::mutex> {
 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (untold_ > 0) {
      const char* const quote = log_format() == LogFormat::kText ? "" : "\"";
      const std::string text = fmt::format("{0}{1} log lines were dropped{0}", quote, untold_);
      const spdlog::details::log_msg told(message.logger_name, spdlog::level::warn, text);
      spdlog::memory_buf_t warning;
      formatter_->format(told, warning);
      if (write(warning)) untold_ = 0;
    }
    if (untold_ > 0 || !write(line)) {
      ++untold_;
      ++dropped_lines();
    }
  }

  void flush_() override {}

  static bool write(const spdlog::memory_buf_t& line) {
    pollfd target{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (::poll(&target, 1, 0) != 1 || (target.revents & POLLOUT) == 0) return false;
    const size_t size = std::min(line.size(), kMaxLineBytes);
    for (size_t at = 0; at < size;) {
      const ssize_t count = ::write(STDERR_FILENO, line.data() + at, size - at);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      at += static_cast<size_t>(count);
    }
    return true;
  }

  int64_t untold_ = 0;
};

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("tidemill", std::make_shared<PromptSink>());
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

std::string in_quotes(std::string_view text) {
  std::string out;
  append_json_string(&out, excerpt(text, 3 * text.size()));  // U+FFFD is longer than a byte
  return out;
}

// What can stand behind `name=` as it is.
bool is_one_word(std::string_view text) {
  return !text.empty() && std::none_of(text.begin(), text.end(), [](unsigned char c) {
    return c <= 0x20 || c == 0x7f || c == '"' || c == '=';
  });
}

// Spelled so that the line is written whole; escapes may make much of little.
std::string fitting(std::string_view text, std::string (*spell)(std::string_view)) {
  constexpr size_t kRoom = kMaxLineBytes - 128;  // beside time and level
  std::string out = spell(text);
  for (size_t bytes = kRoom; out.size() > kRoom; bytes /= 2) out = spell(excerpt(text, bytes));
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
    logger().log(to_spdlog(level), fitting(text, escaped));
  } else {
    logger().log(to_spdlog(level), fitting(text, in_quotes));
  }
}

int64_t dropped_log_lines() { return dropped_lines().load(); }

void log_fields(LogLevel level, std::string_view event, std::span<const LogField> fields) {
  if (!logs(level)) return;
  const bool text = format_in_use() == LogFormat::kText;
  std::string line = text ? std::string(event) : in_quotes(event);
  for (const auto& [name, value] : fields) {
    line += text ? fmt::format(" {}=", name) : fmt::format(",\"{}\":", name);
    if (const auto* number = std::get_if<int64_t>(&value)) {
      line += std::to_string(*number);
    } else if (const auto* real = std::get_if<double>(&value)) {
      line += fmt::format("{:.3f}", *real);
    } else {
      const std::string shown = excerpt(std::get<std::string_view>(value), kMaxFieldBytes);
      line += text && is_one_word(shown) ? shown : escaped(in_quotes(shown));
    }
  }
  logger().log(to_spdlog(level), line);
}

}  // namespace tidemill
