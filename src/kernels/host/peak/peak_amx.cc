// The arithmetic probe with tiles: three sums, as the blocking of products has it, with inputs and
// weights loaded from L1 for each. Tiles that only stay where they are would say more than any
// product can have. Not measured in this program yet, as tiles.h says.
#include <stdint.h>

#include "kernels/host/amx/tiles.h"
#include "kernels/host/peak/peak_amx.h"

namespace tidemill::amx {
namespace {

constexpr int64_t kNumTileDots = 3;
alignas(64) constexpr unsigned char kNumbers[4 * kTileBytes] = {};  // speed is the same for all

struct Bf16 {
  static constexpr int64_t kOperations = 2 * kTileHeight * 16 * 32;  // of a dot
  template <int kC, int kA, int kB>
  static void add(InstructionTiles& tiles) {
    tiles.dot_bf16<kC, kA, kB>();
  }
};

struct Bytes {
  static constexpr int64_t kOperations = 2 * kTileHeight * 16 * 64;
  template <int kC, int kA, int kB>
  static void add(InstructionTiles& tiles) {
    tiles.dot_su<kC, kA, kB>();
  }
};

// Sums are tiles 0 to 2, inputs 3 to 5, weights 6. Each is zeroed after its last use (tiles.h).
template <typename Dot>
int64_t peak(int64_t rounds) {
  TileShapes shapes{};
  shapes.palette = 1;
  for (int tile = 0; tile < 7; ++tile) {
    shapes.num_rows[tile] = kTileHeight;
    shapes.row_bytes[tile] = 64;
  }
  InstructionTiles tiles;
  tiles.configure(shapes);
  tiles.zero<0>();
  tiles.zero<1>();
  tiles.zero<2>();
  for (int64_t round = 0; round < rounds; ++round) {
    tiles.load<6>(kNumbers, 64);
    tiles.load<3>(kNumbers + kTileBytes, 64);
    Dot::template add<0, 3, 6>(tiles);
    tiles.zero<3>();
    tiles.load<4>(kNumbers + 2 * kTileBytes, 64);
    Dot::template add<1, 4, 6>(tiles);
    tiles.zero<4>();
    tiles.load<5>(kNumbers + 3 * kTileBytes, 64);
    Dot::template add<2, 5, 6>(tiles);
    tiles.zero<5>();
    tiles.zero<6>();
  }
  InstructionTiles::release();
  return rounds * kNumTileDots * Dot::kOperations;
}

}  // namespace

int64_t multiply_bf16(int64_t rounds) { return peak<Bf16>(rounds); }
int64_t multiply_bytes(int64_t rounds) { return peak<Bytes>(rounds); }

}  // namespace tidemill::amx
