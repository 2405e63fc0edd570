// Randomness without state: a number for every place in every text, so that a draw depends on
// nothing but its own request.
#pragma once

#include <cstdint>

namespace tidemill {

// SplitMix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
// 2014): every bit of the result depends on every bit of the argument.
constexpr uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Uniform in [0, 1), 53 bits: a function of (seed, choice, position) alone, equal on all machines.
constexpr double uniform_at(uint64_t seed, int32_t choice, int32_t position) {
  const uint64_t place = (static_cast<uint64_t>(static_cast<uint32_t>(choice)) << 32) |
                         static_cast<uint32_t>(position);
  return static_cast<double>(mix(mix(seed) ^ mix(place ^ 0x5851f42d4c957f2du)) >> 11) * 0x1p-53;
}

}  // namespace tidemill
