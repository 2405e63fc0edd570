// Rows by VPDPBUSD, which takes int8 numbers as they are, and tiles by VPDPWSSD, for the files of
// AVX-512 with VNNI. An integer of 16 bits is then two bytes and takes two products, as it does
// widened, but nothing has to be widened. Sums are exact: the same ones.
#pragma once

#include "kernels/host/int8_cache/vector_avx512.h"

namespace tidemill {
namespace {

struct WordsVnni {
  // Around the intrinsic GCC 12 copies every sum, some through memory.
  static __m512i dot(__m512i sum, __m512i a, __m512i b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
};

// One factor is unsigned: keys plus 128, and weights, which are not negative.
struct ByteRows : IntegerVector512<WordsVnni> {
  using Int = __m512i;
  static constexpr int kSums = 2;  // of high and of low bytes

  static Int add_products(Int sum, Int bytes, Int signed_bytes) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(signed_bytes));
    return sum;
  }
  static Int first_keys(Int bytes) {
    return _mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(0x80)));
  }
  static Int second_keys(Int bytes) { return first_keys(bytes); }
  static Int first_values(Int bytes) { return bytes; }
  static Int second_values(Int bytes) { return bytes; }
  static Int add_keys(Int sum, Int two, Int keys) { return add_products(sum, keys, two); }
  static Int add_values(Int sum, Int two, Int values) { return add_products(sum, two, values); }
  static Int value_total(Int high, Int low) {
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
  }
  // May overflow on the way, and back.
  static Int key_total(Int high, Int low, int32_t of_query) {
    return _mm512_sub_epi32(value_total(high, low), _mm512_slli_epi32(set(of_query), 7));
  }

  // Of each four integers the high bytes, then the low ones, which are signed for queries.
  static void store_query(Int integers, int32_t* words) {
    store_bytes(_mm512_srai_epi32(_mm512_add_epi32(integers, set(128)), 8), integers, words);
  }
  static void store_weights(Int integers, int32_t* words) {
    store_bytes(_mm512_srli_epi32(integers, 8), integers, words);
  }
  static void store_bytes(Int high, Int low, int32_t* words) {
    const __m128i high_bytes = _mm512_cvtepi32_epi8(high);
    const __m128i low_bytes = _mm512_cvtepi32_epi8(low);
    auto* out = reinterpret_cast<__m128i*>(words);
    _mm_storeu_si128(out, _mm_unpacklo_epi32(high_bytes, low_bytes));
    _mm_storeu_si128(out + 1, _mm_unpackhi_epi32(high_bytes, low_bytes));
  }
};

}  // namespace
}  // namespace tidemill
