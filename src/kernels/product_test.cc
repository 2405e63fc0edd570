#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <string>

#include "kernels/test_logits.h"
#include "kernels/test_tensors.h"
#include "kernels/test_wanted.h"

namespace tidemill {
namespace {

using test::on_lanes;
using test::OwnedTensor;
using test::OwnedWeight;
using test::Random;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
  const Kernels* kernels;
  PackedFormat format;
};

std::string name_of(const Case& test_case) {
  return test::label(*test_case.kernels) +
         (test_case.format == PackedFormat::kF32 ? "_f32" : "_bf16");
}

void PrintTo(const Case& test_case, std::ostream* out) { *out << name_of(test_case); }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Kernels* kernels : runnable_implementations()) {
    all.push_back({kernels, PackedFormat::kF32});
    all.push_back({kernels, PackedFormat::kBf16});
  }
  return all;
}

struct Shape {
  int64_t rows, k, n;
};
// Sizes that miss the tile in every direction, and the hidden size of SmolLM2-135M.
constexpr Shape kShapes[] = {{1, 64, 64},   {17, 65, 33},   {33, 4096, 31},
                             {5, 576, 150}, {16, 576, 16},  {2, 1, 1},
                             {6, 31, 129},  {12, 1536, 72}, {26, 72, 793}};

struct Operands {
  Operands(PackedFormat format, const Shape& shape, Random& random)
      : in(input_type(format), shape.rows, shape.k), weight(format, shape.n, shape.k) {
    test::randomize(in, random);
    weight.pack([&](int64_t, int64_t) { return test::uniform(random); });
  }
  OwnedTensor in;
  OwnedWeight weight;
};

struct Sum {
  double value;
  double magnitude;  // of the addends together
};

Sum exact(const OwnedTensor& in, const PackedWeight& weight, int64_t row, int64_t n) {
  Sum sum{};
  for (int64_t k = 0; k < weight.k; ++k) {
    const double addend = static_cast<double>(in.at(row, k)) * test::unpack_at(weight, n, k);
    sum.value += addend;
    sum.magnitude += std::fabs(addend);
  }
  return sum;
}

// Adding K numbers one by one in floats errs by at most K roundings of the sum of magnitudes.
double tolerance(const Sum& sum, int64_t k) {
  return static_cast<double>(k + 2) * 0x1p-24 * sum.magnitude;
}

class Product : public testing::TestWithParam<Case> {
 protected:
  OwnedTensor multiply(const OwnedTensor& in, const PackedWeight& weight, int lanes = 1) {
    OwnedTensor out(DType::kF32, in.view().rows, weight.n);
    out.fill(kNan);
    on_lanes(lanes, [&](Lane& lane) {
      GetParam().kernels->matmul(lane, in.view(), weight, Epilogue{}, out.view());
    });
    return out;
  }
  PackedFormat format() const { return GetParam().format; }
  Random random_{7};
};

TEST_P(Product, IsTheSumOfProductsOnSizesThatMissTheTile) {
  for (const Shape& shape : kShapes) {
    const Operands operands(format(), shape, random_);
    const OwnedTensor out = multiply(operands.in, operands.weight.view());
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t n = 0; n < shape.n; ++n) {
        const Sum sum = exact(operands.in, operands.weight.view(), row, n);
        ASSERT_NEAR(out.at(row, n), sum.value, tolerance(sum, shape.k))
            << shape.rows << "x" << shape.k << "x" << shape.n << " at " << row << "," << n;
      }
    }
  }
}

TEST_P(Product, LeavesZeroBehindTheLastColumn) {
  for (const DType type : {DType::kF32, DType::kBf16}) {
    const Operands operands(format(), {7, 65, 35}, random_);
    OwnedTensor out(type, 7, 35);
    out.fill(kNan);
    on_lanes(2, [&](Lane& lane) {
      GetParam().kernels->matmul(lane, operands.in.view(), operands.weight.view(), Epilogue{},
                                 out.view());
    });
    for (int64_t row = 0; row < 7; ++row) {
      for (int64_t col = 35; col < out.view().stride; ++col) ASSERT_EQ(out.at(row, col), 0.0f);
    }
  }
}

TEST_P(Product, AddsBiasAndResidualInPlace) {
  for (const Shape& shape : {Shape{9, 100, 37}, Shape{9, 40, 393}}) {
    const Operands operands(format(), shape, random_);
    std::vector<float> bias(static_cast<size_t>(shape.n));
    for (float& value : bias) value = test::uniform(random_);
    OwnedTensor out(DType::kF32, shape.rows, shape.n);
    test::randomize(out, random_);
    OwnedTensor before(DType::kF32, shape.rows, shape.n);
    std::memcpy(before.view().data, out.view().data,
                static_cast<size_t>(shape.rows * out.view().stride) * sizeof(float));
    const Tensor residual = out.view();
    on_lanes(shape.n < 100 ? 2 : 1, [&](Lane& lane) {
      GetParam().kernels->matmul(lane, operands.in.view(), operands.weight.view(),
                                 {.bias = bias.data(), .residual = &residual}, out.view());
    });
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t n = 0; n < shape.n; ++n) {
        Sum sum = exact(operands.in, operands.weight.view(), row, n);
        sum.value += bias[static_cast<size_t>(n)] + static_cast<double>(before.at(row, n));
        sum.magnitude += 2.0;
        ASSERT_NEAR(out.at(row, n), sum.value, tolerance(sum, shape.k));
      }
    }
  }
}

// Columns 32j..32j+15 of the product are gates, the next 16 what they open.
TEST_P(Product, MultipliesSiluOfGateWithUp) {
  for (const Shape& shape : {Shape{8, 576, 2 * 80}, Shape{8, 40, 2 * 208}}) {
    const Operands operands(format(), shape, random_);
    OwnedTensor out(input_type(format()), shape.rows, shape.n / 2);
    on_lanes(shape.n < 200 ? 3 : 1, [&](Lane& lane) {
      GetParam().kernels->matmul(lane, operands.in.view(), operands.weight.view(),
                                 {.silu_times_up = true}, out.view());
    });
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t col = 0; col < shape.n / 2; ++col) {
        const int64_t gate_channel = col / 16 * 32 + col % 16;
        const Sum gate = exact(operands.in, operands.weight.view(), row, gate_channel);
        const Sum up = exact(operands.in, operands.weight.view(), row, gate_channel + 16);
        const double value = gate.value / (1.0 + std::exp(-gate.value)) * up.value;
        // silu's slope is below 1.1; its exp is good to 2e-7; bf16 keeps 8 bits.
        const double rounding = format() == PackedFormat::kF32 ? 1e-6 : 0x1p-8;
        const double allowed = 1.1 * tolerance(gate, shape.k) * std::fabs(up.value) +
                               tolerance(up, shape.k) * std::fabs(gate.value) +
                               rounding * std::fabs(value) + 1e-6;
        ASSERT_NEAR(out.at(row, col), value, allowed) << row << "," << col;
      }
    }
  }
}

// What the engine's "one arithmetic" rests on.
// Lanes that help each other take pieces of whole chunks.
TEST_P(Product, TellsTheGreatestOfEachChunkOfItsRows) {
  for (const Shape& shape : {Shape{1, 40, 1003}, Shape{6, 40, 393}, Shape{77, 40, 1003}}) {
    const Operands operands(format(), shape, random_);
    for (const int lanes : {1, 2, 3}) {
      OwnedTensor out(DType::kF32, shape.rows, shape.n);
      OwnedTensor maxima(DType::kF32, shape.rows, num_logit_chunks(shape.n));
      maxima.fill(kNan);
      on_lanes(lanes, [&](Lane& lane) {
        GetParam().kernels->matmul(lane, operands.in.view(), operands.weight.view(),
                                   {.chunk_maxima = &maxima.view()}, out.view());
      });
      for (int64_t row = 0; row < shape.rows; ++row) {
        ASSERT_EQ(maxima.floats(row), test::chunk_maxima_of(out.floats(row)))
            << row << " of " << shape.rows << ", " << lanes << " lanes";
      }
    }
  }
}

TEST_P(Product, WhatElseIsWantedMeanwhileChangesNothing) {
  const Kernels& kernels = *GetParam().kernels;
  for (const int64_t rows : {16, 30}) {
    const Operands operands(format(), {rows, 576, 393}, random_);
    const OwnedTensor expected = multiply(operands.in, operands.weight.view());
    test::WantedMemory wanted(kernels, 8192);
    OwnedTensor out(DType::kF32, rows, 393);
    on_lanes(1, [&](Lane& lane) {
      lane.want(wanted.ahead());
      kernels.matmul(lane, operands.in.view(), operands.weight.view(), Epilogue{}, out.view());
    });
    for (int64_t row = 0; row < rows; ++row) ASSERT_EQ(out.bits(row), expected.bits(row));
    EXPECT_EQ(wanted.any_asked(), test::describes(kernels, "AVX-512 with VNNI and VDPBF16PS") &&
                                      format() == PackedFormat::kBf16 && rows == 30);
  }
}

TEST_P(Product, RowsBitsDependOnThatRowAlone) {
  for (const Shape& shape : {Shape{33, 576, 200}, Shape{33, 4096, 31}}) {
    const Operands operands(format(), shape, random_);
    const OwnedTensor together = multiply(operands.in, operands.weight.view(), 1);
    for (const int64_t chosen : {0, 5, 7, 32}) {
      OwnedTensor alone(input_type(format()), 1, shape.k);
      for (int64_t k = 0; k < shape.k; ++k) alone.set(0, k, operands.in.at(chosen, k));
      ASSERT_EQ(multiply(alone, operands.weight.view()).bits(0), together.bits(chosen));
    }
  }
}

TEST_P(Product, RowsBitsDoNotDependOnHowManyRowsOrLanes) {
  const Shape shape{19, 576, 200};
  const Operands operands(format(), shape, random_);
  const OwnedTensor whole = multiply(operands.in, operands.weight.view(), 1);
  for (int64_t rows = 1; rows <= shape.rows; ++rows) {
    OwnedTensor first(input_type(format()), rows, shape.k);
    for (int64_t i = 0; i < rows * shape.k; ++i) {
      first.set(i / shape.k, i % shape.k, operands.in.at(i / shape.k, i % shape.k));
    }
    const OwnedTensor out = multiply(first, operands.weight.view(), 1 + static_cast<int>(rows % 3));
    for (int64_t row = 0; row < rows; ++row) ASSERT_EQ(out.bits(row), whole.bits(row));
  }
}

// The tests above must be able to fail: another order of the same sum has other bits. Reference
// adds in double, where the order is lost in the final rounding.
TEST_P(Product, AnotherOrderAlongKHasOtherBits) {
  if (test::sums_in_double(*GetParam().kernels)) GTEST_SKIP() << "sums in double";
  const Shape shape{1, 576, 64};
  const Operands operands(format(), shape, random_);
  OwnedTensor reversed_in(input_type(format()), 1, shape.k);
  for (int64_t k = 0; k < shape.k; ++k) reversed_in.set(0, k, operands.in.at(0, shape.k - 1 - k));
  OwnedWeight reversed(format(), shape.n, shape.k);
  reversed.pack([&](int64_t n, int64_t k) {
    return test::unpack_at(operands.weight.view(), n, shape.k - 1 - k);
  });
  EXPECT_NE(multiply(reversed_in, reversed.view()).bits(0),
            multiply(operands.in, operands.weight.view()).bits(0));
}

INSTANTIATE_TEST_SUITE_P(Variants, Product, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

TEST(PackedWeight, GivesBackWhatWasPackedRoundedToItsFormat) {
  Random random(3);
  for (const PackedFormat format : {PackedFormat::kF32, PackedFormat::kBf16}) {
    OwnedTensor values(DType::kF32, 35, 67);
    test::randomize(values, random);
    OwnedWeight weight(format, 35, 67);
    weight.pack([&](int64_t n, int64_t k) { return values.at(n, k); });
    std::vector<float> row(67);
    for (int64_t n = 0; n < 35; ++n) {
      unpack_row(weight.view(), n, row.data());
      for (int64_t k = 0; k < 67; ++k) {
        const float value = values.at(n, k);
        const float expected = format == PackedFormat::kF32 ? value : to_float(to_bf16(value));
        ASSERT_EQ(test::unpack_at(weight.view(), n, k), expected);
        ASSERT_EQ(row[static_cast<size_t>(k)], expected);
      }
    }
  }
}

TEST(PackedWeight, PaddingIsZeroAndPanelsAreAligned) {
  EXPECT_EQ(panel_bytes(PackedFormat::kF32, 65), 80u * 16 * 4);
  EXPECT_EQ(panel_bytes(PackedFormat::kBf16, 65), 96u * 16 * 2);
  std::vector<float> ones(3 * 65, 1.0f);
  std::vector<unsigned char> panel(panel_bytes(PackedFormat::kF32, 65), 0xff);
  pack_panel(PackedFormat::kF32, 65, ones.data(), 3, panel.data());
  double sum = 0.0;
  for (size_t i = 0; i < panel.size(); i += 4) {
    float value;
    std::memcpy(&value, panel.data() + i, sizeof value);
    sum += value;
  }
  EXPECT_EQ(sum, 3.0 * 65);
}

TEST(PackedWeight, PanelsOfWholePagesHaveARowOfZerosBehindThem) {
  std::vector<float> ones(16 * 128, 1.0f);
  std::vector<unsigned char> panel(panel_bytes(PackedFormat::kBf16, 128), 0xff);
  ASSERT_EQ(panel.size(), 4096u + 64);
  pack_panel(PackedFormat::kBf16, 128, ones.data(), 16, panel.data());
  EXPECT_EQ(std::count(panel.begin(), panel.begin() + 4096, 0x80), 2048) << "bf16's one is 0x3f80";
  EXPECT_EQ(std::count(panel.begin() + 4096, panel.end(), 0), 64);
}

}  // namespace
}  // namespace tidemill
