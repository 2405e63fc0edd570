// The variant's loops for integers on plain tiles.
#include "kernels/host/amx/integer_loop.h"
#include "kernels/host/amx/plain_tiles.h"
#include "kernels/host/amx/plain_vector.h"
#include "kernels/host/amx/products.h"

namespace tidemill::amx_emulated {

void product_integers_on(PlainTiles& tiles, Blocking blocking, const ProductTile& tile) {
  if (tile.format.numbers == Numbers::kInt4) {
    multiply_integers<Int4Weights, PlainVector>(blocking, tiles, tile);
  } else {
    multiply_integers<Int8Weights, PlainVector>(blocking, tiles, tile);
  }
}

void product_int8_by(Blocking blocking, const ProductTile& tile) {
  PlainTiles tiles;
  product_integers_on(tiles, blocking, tile);
}

void product_int4_by(Blocking blocking, const ProductTile& tile) {
  PlainTiles tiles;
  product_integers_on(tiles, blocking, tile);
}

void product_int8(const ProductTile& tile) { product_int8_by(blocking_of(tile.format), tile); }
void product_int4(const ProductTile& tile) { product_int4_by(blocking_of(tile.format), tile); }

void product_int8_with_avx512(const ProductTile& tile) {
  if (tile.num_rows <= kFewRowsInt8) return avx512::product_int8(tile);
  product_int8(tile);
}
void product_int4_with_avx512(const ProductTile& tile) {
  if (are_few_rows_of_int4(tile)) return avx512::product_int4(tile);
  product_int4(tile);
}

}  // namespace tidemill::amx_emulated
