// The arithmetic probe with tiles: two by two sums, as the blocking of products has it, with inputs
// from L1 and weights from L2. Tiles that only stay where they are would say more than any product
// can have; and so would tiles of zeros, which take four fifths of the time (on an Emerald Rapids).
#include <stdint.h>

#include "kernels/host/amx/tiles.h"
#include "kernels/host/peak/peak_amx.h"

namespace tidemill::amx {
namespace {

constexpr int64_t kNumTileDots = 4;
constexpr int64_t kNumWeightTiles = 128;  // more than L1 holds, read round and round
constexpr int64_t kNumInputTiles = 8;

struct Numbers {
  alignas(64) unsigned char bytes[(kNumWeightTiles + kNumInputTiles) * kTileBytes];
};

// Between -2 and 2 as bf16: random bytes with such an exponent. As bytes, anything.
constexpr Numbers make_numbers() {
  Numbers numbers{};
  uint32_t state = 1;
  for (int64_t i = 0; i < static_cast<int64_t>(sizeof numbers.bytes); ++i) {
    state = state * 1664525u + 1013904223u;
    const uint32_t random = state >> 16;
    const bool is_upper = i % 2 != 0;
    numbers.bytes[i] =
        static_cast<unsigned char>(is_upper ? (random & 0x80u) | 0x3eu | (random & 1u) : random);
  }
  return numbers;
}
constexpr Numbers kNumbers = make_numbers();

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

// Sums are tiles 0 to 3, inputs 4 and 5, weights 6 and 7. Each is zeroed after its last use
// (tiles.h).
template <typename Dot>
void add_step(InstructionTiles& tiles, const unsigned char* weights, const unsigned char* inputs) {
  tiles.load<6>(weights, 64);
  tiles.load<4>(inputs, 64);
  Dot::template add<0, 4, 6>(tiles);
  tiles.load<5>(inputs + kTileBytes, 64);
  Dot::template add<1, 5, 6>(tiles);
  tiles.zero<6>();
  tiles.load<7>(weights + kTileBytes, 64);
  Dot::template add<2, 4, 7>(tiles);
  tiles.zero<4>();
  Dot::template add<3, 5, 7>(tiles);
  tiles.zero<5>();
  tiles.zero<7>();
}

template <typename Dot>
int64_t peak(int64_t rounds) {
  constexpr int64_t kStepsOfASum = 16;  // sums of products begin again, before they are infinite
  const unsigned char* const inputs = kNumbers.bytes + kNumWeightTiles * kTileBytes;
  TileShapes shapes{};
  shapes.palette = 1;
  for (int tile = 0; tile < kNumTiles; ++tile) {
    shapes.num_rows[tile] = kTileHeight;
    shapes.row_bytes[tile] = 64;
  }
  InstructionTiles tiles;
  tiles.configure(shapes);
  for (int64_t round = 0; round < rounds; ++round) {
    if (round % kStepsOfASum == 0) {
      tiles.zero<0>();
      tiles.zero<1>();
      tiles.zero<2>();
      tiles.zero<3>();
    }
    add_step<Dot>(tiles, kNumbers.bytes + round * 2 % kNumWeightTiles * kTileBytes,
                  inputs + round * 2 % kNumInputTiles * kTileBytes);
  }
  InstructionTiles::release();
  return rounds * kNumTileDots * Dot::kOperations;
}

}  // namespace

int64_t multiply_bf16(int64_t rounds) { return peak<Bf16>(rounds); }
int64_t multiply_bytes(int64_t rounds) { return peak<Bytes>(rounds); }

}  // namespace tidemill::amx
