// The tile instructions (AMX), and nothing but them: a variant's loops are templates over a `Tiles`
// with the members below. Here they are instructions; plain_tiles.h has the same in plain C++, so
// that every loop is tested on every machine.
//
// Eight tiles, 0 to 7, of up to 16 rows of 64 bytes. A is a tile of inputs (a row of the product
// each), B one of weights (16 rows of a panel), C one of sums; a dot adds A x B to C.
//
// Before the first instruction the process needs the system's permission (select.cc), and before a
// thread sleeps or runs other people's code it calls amx::release_tiles: open tiles are 8 KiB more
// to save whenever it loses its core.
//
// Plain data and an unnamed namespace only, as inner.h explains.
#pragma once

#include <stdint.h>

namespace tidemill {

inline constexpr int kNumTiles = 8;
inline constexpr int kTileHeight = 16;  // rows of a whole tile
inline constexpr int kTileBytes = kTileHeight * 64;

// What LDTILECFG reads. A tile without rows cannot be used.
struct alignas(64) TileShapes {
  uint8_t palette;  // 1: the one that exists; 0: tiles are released
  uint8_t first_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];  // of tiles 0 to 7; the others stay zero
  uint8_t num_rows[16];
};
static_assert(sizeof(TileShapes) == 64);

namespace amx {
// What this thread's tiles are set to. Setting them again costs some 0.1 us and clears them. Not
// thread_local: for that clang emits a wrapper function that the linker may keep for other files.
// Its place is fixed when the program is linked: ld (2.40) does not find it in code that UBSan
// checks otherwise.
extern __thread TileShapes loaded_shapes __attribute__((tls_model("local-exec")));
}  // namespace amx

#ifdef __AMX_TILE__
namespace {

// Of our own assembly, not the compiler's intrinsics: those want register numbers as literals, and
// GCC 12 declares LDTILECFG as reading 8 bytes and a tile's load as reading nothing, so that stores
// may be moved behind them. Here each says that it touches memory.
struct InstructionTiles {
  // Contents are lost when the shapes change.
  static void configure(const TileShapes& shapes) {
    if (is_loaded(shapes)) return;
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
    amx::loaded_shapes = shapes;
  }

  static void release() {
    __asm__ volatile("tilerelease" : : : "memory");
    amx::loaded_shapes.palette = 0;
  }

  // A zeroed tile needs no register of the processor's small pool: zero each A and B right after
  // its last dot (twice the speed when a hyper-thread is awake beside us).
  template <int kTile>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }

  // Rows lie `stride` bytes apart.
  template <int kTile>
  static void load(const void* rows, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"
                     :
                     : "r"(rows), "r"(stride), "i"(kTile)
                     : "memory");
  }
  // Asks that L1 keep what it has: for what is not needed again soon.
  template <int kTile>
  static void load_past_l1(const void* rows, int64_t stride) {
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm%c2"
                     :
                     : "r"(rows), "r"(stride), "i"(kTile)
                     : "memory");
  }
  template <int kTile>
  static void store(void* rows, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"
                     :
                     : "r"(rows), "r"(stride), "i"(kTile)
                     : "memory");
  }

  // C, f32, += pairs of bf16 (plain_tiles.h says in which order).
  template <int kC, int kA, int kB>
  static void dot_bf16() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
  // C, int32, += fours of bytes; the first letter is A's sign, the second B's.
  template <int kC, int kA, int kB>
  static void dot_su() {
    __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
  template <int kC, int kA, int kB>
  static void dot_ss() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
  template <int kC, int kA, int kB>
  static void dot_us() {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }

  // Into L2.
  [[gnu::always_inline]] static void fetch(const void* line) { __builtin_prefetch(line, 0, 2); }

 private:
  static bool is_loaded(const TileShapes& shapes) {
    bool same = amx::loaded_shapes.palette == shapes.palette;
    for (int t = 0; t < kNumTiles; ++t) {
      same &= amx::loaded_shapes.num_rows[t] == shapes.num_rows[t];
      same &= amx::loaded_shapes.row_bytes[t] == shapes.row_bytes[t];
    }
    return same;
  }
};

}  // namespace
#endif

}  // namespace tidemill
