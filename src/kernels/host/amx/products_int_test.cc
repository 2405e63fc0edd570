// Products of integers on tiles: the reference's bits from every blocking, on plain tiles here and
// on the processor's where it has them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "kernels/host/amx/plain_tiles.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/test_tiles.h"
#include "kernels/host/amx/tile_blocks.h"
#include "kernels/test_tensors.h"

namespace tidemill {
namespace {

using test::kBlockings;
using test::kUntouched;
using test::NotedLines;
using Product = std::function<void(const ProductTile&)>;

constexpr PackedFormat int8(int32_t group, Offsets offsets = Offsets::kNone) {
  return {Numbers::kInt8, offsets, group};
}
constexpr PackedFormat int4(int32_t group, Offsets offsets = Offsets::kNone) {
  return {Numbers::kInt4, offsets, group};
}

struct Shape {
  int64_t rows, panels, k;
};

// Runs of integers and panels, as the driver hands them to a product, and sums with room around
// them.
class IntegerOperands {
 public:
  IntegerOperands(const PackedFormat& format, const Shape& shape)
      : random_(static_cast<uint64_t>(shape.rows * 1000 + shape.k)),
        shape_(shape),
        weight_(format, shape.panels * 16, shape.k, random_),
        in_(select_kernels("reference"), values(shape, random_), input_form(weight_.view())) {}

  std::vector<uint32_t> multiply(const Product& product, const unsigned char* ahead = nullptr) {
    std::vector<uint32_t> sums(static_cast<size_t>((shape_.rows + 1) * kTilePanels * 16),
                               kUntouched);
    test::on_lanes(1, [&](Lane&) {
      product({.in = static_cast<const unsigned char*>(in_.view().data),
               .in_stride = in_.view().stride,
               .num_rows = shape_.rows,
               .panels = weight_.view().data,
               .ahead = ahead,
               .panel_stride = panel_stride(),
               .num_panels = shape_.panels,
               .num_steps = num_number_rows(weight_.view().format, shape_.k),
               .sums = reinterpret_cast<float*>(sums.data()),
               .format = weight_.view().format,
               .num_inputs = padded_k(weight_.view().format, shape_.k)});
    });
    return sums;
  }
  std::vector<uint32_t> expected() {
    return multiply(is_int4() ? reference::product_int4 : reference::product_int8);
  }
  std::vector<uint32_t> emulated(Blocking blocking, const unsigned char* ahead = nullptr) {
    return multiply(
        [&](const ProductTile& tile) {
          (is_int4() ? amx_emulated::product_int4_by : amx_emulated::product_int8_by)(blocking,
                                                                                      tile);
        },
        ahead);
  }
  std::vector<uint32_t> by_instructions(Blocking blocking) {
    return multiply([&](const ProductTile& tile) {
      (is_int4() ? amx::product_int4_by : amx::product_int8_by)(blocking, tile);
    });
  }

  bool is_int4() const { return weight_.view().format.numbers == Numbers::kInt4; }
  int64_t panel_stride() const {
    return static_cast<int64_t>(panel_bytes(weight_.view().format, shape_.k));
  }
  const unsigned char* panels() const { return weight_.view().data; }

  std::string what(Blocking blocking) const {
    return test::label(weight_.view().format) + ", " + std::to_string(shape_.rows) + " rows, " +
           std::to_string(shape_.panels) + " panels, " + std::to_string(shape_.k) +
           " inputs, blocking " + std::to_string(static_cast<int>(blocking));
  }

 private:
  static test::OwnedTensor values(const Shape& shape, test::Random& random) {
    test::OwnedTensor values(DType::kF32, shape.rows, shape.k);
    test::randomize(values, random);
    return values;
  }
  test::Random random_;
  Shape shape_;
  test::OwnedIntegers weight_;
  test::OwnedQuantized in_;
};

struct Case {
  PackedFormat format;
  Shape shape;
};

// Every kind of format, with a last group that is short, an odd number of groups, and channels that
// take more than a pass. Row counts leave a last block of every kind, panels every rest.
constexpr Case kCases[] = {{int8(0), {1, 8, 64}},
                           {int8(0), {16, 7, 577}},
                           {int8(0), {97, 5, 128}},
                           {int8(0), {49, 3, 2112}},
                           {int8(0), {33, 1, 4160}},
                           {int4(0), {50, 3, 2200}},
                           {int8(32), {17, 5, 96}},
                           {int8(32), {70, 3, 65}},
                           {int8(32, Offsets::kZero), {64, 2, 200}},
                           {int8(32, Offsets::kOffset), {40, 3, 2080}},
                           {int8(64), {31, 4, 192}},
                           {int8(64, Offsets::kOffset), {96, 1, 320}},
                           {int8(96, Offsets::kOffset), {20, 3, 448}},
                           {int8(128), {65, 3, 576}},
                           {int8(128, Offsets::kZero), {5, 6, 576}},
                           {int8(256), {20, 3, 576}},
                           {int8(4096), {40, 2, 4160}},
                           {int8(32), {31, 3, 4096}},
                           {int4(32), {35, 3, 96}},
                           {int4(32), {16, 8, 2240}},
                           {int4(32, Offsets::kZero), {70, 3, 320}},
                           {int4(32, Offsets::kOffset), {97, 3, 96}},
                           {int4(64), {15, 5, 320}},
                           {int4(64, Offsets::kZero), {81, 5, 2112}},
                           {int4(96), {70, 3, 448}},
                           {int4(128), {288, 2, 576}},
                           {int4(128, Offsets::kZero), {66, 5, 200}},
                           {int4(128, Offsets::kOffset), {17, 3, 2240}},
                           {int4(256), {49, 3, 576}},
                           {int4(64), {20, 5, 4096}},
                           {int4(32), {17, 5, 4096}},
                           {int4(64, Offsets::kOffset), {70, 2, 4096}},
                           {int4(544, Offsets::kOffset), {70, 3, 1120}},
                           {int4(576), {65, 2, 1216}},
                           {int4(1024), {65, 2, 2240}},
                           {int4(1312, Offsets::kOffset), {40, 3, 2752}},
                           {int4(4096, Offsets::kZero), {70, 1, 8256}}};

TEST(TileIntegers, EveryBlockingHasTheReferencesBits) {
  for (const Case& test_case : kCases) {
    IntegerOperands operands(test_case.format, test_case.shape);
    const std::vector<uint32_t> expected = operands.expected();
    for (const Blocking blocking : kBlockings) {
      ASSERT_EQ(operands.emulated(blocking), expected) << operands.what(blocking);
    }
  }
}

constexpr PackedFormat kUsual[] = {int8(0), int8(32), int4(32, Offsets::kOffset), int4(64),
                                   int4(128, Offsets::kZero)};

// By the blocking that is chosen.
TEST(TileIntegers, EveryNumberOfRowsHasTheReferencesBits) {
  for (const PackedFormat& format : kUsual) {
    for (int64_t rows = 1; rows <= 70; ++rows) {
      IntegerOperands operands(format, {rows, 3, 192});
      const auto sums = operands.multiply(operands.is_int4() ? amx_emulated::product_int4
                                                             : amx_emulated::product_int8);
      ASSERT_EQ(sums, operands.expected()) << test::label(format) << ", " << rows << " rows";
    }
  }
}

// The variant amx takes these for few rows; where there are no tiles nothing else does.
TEST(TileIntegers, FewRowsBesideTilesHaveTheReferencesBits) {
  if (!__builtin_cpu_supports("avx512vnni")) GTEST_SKIP() << "the processor has no AVX512_VNNI";
  for (const PackedFormat& format : kUsual) {
    for (int64_t rows = 1; rows <= kTileRows; ++rows) {
      for (int64_t panels = 1; panels <= kTilePanels; ++panels) {
        IntegerOperands operands(format, {rows, panels, 192});
        const auto product =
            operands.is_int4() ? avx512vnni::few_rows_int4 : avx512vnni::few_rows_int8;
        ASSERT_EQ(operands.multiply(product, operands.panels()), operands.expected())
            << test::label(format) << ", " << rows << " rows, " << panels << " panels";
      }
    }
  }
}

// ---- what is read, and when

// A panel's lines from `begin` on, one of each panel after the other.
std::vector<const unsigned char*> lines_of(const unsigned char* panels, int64_t stride,
                                           int64_t num_panels, int64_t begin, int64_t end) {
  std::vector<const unsigned char*> lines;
  for (int64_t at = begin; at < end; at += 64) {
    for (int64_t p = 0; p < num_panels; ++p) lines.push_back(panels + p * stride + at);
  }
  return lines;
}

TEST(TileIntegers, ManyRowsFetchEveryLineThatComesNextOnce) {
  struct Fetching {
    PackedFormat format;
    Shape shape;
  };
  for (const Fetching& test_case :
       {Fetching{int8(0), {97, 5, 576}}, Fetching{int8(0), {33, 3, 2112}},
        Fetching{int4(128, Offsets::kZero), {70, 5, 576}},
        Fetching{int4(128, Offsets::kZero), {288, 3, 2176}}, Fetching{int8(32), {33, 8, 128}}}) {
    IntegerOperands operands(test_case.format, test_case.shape);
    const int64_t stride = operands.panel_stride();
    const int64_t num_panels = test_case.shape.panels;
    const std::vector<unsigned char> ahead(static_cast<size_t>(stride * num_panels));
    const int64_t group = test_case.format.group;
    const int64_t tile_inputs = group % 64 == 0 ? 64 : 32;
    const int64_t num_tiles = (test_case.shape.k + tile_inputs - 1) / tile_inputs;
    // Where a pass begins: groups before it have rows of scales, too.
    const auto begin_of = [&](int64_t tiles) {
      const int64_t inputs = tiles * tile_inputs;
      return (inputs / (operands.is_int4() ? 8 : 4) + (group == 0 ? 0 : inputs / group)) * 64;
    };
    for (const Blocking blocking : kBlockings) {
      const NotedLines noted;
      operands.emulated(blocking, ahead.data());
      const int64_t per_pass = equal_passes(num_tiles, group == 0 ? 1 : group / tile_inputs,
                                            blocking == Blocking::k3x1 ? 3 : 2);
      std::vector<const void*> wanted;
      int64_t first = 0;
      for (; first + per_pass < num_tiles; first += per_pass) {
        // As many lines as this pass has, whatever the next one has.
        const int64_t next = begin_of(first + per_pass);
        const auto lines =
            lines_of(operands.panels(), stride, num_panels, next, 2 * next - begin_of(first));
        wanted.insert(wanted.end(), lines.begin(), lines.end());
      }
      const auto last = lines_of(ahead.data(), stride, num_panels, 0, stride - begin_of(first));
      wanted.insert(wanted.end(), last.begin(), last.end());
      EXPECT_EQ(noted.fetched(), wanted) << operands.what(blocking);
    }
  }
}

TEST(TileIntegers, FewRowsFetchEveryLineOfTheirStreamsOnce) {
  for (const PackedFormat& format : {int8(0), int8(32), int8(128, Offsets::kZero), int4(32),
                                     int4(64, Offsets::kOffset), int4(128, Offsets::kZero)}) {
    for (const int64_t rows : {16, 20, 32}) {
      IntegerOperands operands(format, {rows, 7, 2112});
      const int64_t stride = operands.panel_stride();
      const NotedLines noted;
      operands.emulated(Blocking::k2x2);
      std::vector<const void*> fetched = noted.fetched();
      std::sort(fetched.begin(), fetched.end());
      // Four panels side by side, or two, then single ones: behind a panel's end comes that of the
      // next set.
      const int64_t at_once = rows <= kTileHeight ? 4 : 2;
      std::vector<const void*> wanted;
      for (int64_t panel = 0; panel < 7; ++panel) {
        const int64_t in_set = panel < 7 / at_once * at_once ? at_once : 1;
        for (int64_t at = kStreamBytes; at < stride + kStreamBytes; at += 64) {
          const int64_t skipped = at < stride ? 0 : (in_set - 1) * stride;
          wanted.push_back(operands.panels() + panel * stride + at + skipped);
        }
      }
      std::sort(wanted.begin(), wanted.end());
      EXPECT_EQ(fetched, wanted) << operands.what(Blocking::k2x2);
    }
  }
}

// Eight tiles at a time: what is unpacked stays in L1 until it is multiplied.
TEST(TileIntegers, FewRowsUnpackWeightsIntoTheSameFewLines) {
  constexpr size_t kLinesPerTile = kTileBytes / 64;
  for (const PackedFormat& format : {int4(0), int4(32), int4(64), int4(128, Offsets::kZero)}) {
    for (const int64_t rows : {9, 16, 32}) {
      IntegerOperands operands(format, {rows, 8, 768});
      const NotedLines noted;
      EXPECT_EQ(operands.emulated(Blocking::k2x2), operands.expected());
      const size_t panels_at_once = rows <= kTileHeight ? 4 : 2;
      EXPECT_LE(noted.written().size(), 8 * kLinesPerTile) << operands.what(Blocking::k2x2);
      EXPECT_GE(noted.written().size(), panels_at_once * kLinesPerTile / 2);
    }
  }
}

// A tile of zeros takes no register of the processor's pool.
TEST(TileIntegers, InputsAndWeightsAreZeroedBehindTheirLastProduct) {
  for (const int64_t rows : {32, 64}) {
    for (const PackedFormat& format : kUsual) {
      IntegerOperands operands(format, {rows, 4, 192});
      operands.multiply([](const ProductTile& tile) {
        PlainTiles tiles;
        amx_emulated::product_integers_on(tiles, Blocking::k2x2, tile);
        using TilePlan = Plan<2, 2>;
        for (const int index : {TilePlan::a(0), TilePlan::a(1), TilePlan::b(0), TilePlan::b(1)}) {
          unsigned char bytes[kTileBytes] = {};
          tiles.store(index, bytes, 64);
          EXPECT_EQ(std::count(bytes, bytes + kTileBytes, 0), kTileBytes) << "tile " << index;
        }
      });
    }
  }
}

// ---- the variant's own object file

using TileInstructions = test::TileInstructions;

TEST_F(TileInstructions, HaveTheReferencesBitsInIntegers) {
  for (const Case& test_case : kCases) {
    IntegerOperands operands(test_case.format, test_case.shape);
    const std::vector<uint32_t> expected = operands.expected();
    for (const Blocking blocking : kBlockings) {
      ASSERT_EQ(operands.by_instructions(blocking), expected) << operands.what(blocking);
    }
  }
  amx::release_tiles();
}

bool has_vnni() {
  const auto all = variants();
  return std::any_of(all.begin(), all.end(), [](const Variant& variant) {
    return std::string(variant.kernels->name) == "avx512" && variant.why_not.empty() &&
           std::string(variant.kernels->description).find("VNNI") != std::string::npos;
  });
}

TEST_F(TileInstructions, MakeTheVariantsProductsOfIntegersAndAreReleasedBehindThem) {
  if (!has_vnni()) GTEST_SKIP() << "no VNNI, which few rows take";
  const Kernels& kernels = *variants().back().kernels;
  ASSERT_STREQ(kernels.name, "amx");
  const Kernels& reference = select_kernels("reference");
  test::Random random(9);
  for (const PackedFormat& format : kUsual) {
    for (const int32_t parts : {1, 2}) {
      for (const int64_t rows : {1, 4, 7, 8, 9, 33, 150, 300}) {
        const int64_t n = rows > 100 ? 40 : 200;
        const test::OwnedIntegers integers(format, n, 200, random);
        PackedWeight weight = integers.view();
        weight.input_parts = parts;
        test::OwnedTensor values(DType::kF32, rows, 200);
        test::randomize(values, random);
        const test::OwnedQuantized in(reference, values, input_form(weight));
        const test::OwnedTensor out(DType::kF32, rows, n);
        const test::OwnedTensor expected(DType::kF32, rows, n);
        test::on_lanes(1, [&](Lane& lane) {
          kernels.matmul(lane, in.view(), weight, Epilogue{}, out.view());
          reference.matmul(lane, in.view(), weight, Epilogue{}, expected.view());
        });
        for (int64_t row = 0; row < rows; ++row) {
          ASSERT_EQ(out.bits(row), expected.bits(row))
              << test::label(format) << ", row " << row << " of " << rows << ", " << parts;
        }
        EXPECT_EQ(amx::loaded_shapes.palette, 0);
      }
    }
  }
}

}  // namespace
}  // namespace tidemill
