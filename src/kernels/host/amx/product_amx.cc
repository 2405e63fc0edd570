// Products with the tile instructions.
#include <stdint.h>

#include "kernels/host/amx/product_loop.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/tiles.h"

namespace tidemill::amx {

__thread TileShapes loaded_shapes{};

void product_bf16_by(Blocking blocking, const ProductTile& tile) {
  InstructionTiles tiles;
  multiply_bf16(blocking, tiles, tile);
}

void product_bf16(const ProductTile& tile) {
  if (tile.num_rows <= kFewRows) return few_rows_bf16(tile);
  product_bf16_by(kDefaultBlocking, tile);
}

void release_tiles() {
  if (loaded_shapes.palette != 0) InstructionTiles::release();
}

}  // namespace tidemill::amx
