// Flat values to bytes and back: what crosses the mailbox, the stream and a step can cross to
// another process. Fixed-size numbers in the machine's order; a vector is its length, then its
// items. Reading malformed bytes answers false; it never reads beyond them.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tidemill::wire {

class Writer {
 public:
  template <typename T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void operator()(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void operator()(const std::string& text) {
    (*this)(uint64_t{text.size()});
    bytes_ += text;
  }
  template <typename T>
  void operator()(const std::vector<T>& items) {
    (*this)(uint64_t{items.size()});
    for (const T& item : items) (*this)(item);
  }
  // A moment of the steady clock, which the processes of one machine share.
  void operator()(const std::chrono::steady_clock::time_point& time) {
    (*this)(time.time_since_epoch().count());
  }
  template <typename A, typename B>
  void operator()(const std::pair<A, B>& pair) {
    (*this)(pair.first);
    (*this)(pair.second);
  }
  template <typename T>
  void operator()(const std::optional<T>& value) {
    (*this)(value.has_value());
    if (value) (*this)(*value);
  }
  // A struct lists its members once, in a function that both directions use.
  template <typename T>
  requires std::is_class_v<T>
  void operator()(const T& record) { visit_members(*this, const_cast<T&>(record)); }

  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}

  template <typename T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void operator()(T& value) {
    const std::string_view bytes = take(sizeof value);
    if (ok_) std::memcpy(&value, bytes.data(), sizeof value);
  }
  void operator()(bool& value) {
    uint8_t byte = 0;
    (*this)(byte);
    if (byte > 1) ok_ = false;
    value = byte != 0;
  }
  void operator()(std::string& text) { text = take(length(1)); }
  template <typename T>
  void operator()(std::vector<T>& items) {
    const uint64_t count = length(1);  // an item takes a byte at least
    for (uint64_t i = 0; ok_ && i < count; ++i) (*this)(items.emplace_back());
  }
  void operator()(std::chrono::steady_clock::time_point& time) {
    using Time = std::chrono::steady_clock::time_point;
    Time::rep ticks = 0;
    (*this)(ticks);
    time = Time(Time::duration(ticks));
  }
  template <typename A, typename B>
  void operator()(std::pair<A, B>& pair) {
    (*this)(pair.first);
    (*this)(pair.second);
  }
  template <typename T>
  void operator()(std::optional<T>& value) {
    bool present = false;
    (*this)(present);
    if (present) (*this)(value.emplace());
  }
  template <typename T>
  requires std::is_class_v<T>
  void operator()(T& record) { visit_members(*this, record); }

  // Everything was read, and nothing is left.
  bool complete() const { return ok_ && left_.empty(); }

 private:
  uint64_t length(uint64_t least_bytes) {
    uint64_t count = 0;
    (*this)(count);
    if (count > left_.size() / least_bytes) ok_ = false;
    return ok_ ? count : 0;
  }
  std::string_view take(uint64_t count) {
    if (!ok_ || count > left_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view taken = left_.substr(0, count);
    left_.remove_prefix(count);
    return taken;
  }
  std::string_view left_;
  bool ok_ = true;
};

template <typename T>
std::string to_bytes(const T& value) {
  Writer writer;
  writer(value);
  return writer.take();
}

template <typename T>
std::optional<T> from_bytes(std::string_view bytes) {
  T value;
  Reader reader(bytes);
  reader(value);
  if (!reader.complete()) return std::nullopt;
  return value;
}

}  // namespace tidemill::wire
