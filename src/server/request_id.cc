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

}  // namespace

std::string request_id_for(std::string_view wanted) {
  if (is_fit(wanted)) return std::string(wanted);
  static std::mt19937_64 random{std::random_device{}()};
  const uint64_t high = random(), low = random();
  return format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff,
                high & 0xfff, 0x8000 | ((low >> 48) & 0x3fff), low & 0xffffffffffff);
}

}  // namespace tidemill
