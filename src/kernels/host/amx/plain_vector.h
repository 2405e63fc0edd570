// What integer_vector_avx512.h does for products on tiles, in plain C++, for tests: same bits.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/host/amx/plain_tiles.h"

namespace tidemill {

struct PlainVector {
  struct I {
    unsigned char bytes[64];
  };
  struct F {
    float values[16];
  };

  static I set1(int32_t value) {
    I result;
    for (int c = 0; c < 16; ++c) memcpy(result.bytes + c * 4, &value, sizeof value);
    return result;
  }
  static I set1_byte(int8_t value) {
    I result;
    memset(result.bytes, value, sizeof result.bytes);
    return result;
  }
  static I load(const unsigned char* data) {
    I result;
    memcpy(result.bytes, data, sizeof result.bytes);
    return result;
  }
  static void store_bytes(unsigned char* target, const I& v) {
    if (plain_notes.written != nullptr) plain_notes.written(target);
    memcpy(target, v.bytes, sizeof v.bytes);
  }
  static I low_nibbles(I v) {
    for (unsigned char& byte : v.bytes) byte &= 15;
    return v;
  }
  // By a nibble.
  static I shift_words_right(I v) {
    for (int i = 0; i < 64; i += 2) {
      v.bytes[i] = static_cast<unsigned char>(v.bytes[i] >> 4 | v.bytes[i + 1] << 4);
      v.bytes[i + 1] >>= 4;
    }
    return v;
  }
  static I subtract_bytes(I a, const I& b) {
    for (int i = 0; i < 64; ++i) a.bytes[i] = static_cast<unsigned char>(a.bytes[i] - b.bytes[i]);
    return a;
  }
  static I add(I a, const I& b) {
    for (int c = 0; c < 16; ++c) {
      const uint32_t sum =
          static_cast<uint32_t>(int_at(a, c)) + static_cast<uint32_t>(int_at(b, c));
      memcpy(a.bytes + c * 4, &sum, sizeof sum);
    }
    return a;
  }

  static F zero() { return set1_float(0.0f); }
  static F set1_float(float value) {
    F result;
    for (float& v : result.values) v = value;
    return result;
  }
  static F floats_at(const void* data) {
    F result;
    memcpy(result.values, data, sizeof result.values);
    return result;
  }
  static F halves_at(const unsigned char* data) {
    F result;
    for (int c = 0; c < 16; ++c) {
      F16 half;
      memcpy(&half.bits, data + c * 2, sizeof half.bits);
      result.values[c] = to_float(half);
    }
    return result;
  }
  static I words_at(const unsigned char* data) {
    I result{};
    for (int c = 0; c < 16; ++c) memcpy(result.bytes + c * 4, data + c * 2, 2);
    return result;
  }
  static I masked(I v, int32_t mask) {
    for (int c = 0; c < 16; ++c) {
      const int32_t value = int_at(v, c) & mask;
      memcpy(v.bytes + c * 4, &value, sizeof value);
    }
    return v;
  }
  // Each of 16 numbers below 256 as four bytes.
  static I spread_bytes(const I& v) {
    I result;
    for (int i = 0; i < 64; ++i) result.bytes[i] = v.bytes[i / 4 * 4];
    return result;
  }
  static I multiply(I a, const I& b) {
    for (int c = 0; c < 16; ++c) {
      const uint32_t product =
          static_cast<uint32_t>(int_at(a, c)) * static_cast<uint32_t>(int_at(b, c));
      memcpy(a.bytes + c * 4, &product, sizeof product);
    }
    return a;
  }
  static F scaled(const I& sums, F scale) {
    for (int c = 0; c < 16; ++c) scale.values[c] *= static_cast<float>(int_at(sums, c));
    return scale;
  }
  static F fma(F a, const F& b, const F& c) {
    for (int i = 0; i < 16; ++i) a.values[i] = fmaf(a.values[i], b.values[i], c.values[i]);
    return a;
  }
  static void store(float* target, const F& value) {
    memcpy(target, value.values, sizeof value.values);
  }

 private:
  static int32_t int_at(const I& v, int c) {
    int32_t value;
    memcpy(&value, v.bytes + c * 4, sizeof value);
    return value;
  }
};

}  // namespace tidemill
