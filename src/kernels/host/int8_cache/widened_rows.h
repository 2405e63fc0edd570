// How rows multiply int8 numbers where only pairs of 16 bits can be: a line's even and odd bytes,
// each with the pairs of four dims (tokens) that belong to them.
#pragma once

#include <stdint.h>

namespace tidemill {
namespace {

template <typename Base>
struct WidenedRows : Base {
  using Int = typename Base::Int;
  static constexpr int kSums = 1;

  static Int first_keys(Int bytes) { return Base::even(bytes); }
  static Int second_keys(Int bytes) { return Base::odd(bytes); }
  static Int first_values(Int bytes) { return Base::even(bytes); }
  static Int second_values(Int bytes) { return Base::odd(bytes); }
  static Int add_keys(Int sum, Int two, Int keys) { return Base::dot(sum, two, keys); }
  static Int add_values(Int sum, Int two, Int values) { return Base::dot(sum, two, values); }
  static Int key_total(Int sum, Int /*the same*/, int32_t /*of_query*/) { return sum; }
  static Int value_total(Int sum, Int /*the same*/) { return sum; }
  static void store_query(Int integers, int32_t* words) { Base::store_pairs(integers, words); }
  static void store_weights(Int integers, int32_t* words) { Base::store_pairs(integers, words); }
};

}  // namespace
}  // namespace tidemill
