// Products on tiles: every blocking, on plain tiles here and on the processor's where it has them.
#include "kernels/host/amx/products.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/host/amx/test_tiles.h"
#include "kernels/host/amx/tile_blocks.h"
#include "kernels/host/amx/tiles.h"
#include "kernels/host/drivers.h"
#include "kernels/test_tensors.h"

namespace tidemill {
namespace {

using test::kBlockings;
using test::kUntouched;
using test::NotedLines;

struct Shape {
  int64_t rows, panels, k;
};

// Row counts that leave a last block of every kind, panels that leave every rest, more than one
// pass over K.
constexpr Shape kShapes[] = {{1, 8, 64},  {4, 7, 576},  {5, 3, 32},    {15, 8, 96},   {16, 4, 576},
                             {17, 5, 64}, {31, 1, 160}, {32, 2, 64},   {33, 3, 576},  {48, 2, 2080},
                             {49, 3, 64}, {65, 2, 96},  {81, 1, 2080}, {97, 5, 1088}, {288, 8, 64},
                             {4, 7, 256}, {20, 5, 128}, {32, 3, 1024}, {65, 3, 1024}};

// Rows of bf16 and panels, with strides of their own, and sums with room around them.
class Bf16Operands {
 public:
  explicit Bf16Operands(const Shape& shape, float scale = 1.0f)
      : shape_(shape),
        in_(DType::kBf16, shape.rows, shape.k),
        weight_(PackedFormat::kBf16, shape.panels * 16, shape.k) {
    test::Random random(static_cast<uint64_t>(shape.rows * 1000 + shape.k));
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t k = 0; k < shape.k; ++k) in_.set(row, k, scale * test::uniform(random));
    }
    weight_.pack([&](int64_t, int64_t) { return scale * test::uniform(random); });
  }

  std::vector<uint32_t> multiply(const std::function<void(const ProductTile&)>& product) const {
    std::vector<uint32_t> sums(static_cast<size_t>((shape_.rows + 1) * kTilePanels * 16),
                               kUntouched);
    const auto stride = static_cast<int64_t>(panel_bytes(PackedFormat::kBf16, shape_.k));
    // A worker's MXCSR.
    test::on_lanes(1, [&](Lane&) {
      product({.in = static_cast<const unsigned char*>(in_.view().data),
               .in_stride = in_.view().stride * 2,
               .num_rows = shape_.rows,
               .panels = weight_.view().data,
               .ahead = weight_.view().data,
               .panel_stride = stride,
               .num_panels = shape_.panels,
               .num_steps = num_number_rows(PackedFormat::kBf16, shape_.k),
               .sums = reinterpret_cast<float*>(sums.data())});
    });
    return sums;
  }

  // As products.h words it, one output after another.
  std::vector<uint32_t> expected() const {
    std::vector<uint32_t> sums(static_cast<size_t>((shape_.rows + 1) * kTilePanels * 16),
                               kUntouched);
    for (int64_t row = 0; row < shape_.rows; ++row) {
      for (int64_t n = 0; n < shape_.panels * 16; ++n) {
        float total = 0.0f;
        for (int64_t first = 0; first < shape_.k; first += 32) {
          float even = 0.0f;
          float odd = 0.0f;
          for (int64_t k = first; k < std::min(first + 32, shape_.k); k += 2) {
            even = std::fma(in_.at(row, k), test::unpack_at(weight_.view(), n, k), even);
            odd = std::fma(in_.at(row, k + 1), test::unpack_at(weight_.view(), n, k + 1), odd);
          }
          total += even + odd;
        }
        std::memcpy(&sums[static_cast<size_t>(row * kTilePanels * 16 + n)], &total, sizeof total);
      }
    }
    return sums;
  }

 private:
  Shape shape_;
  test::OwnedTensor in_;
  test::OwnedWeight weight_;
};

TEST(TileProducts, EveryBlockingAddsInTheStatedOrder) {
  for (const Shape& shape : kShapes) {
    const Bf16Operands operands(shape);
    const std::vector<uint32_t> expected = operands.expected();
    for (const Blocking blocking : kBlockings) {
      ASSERT_EQ(operands.multiply([&](const ProductTile& tile) {
        amx_emulated::product_bf16_by(blocking, tile);
      }),
                expected)
          << shape.rows << " rows, " << shape.panels << " panels, " << shape.k
          << " inputs, blocking " << static_cast<int>(blocking);
    }
  }
}

// Also where products and sums are near the smallest number.
TEST(TileProducts, FewRowsWithAvx512HaveTheTilesBits) {
  if (!test::runs_here("avx512")) GTEST_SKIP() << "no AVX-512";
  for (const float scale : {1.0f, 0x1p-62f}) {
    for (int64_t rows = 1; rows <= kFewRows; ++rows) {
      for (int64_t panels = 1; panels <= kTilePanels; ++panels) {
        const Bf16Operands operands({rows, panels, 608}, scale);
        ASSERT_EQ(operands.multiply(amx::few_rows_bf16),
                  operands.multiply(amx_emulated::product_bf16))
            << rows << " rows, " << panels << " panels, numbers of " << scale;
      }
    }
  }
}

TEST(TileProducts, ManyRowsFetchEveryLineThatComesNextOnce) {
  for (const Shape& shape : {Shape{97, 5, 2080}, Shape{33, 8, 576}, Shape{288, 3, 1088}}) {
    const Bf16Operands operands(shape);
    const std::vector<unsigned char> ahead(panel_bytes(PackedFormat::kBf16, shape.k) *
                                           static_cast<size_t>(shape.panels));
    for (const Blocking blocking : kBlockings) {
      const NotedLines noted;
      std::vector<const void*> wanted;
      operands.multiply([&](ProductTile tile) {
        tile.ahead = ahead.data();
        amx_emulated::product_bf16_by(blocking, tile);
        // Stretches of the same length, the last one perhaps shorter.
        const int row_tiles = blocking == Blocking::k3x1 ? 3 : 2;
        const int64_t steps = tiles_per_stretch(tile.num_steps / 16, row_tiles) * 16;
        for (int64_t first = 0; first < tile.num_steps; first += steps) {
          const bool is_last = first + steps >= tile.num_steps;
          const unsigned char* next = is_last ? tile.ahead : tile.panels + (first + steps) * 64;
          const int64_t count = std::min(steps, tile.num_steps - first);
          for (int64_t i = 0; i < count * tile.num_panels; ++i) {
            wanted.push_back(next + i % tile.num_panels * tile.panel_stride +
                             i / tile.num_panels * 64);
          }
        }
      });
      EXPECT_EQ(noted.fetched(), wanted) << shape.rows << " rows";
    }
  }
}

using TileInstructions = test::TileInstructions;

TEST_F(TileInstructions, HaveThePlainTilesBitsInBf16) {
  for (const Shape& shape : kShapes) {
    for (const float scale : {1.0f, 0x1p-62f}) {
      const Bf16Operands operands(shape, scale);
      const auto expected = operands.multiply(amx_emulated::product_bf16);
      for (const Blocking blocking : kBlockings) {
        ASSERT_EQ(operands.multiply(
                      [&](const ProductTile& tile) { amx::product_bf16_by(blocking, tile); }),
                  expected)
            << shape.rows << " rows, " << shape.panels << " panels, " << shape.k << " inputs";
      }
      ASSERT_EQ(operands.multiply(amx::product_bf16), expected);
    }
  }
  amx::release_tiles();
}

TEST_F(TileInstructions, MakeTheVariantsProductAndAreReleasedBehindIt) {
  const Kernels& kernels = *variants().back().kernels;
  ASSERT_STREQ(kernels.name, "amx");
  test::Random random(9);
  for (const int64_t rows : {3, 20, 300}) {
    test::OwnedTensor in(DType::kBf16, rows, 64);
    test::randomize(in, random);
    test::OwnedWeight weight(PackedFormat::kBf16, 200, 64);
    weight.pack([&](int64_t, int64_t) { return test::uniform(random); });
    const test::OwnedTensor out(DType::kF32, rows, 200);
    const test::OwnedTensor expected(DType::kF32, rows, 200);
    test::on_lanes(1, [&](Lane& lane) {
      kernels.matmul(lane, in.view(), weight.view(), Epilogue{}, out.view());
      runnable_implementations().back()->matmul(lane, in.view(), weight.view(), Epilogue{},
                                                expected.view());
    });
    for (int64_t row = 0; row < rows; ++row) ASSERT_EQ(out.bits(row), expected.bits(row));
    EXPECT_EQ(amx::loaded_shapes.palette, 0);
  }
}

std::atomic<int> num_ended{0};
void count_end() { ++num_ended; }

constexpr Inner kCounting = [] {
  Inner inner{};
  inner.product_f32 = reference::product_f32;
  inner.product_bf16 = amx_emulated::product_bf16;
  inner.finish = reference::finish;
  inner.to_bf16 = reference::to_bf16;
  inner.max_rows_bf16 = kAmxRows;
  inner.end_share = count_end;
  return inner;
}();

// Tiles that stay open while a lane sleeps cost 8 KiB at each change of threads.
TEST(TileProducts, EveryLaneGivesUpItsTilesOnceAProduct) {
  test::OwnedTensor in(DType::kBf16, 300, 64);
  test::OwnedWeight weight(PackedFormat::kBf16, 200, 64);
  const test::OwnedTensor out(DType::kF32, 300, 200);
  for (const int lanes : {1, 3}) {
    num_ended = 0;
    test::on_lanes(lanes, [&](Lane& lane) {
      host::matmul<kCounting>(lane, in.view(), weight.view(), Epilogue{}, out.view());
    });
    EXPECT_EQ(num_ended, lanes);
  }
}

}  // namespace
}  // namespace tidemill
