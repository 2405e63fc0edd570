// The randomness of a simulation: every draw follows from its seed, on every machine and in every
// build type (the distributions of the standard library are not so).
#pragma once

#include <cstdint>
#include <initializer_list>

namespace tidemill {

// SplitMix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
// 2014).
constexpr uint64_t scramble(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class SimulationRandom {
 public:
  explicit SimulationRandom(uint64_t seed) : state_(scramble(seed + 0x9e3779b97f4a7c15u)) {}

  uint64_t next() { return scramble(state_ += 0x9e3779b97f4a7c15u); }
  // 0 .. most, both included.
  int64_t up_to(int64_t most) {
    // The high half of a product instead of a remainder: a division would be felt.
    return static_cast<int64_t>(((next() >> 32) * static_cast<uint64_t>(most + 1)) >> 32);
  }
  int64_t between(int64_t least, int64_t most) { return least + up_to(most - least); }
  bool one_in(int64_t many) { return up_to(many - 1) == 0; }
  template <typename Value>
  Value one_of(std::initializer_list<Value> values) {
    return values.begin()[up_to(static_cast<int64_t>(values.size()) - 1)];
  }

 private:
  uint64_t state_;
};

}  // namespace tidemill
