// The variant's loops on plain tiles: same blocks, same order, same bits, on any machine.
#include "kernels/host/amx/plain_tiles.h"
#include "kernels/host/amx/product_loop.h"
#include "kernels/host/amx/products.h"

namespace tidemill::amx_emulated {

void product_bf16_by(Blocking blocking, const ProductTile& tile) {
  PlainTiles tiles;
  multiply_bf16(blocking, tiles, tile);
}

void product_bf16(const ProductTile& tile) { product_bf16_by(kDefaultBlocking, tile); }

void product_bf16_with_avx512(const ProductTile& tile) {
  if (tile.num_rows <= kFewRows) return amx::few_rows_bf16(tile);
  product_bf16(tile);
}

}  // namespace tidemill::amx_emulated
