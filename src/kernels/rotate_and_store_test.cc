// rotate_and_store: a token's key and value on their way into a block.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "kernels/attention_cases.h"

namespace tidemill {
namespace {

using test::Cache;
using test::Case;
using test::cases;
using test::kNan;
using test::on_lanes;
using test::OwnedTensor;
using test::Random;
using test::rounded;
using test::shape_of;

// Forty tokens of one sequence with real angles and a norm on the keys.
class RotateAndStore : public testing::TestWithParam<Case> {
 protected:
  static constexpr int32_t kRows = 40;

  void randomize(int64_t dim) {
    const auto width = static_cast<double>(dim);
    Random random(9);
    test::randomize(qkv_ = OwnedTensor(DType::kF32, kRows, 7 * dim), random);
    for (int64_t i = 0; i < kRows * dim / 2; ++i) {
      const double exponent = -2.0 * static_cast<double>(i % (dim / 2)) / width;
      const double angle = static_cast<double>(i / (dim / 2)) * std::pow(1e4, exponent);
      cos_.push_back(static_cast<float>(std::cos(angle)));
      sin_.push_back(static_cast<float>(std::sin(angle)));
    }
    for (int64_t d = 0; d < dim; ++d) k_norm_.push_back(1.0f + 0.5f * test::uniform(random));
  }

  void call(const AttentionShape& shape, const OwnedTensor& q, const KvLayer& layer) {
    std::vector<int32_t> positions(kRows);
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<int32_t> table_begins(kRows, 0);
    const std::vector<int32_t> block_ids = {9, 0};
    const TokenRows rows{.count = kRows,
                         .positions = positions.data(),
                         .table_begins = table_begins.data(),
                         .block_ids = block_ids.data()};
    const Rotary rotary{
        .cos = cos_.data(), .sin = sin_.data(), .k_norm = k_norm_.data(), .norm_epsilon = 1e-6f};
    on_lanes(3, [&](Lane& lane) {
      GetParam().kernels->rotate_and_store(lane, qkv_.view(), shape, rotary, rows, q.view(), layer);
    });
  }

  // Element d of a head of the row, rotated; `scale` is what a norm multiplies element i by.
  double rotated(int64_t row, int64_t head, int64_t dim, int64_t d,
                 const std::function<double(int64_t)>& scale) const {
    const auto x = [&](int64_t i) { return qkv_.at(row, head * dim + i) * scale(i); };
    const auto angle = static_cast<size_t>(row * (dim / 2) + d % (dim / 2));
    const double other = d < dim / 2 ? -x(d + dim / 2) : x(d - dim / 2);
    return x(d) * cos_[angle] + other * sin_[angle];
  }

  double normed_key(int64_t row, int64_t head, int64_t dim, int64_t d) const {
    double squares = 0.0;
    for (int64_t i = 0; i < dim; ++i) squares += std::pow(qkv_.at(row, head * dim + i), 2.0);
    const double root = std::sqrt(squares / static_cast<double>(dim) + 1e-6);
    return rotated(row, head, dim, d,
                   [&](int64_t i) { return k_norm_[static_cast<size_t>(i)] / root; });
  }

  OwnedTensor qkv_{DType::kF32, 1, 1};
  std::vector<float> cos_, sin_, k_norm_;
};

// Where kv_layout.h puts element d of token t, in elements of a run.
int64_t k_index(DType type, int64_t dim, int64_t t, int64_t d) {
  if (type == DType::kF32) return (t / 16 * dim + d) * 16 + t % 16;
  return ((t / 16 * (dim / 2) + d / 2) * 16 + t % 16) * 2 + d % 2;
}

int64_t v_index(DType type, int64_t t, int64_t d) {
  if (type == DType::kF32) return (d / 16 * 32 + t) * 16 + d % 16;
  return ((d / 16 * 16 + t / 2) * 16 + d % 16) * 2 + t % 2;
}

// Keys and values of one of two heads (`head_bytes`), which stand beside those of seven more
// blocks.
const unsigned char* head_at(const KvLayer& layer, int64_t position, int64_t head,
                             int64_t head_bytes) {
  const bool is_first = position < kTokensPerBlock;  // the table above: 9, 0
  return layer.data + (is_first ? 2 * 8 + head * 8 + 1 : head * 8) * head_bytes;
}

float stored(DType type, const unsigned char* run, int64_t index) {
  if (type == DType::kF32) return reinterpret_cast<const float*>(run)[index];
  return to_float(Bf16{reinterpret_cast<const uint16_t*>(run)[index]});
}

TEST_P(RotateAndStore, NormalisesRotatesHalvesAndStoresByTheLayout) {
  const DType type = GetParam().type;
  const double unit = type == DType::kF32 ? 8 * 0x1p-24 : 0x1p-8;  // relative rounding
  for (const int64_t dim : {16, 24, 64}) {
    const AttentionShape shape = shape_of(dim, 3, 2);
    randomize(dim);
    const Cache cache(type, shape, 10, kNan);
    OwnedTensor q(type, kRows, 3 * dim);
    q.fill(kNan);
    call(shape, q, cache.layer());
    const auto k_bytes = static_cast<int64_t>(k_run_bytes(type, dim));
    const int64_t head_bytes = k_bytes + static_cast<int64_t>(v_run_bytes(type, dim));
    for (int64_t row = 0; row < kRows; ++row) {
      const int64_t t = row % kTokensPerBlock;
      for (int64_t d = 0; d < dim; ++d) {
        for (int64_t head = 0; head < 3; ++head) {
          const double expected = rotated(row, head, dim, d, [](int64_t) { return 1.0; });
          ASSERT_NEAR(q.at(row, head * dim + d), expected, unit * 2.0);
        }
        for (int64_t head = 0; head < 2; ++head) {
          const unsigned char* keys = head_at(cache.layer(), row, head, head_bytes);
          ASSERT_NEAR(stored(type, keys, k_index(type, dim, t, d)),
                      normed_key(row, 3 + head, dim, d), unit * 4.0);
          ASSERT_EQ(stored(type, keys + k_bytes, v_index(type, t, d)),
                    rounded(type, qkv_.at(row, (5 + head) * dim + d)));
        }
      }
    }
    cos_.clear(), sin_.clear(), k_norm_.clear();
  }
}

class StoreIntegers : public RotateAndStore {};

// Half a scale is what a number may be wrong by.
TEST_P(StoreIntegers, RoundsTokensToIntegersByTheirLargestNumber) {
  for (const int64_t dim : {16, 26, 64, 256}) {
    const AttentionShape shape = shape_of(dim, 3, 2);
    randomize(dim);
    for (int64_t d = 0; d < dim; ++d) qkv_.set(7, 5 * dim + d, 0.0f);  // a value of zeros
    const Cache cache(DType::kInt8, shape, 10, kNan);
    OwnedTensor q(DType::kF32, kRows, 3 * dim);
    call(shape, q, cache.layer());
    const auto k_bytes = static_cast<int64_t>(k_run_bytes(DType::kInt8, dim));
    const int64_t head_bytes = k_bytes + static_cast<int64_t>(v_run_bytes(DType::kInt8, dim));
    const auto scale_at = [&](const unsigned char* scales, int64_t t) {
      return static_cast<double>(to_float(Bf16{reinterpret_cast<const uint16_t*>(scales)[t]}));
    };
    for (int64_t row = 0; row < kRows; ++row) {
      const int64_t t = row % kTokensPerBlock;
      for (int64_t head = 0; head < 2; ++head) {
        const unsigned char* keys = head_at(cache.layer(), row, head, head_bytes);
        const unsigned char* values = keys + k_bytes;
        const double k_scale = scale_at(keys + k_scales_offset(dim), t);
        const double v_scale = scale_at(values + v_scales_offset(dim), t);
        int largest = 0;
        for (int64_t d = 0; d < dim; ++d) {
          const auto key = static_cast<int8_t>(
              keys[((t / 16 * ((dim + 3) / 4) + d / 4) * 16 + t % 16) * 4 + d % 4]);
          const auto value =
              static_cast<int8_t>(values[((d / 16 * 8 + t / 4) * 16 + d % 16) * 4 + t % 4]);
          largest = std::max(largest, std::abs(static_cast<int>(value)));
          ASSERT_NEAR(key * k_scale, normed_key(row, 3 + head, dim, d), 0.5001 * k_scale) << dim;
          ASSERT_NEAR(value * v_scale, qkv_.at(row, (5 + head) * dim + d), 0.5001 * v_scale) << dim;
        }
        const bool zeros = row == 7 && head == 0;
        ASSERT_TRUE(zeros ? largest == 0 && v_scale == 0.0 : largest == 126 || largest == 127)
            << largest << " of row " << row;
      }
    }
    // Behind the last token, in the block that the step began: nothing.
    const unsigned char* keys = head_at(cache.layer(), kRows, 0, head_bytes);
    for (int64_t t = kRows % kTokensPerBlock; t < kTokensPerBlock; ++t) {
      ASSERT_EQ(scale_at(keys + k_scales_offset(dim), t), 0.0);
      ASSERT_EQ(scale_at(keys + k_bytes + v_scales_offset(dim), t), 0.0);
    }
    cos_.clear(), sin_.clear(), k_norm_.clear();
  }
}

TEST_P(StoreIntegers, WhatIsNotFiniteStaysInSight) {
  const AttentionShape shape = shape_of(16, 3, 2);
  for (const float value : {kNan, std::numeric_limits<float>::infinity()}) {
    randomize(16);
    qkv_.set(7, 5 * 16 + 3, value);
    const Cache cache(DType::kInt8, shape, 10, 0.0f);
    OwnedTensor q(DType::kF32, kRows, 3 * 16);
    call(shape, q, cache.layer());
    const auto k_bytes = static_cast<int64_t>(k_run_bytes(DType::kInt8, 16));
    const int64_t head_bytes = k_bytes + static_cast<int64_t>(v_run_bytes(DType::kInt8, 16));
    const unsigned char* values = head_at(cache.layer(), 7, 0, head_bytes) + k_bytes;
    const auto* scales = reinterpret_cast<const uint16_t*>(values + v_scales_offset(16));
    EXPECT_TRUE(std::isnan(to_float(Bf16{scales[7]})));
    EXPECT_FALSE(std::isnan(to_float(Bf16{scales[8]})));
    cos_.clear(), sin_.clear(), k_norm_.clear();
  }
}

std::vector<Case> cases_of(bool integers) {
  std::vector<Case> all = cases();
  std::erase_if(all, [&](const Case& c) { return (c.type == DType::kInt8) != integers; });
  return all;
}

INSTANTIATE_TEST_SUITE_P(Variants, RotateAndStore, testing::ValuesIn(cases_of(false)),
                         [](const auto& test) { return name_of(test.param); });
INSTANTIATE_TEST_SUITE_P(Variants, StoreIntegers, testing::ValuesIn(cases_of(true)),
                         [](const auto& test) { return name_of(test.param); });

}  // namespace
}  // namespace tidemill
