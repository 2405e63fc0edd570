// What attention on tiles is cut into: tiles of queries that walk groups together, which tile is
// what, and the lines to ask for meanwhile.
//
// In an unnamed namespace, as attention_loop.h of the folder above explains.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/attention_groups.h"

namespace tidemill {
namespace {

constexpr int64_t kPairsPerTile = kTileHeight;  // of inputs, that a tile of keys holds

// Tiles of queries that walk blocks together, so that keys and values are loaded once for all.
constexpr int64_t kMaxStepTiles = 2;

// Which tile is what. Queries and keys of less than 32 dims, at the end of a head, have their own,
// in place of those of a second tile of queries. Five columns of values with one tile of queries
// take the first of kInputTile, too, and the second is that of the probabilities.
constexpr int kSumTiles = 4;   // 0 to 3: scores, or columns of values
constexpr int kInputTile = 4;  // queries or probabilities, of two tiles
constexpr int kBlockTile = 6;  // keys or values, two in turn
constexpr int kLastQueryTile = 5;
constexpr int kLastKeyTile = 7;

inline int64_t last_pairs(int64_t head_dim) { return (head_dim + 1) / 2 % kPairsPerTile; }
inline int64_t max_step_tiles(int64_t head_dim) {
  return last_pairs(head_dim) == 0 ? kMaxStepTiles : 1;
}

inline TileShapes attention_shapes(int64_t num_queries, int64_t head_dim) {
  TileShapes shapes{};
  shapes.palette = 1;
  for (int tile = 0; tile < kBlockTile; ++tile) set_shape(shapes, tile, num_queries, 64);
  for (int tile = kBlockTile; tile < kNumTiles; ++tile) set_shape(shapes, tile, kTileHeight, 64);
  if (last_pairs(head_dim) == 0) return shapes;
  set_shape(shapes, kLastQueryTile, num_queries, last_pairs(head_dim) * 4);
  set_shape(shapes, kLastKeyTile, last_pairs(head_dim), 64);
  return shapes;
}

constexpr int64_t kSumColumn = 1;  // of a state's header, as attention_inner.h has it

// Values of the sums' column, as a tile.
struct Ones {
  alignas(64) unsigned char lines[kTileBytes];
};
constexpr Ones make_ones() {
  Ones ones{};
  for (int64_t pair = 0; pair < kPairsPerTile; ++pair) {
    unsigned char* two = ones.lines + pair * 64 + kSumColumn * 4;
    two[0] = two[2] = 0x80;  // 1 as bf16: 0x3f80
    two[1] = two[3] = 0x3f;
  }
  return ones;
}
constexpr Ones kOnes = make_ones();

// Tiles of a task one behind the other, of as many queries each, and the blocks of a group that
// they walk.
struct TileStep {
  QueryTile* tiles = nullptr;
  int64_t num_tiles = 0;
  const unsigned char* packed = nullptr;  // the queries: [tile][kPackedBytes]
  const Group* group = nullptr;
  int64_t begin = 0, end = 0;  // of the group's blocks
  bool fetches = false;        // it is the first to read them

  int64_t num_queries() const { return tiles->count; }

  // What the tile behind the others attends to is walked, too.
  void add_tile(const GroupBlocks& blocks) {
    begin = num_tiles == 0 || blocks.begin < begin ? blocks.begin : begin;
    end = blocks.end > end ? blocks.end : end;
    ++num_tiles;
  }
};

// A tile's queries as tiles: [32 dims][query][dim]. Those of the next tile of a task lie behind.
constexpr int64_t kPackedBytes = kTile * kMaxHeadDim * 2;

inline void pack_queries(const AttentionTask& task, const QueryTile& tile, unsigned char* packed) {
  const int64_t words = (task.head_dim + 1) / 2;
  for (int64_t i = 0; i < tile.count; ++i, packed += 64) {
    const auto* q = static_cast<const int32_t*>(tile.q[i]);
    for (int64_t w = 0; w < words; w += 16) {
      const auto some = static_cast<__mmask16>(words - w < 16 ? (1 << (words - w)) - 1 : 0xffff);
      _mm512_store_si512(packed + w * 64, _mm512_maskz_loadu_epi32(some, q + w));
    }
  }
}

// Lines that are wanted in L2, to be asked for little by little: in a burst they would hold up
// everything else. A line of each run in turn: memory gives several streams more than one. Few
// instructions a line: ten took 0.4 of the time of decodes whose keys and values were in L2.
template <typename Tiles>
class LineQueue {
 public:
  void clear() { line_ = num_lines_ = 0; }

  // num_lines from each block's keys on. A group of fewer blocks asks for the last one's again.
  void set(const GroupKeys& runs, int64_t num_lines) {
    for (int64_t i = 0; i < kGroupBlocks; ++i) {
      runs_[i] = runs.of_block[i < runs.count ? i : runs.count - 1];
    }
    line_ = 0;
    num_lines_ = num_lines;
  }

  // The next num_lines of each run.
  [[gnu::always_inline]] void fetch(int64_t num_lines) {
    static_assert(kGroupBlocks == 4);
    const unsigned char *a = runs_[0], *b = runs_[1], *c = runs_[2], *d = runs_[3];
    const int64_t left = num_lines_ - line_;
    const int64_t end = line_ + (num_lines < left ? num_lines : left);
    for (int64_t line = line_; line < end; ++line) {
      Tiles::fetch(a + line * 64);
      Tiles::fetch(b + line * 64);
      Tiles::fetch(c + line * 64);
      Tiles::fetch(d + line * 64);
    }
    line_ = end;
  }

 private:
  const unsigned char* runs_[kGroupBlocks] = {};
  int64_t line_ = 0;  // what is next
  int64_t num_lines_ = 0;
};

}  // namespace
}  // namespace tidemill
