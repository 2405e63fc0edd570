// The tile instructions in plain C++, bit for bit as Intel's manual (volume 2, "TDPBF16PS" and its
// siblings) words them, except which NaN a NaN is. For tests: what would raise #UD ends the
// process.
//
// C += A x B in bf16, per element of C and 16 pairs of inputs (32 of K): from zero, the even
// products are added to one sum and the odd ones to another, each by a fused multiply-add in order;
// the two sums are added; that is added to C. Every step rounds to nearest even; denormals count as
// zero wherever they come in or go out, whatever the thread's MXCSR says. Integer products are
// exact and their sums wrap at 32 bits.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/tiles.h"

namespace tidemill {

// Whoever sets one is told the lines that products on plain tiles ask for, and where unpacked
// weights go (plain_vector.h). For one thread at a time.
struct PlainNotes {
  void (*fetched)(const void* line);
  void (*written)(const void* line);
};
extern PlainNotes plain_notes;

// One thread's tiles; as members, so that a test may have several.
//
// Inline code is of one line and always inlined: files for wider instruction sets include this, and
// must not leave any that the linker could keep for others.
class PlainTiles {
 public:
  void configure(const TileShapes& shapes);
  void release();

  template <int kTile>
  [[gnu::always_inline]] void zero() {
    zero(kTile);
  }
  template <int kTile>
  [[gnu::always_inline]] void load(const void* rows, int64_t stride) {
    load(kTile, rows, stride);
  }
  template <int kTile>
  [[gnu::always_inline]] void load_past_l1(const void* rows, int64_t stride) {
    load(kTile, rows, stride);
  }
  template <int kTile>
  [[gnu::always_inline]] void store(void* rows, int64_t stride) {
    store(kTile, rows, stride);
  }
  template <int kC, int kA, int kB>
  [[gnu::always_inline]] void dot_bf16() {
    dot_bf16(kC, kA, kB);
  }
  template <int kC, int kA, int kB>
  [[gnu::always_inline]] void dot_su() {
    dot_bytes(kC, kA, kB, {.a_signed = true, .b_signed = false});
  }
  template <int kC, int kA, int kB>
  [[gnu::always_inline]] void dot_ss() {
    dot_bytes(kC, kA, kB, {.a_signed = true, .b_signed = true});
  }
  template <int kC, int kA, int kB>
  [[gnu::always_inline]] void dot_us() {
    dot_bytes(kC, kA, kB, {.a_signed = false, .b_signed = true});
  }
  [[gnu::always_inline]] static void fetch(const void* line) {
    if (plain_notes.fetched != nullptr) plain_notes.fetched(line);
  }

  // The same by number, for who reads it from an instruction (trapped_tiles.h).
  struct Signs {
    bool a_signed, b_signed;
  };
  void zero(int tile);
  void load(int tile, const void* rows, int64_t stride);
  void store(int tile, void* rows, int64_t stride) const;
  void dot_bf16(int c, int a, int b);
  void dot_bytes(int c, int a, int b, Signs signs);

 private:
  void check_usable(int tile) const;
  void check_dot(int c, int a, int b) const;
  unsigned char* row(int tile, int r) { return bytes_[tile] + r * 64; }

  TileShapes shapes_{};
  alignas(64) unsigned char bytes_[kNumTiles][kTileBytes] = {};
};

}  // namespace tidemill
