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

std::string random_uuid() {
  thread_local std::mt19937_64 random = seeded();
  const uint64_t high = random(), low = random();
  return format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff,
                high & 0xfff, 0x8000 | ((low >> 48) & 0x3fff), low & 0xffffffffffff);
}

}  // namespace tidemill
