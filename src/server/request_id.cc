#include "server/request_id.h"

#include <random>

#include "base/check.h"

namespace tidemill {
namespace {

bool is_fit(std::string_view id) {
  return !id.empty() && id.size() <= 128 &&
         id.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/-") ==
             std::string_view::npos;
}

// Lower-case hex that is not all zeros.
bool is_hex_id(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
         text.find_first_not_of('0') != std::string_view::npos;
}

// 256 bits of seed: two threads or processes that begin alike would give the same ids.
std::mt19937_64 seeded() {
  std::random_device device;
  std::seed_seq seed{device(), device(), device(), device(),
                     device(), device(), device(), device()};
  return std::mt19937_64(seed);
}

}  // namespace

std::string request_id_for(std::string_view wanted) {
  return is_fit(wanted) ? std::string(wanted) : random_uuid();
}

// VERSION-TRACE-PARENT-FLAGS; versions after 00 may have more behind it.
std::string trace_id_of(std::string_view traceparent) {
  constexpr size_t kTrace = 3, kParent = 36, kFlags = 53, kEnd = 55;
  constexpr std::string_view kHex = "0123456789abcdef";
  if (traceparent.size() < kEnd) return "";
  const std::string_view version = traceparent.substr(0, 2);
  const std::string_view trace = traceparent.substr(kTrace, 32);
  const bool good =
      version.find_first_not_of(kHex) == std::string_view::npos && version != "ff" &&
      traceparent[kTrace - 1] == '-' && traceparent[kParent - 1] == '-' &&
      traceparent[kFlags - 1] == '-' && is_hex_id(trace) &&
      is_hex_id(traceparent.substr(kParent, 16)) &&
      traceparent.substr(kFlags, 2).find_first_not_of(kHex) == std::string_view::npos &&
      (traceparent.size() == kEnd || (version != "00" && traceparent[kEnd] == '-'));
  return good ? std::string(trace) : "";
}

std::string random_uuid() {
  thread_local std::mt19937_64 random = seeded();
  const uint64_t high = random(), low = random();
  return format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff,
                high & 0xfff, 0x8000 | ((low >> 48) & 0x3fff), low & 0xffffffffffff);
}

}  // namespace tidemill
