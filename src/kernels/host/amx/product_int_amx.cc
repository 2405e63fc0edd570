// Products of integers with the tile instructions.
#include <stdint.h>

#include "kernels/host/amx/integer_loop.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tiles.h"
#include "kernels/host/integer_vector_avx512.h"

namespace tidemill::amx {

void product_int8_by(Blocking blocking, const ProductTile& tile) {
  InstructionTiles tiles;
  multiply_integers<Int8Weights, IntegerVector>(blocking, tiles, tile);
}

void product_int4_by(Blocking blocking, const ProductTile& tile) {
  InstructionTiles tiles;
  multiply_integers<Int4Weights, IntegerVector>(blocking, tiles, tile);
}

void product_int8(const ProductTile& tile) {
  if (tile.num_rows <= kFewRowsInt8) return avx512vnni::few_rows_int8(tile);
  product_int8_by(blocking_of(tile.format), tile);
}

void product_int4(const ProductTile& tile) {
  if (are_few_rows_of_int4(tile)) return avx512vnni::few_rows_int4(tile);
  product_int4_by(blocking_of(tile.format), tile);
}

}  // namespace tidemill::amx
