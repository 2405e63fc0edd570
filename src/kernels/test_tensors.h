// Tensors, weights and lanes for the tests and benchmarks of the menu.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "kernels/element_bytes.h"
#include "kernels/kernels.h"
#include "kernels/quantized_rows.h"
#include "kernels/select.h"
#include "parallel/worker_pool.h"

namespace tidemill::test {

// A tensor that owns its memory: rows on 64-byte boundaries, as tensor.h asks.
class OwnedTensor {
 public:
  OwnedTensor(DType type, int64_t rows, int64_t cols) {
    const int64_t bytes = element_bytes(type);
    const int64_t stride = (cols * bytes + 63) / 64 * 64 / bytes;
    buffer_ = select_kernels("reference").allocate(static_cast<size_t>(rows * stride * bytes + 64));
    view_ = {.data = buffer_.data(), .rows = rows, .cols = cols, .stride = stride, .type = type};
  }

  const Tensor& view() const { return view_; }

  float at(int64_t row, int64_t col) const {
    const int64_t index = row * view_.stride + col;
    if (view_.type == DType::kF32) return static_cast<const float*>(view_.data)[index];
    return to_float(Bf16{static_cast<const uint16_t*>(view_.data)[index]});
  }

  void set(int64_t row, int64_t col, float value) {
    const int64_t index = row * view_.stride + col;
    if (view_.type == DType::kF32) {
      static_cast<float*>(view_.data)[index] = value;
    } else {
      static_cast<uint16_t*>(view_.data)[index] = to_bf16(value).bits;
    }
  }

  // Every element, what lies between cols and stride included.
  void fill(float value) {
    for (int64_t row = 0; row < view_.rows; ++row) {
      for (int64_t col = 0; col < view_.stride; ++col) set(row, col, value);
    }
  }

  // The bytes of one row's elements.
  std::vector<unsigned char> bits(int64_t row) const {
    const int64_t size = element_bytes(view_.type);
    const auto* begin = static_cast<const unsigned char*>(view_.data) + row * view_.stride * size;
    return {begin, begin + view_.cols * size};
  }

  std::vector<float> floats(int64_t row) const {
    std::vector<float> values;
    for (int64_t col = 0; col < view_.cols; ++col) values.push_back(at(row, col));
    return values;
  }

 private:
  Buffer buffer_;
  Tensor view_;
};

// Rows of integers for a product, quantised from floats as `kernels` do it.
class OwnedQuantized {
 public:
  OwnedQuantized(const Kernels& kernels, const OwnedTensor& values, const QuantizedForm& form) {
    const Tensor& in = values.view();
    const int64_t stride = quantized_run_bytes(form, in.cols);
    buffer_ = kernels.allocate(static_cast<size_t>(in.rows * form.parts * stride));
    std::memset(buffer_.data(), 0xa5, buffer_.bytes());
    view_ = {.data = buffer_.data(),
             .rows = in.rows,
             .cols = in.cols,
             .stride = stride,
             .type = DType::kInt8,
             .form = form};
    WorkerPool({.num_threads = 1, .pin = false}).run([&](Lane& lane) {
      kernels.quantize(lane, in, view_);
    });
  }

  const Tensor& view() const { return view_; }
  std::vector<unsigned char> bytes() const {
    const auto* begin = static_cast<const unsigned char*>(buffer_.data());
    return {begin, begin + buffer_.bytes()};
  }

  // The integer of input `col` in a run, and its group's scale and sum: by the words of
  // quantized_rows.h.
  int integer(int64_t row, int64_t part, int64_t col) const {
    constexpr int kNibblePlaces[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    const int64_t place = view_.form.nibble_order ? col / 8 * 8 + kNibblePlaces[col % 8] : col;
    return static_cast<signed char>(run(row, part)[place]);
  }
  GroupScale scale(int64_t row, int64_t part, int64_t group) const {
    GroupScale scale;
    std::memcpy(&scale, run(row, part) + (view_.cols + 63) / 64 * 64 + group * 8, sizeof scale);
    return scale;
  }
  double at(int64_t row, int64_t col) const {
    double value = 0.0;
    for (int64_t part = 0; part < view_.form.parts; ++part) {
      const int64_t group = view_.form.group == 0 ? 0 : col / view_.form.group;
      value += static_cast<double>(scale(row, part, group).scale) * integer(row, part, col);
    }
    return value;
  }

 private:
  const unsigned char* run(int64_t row, int64_t part) const {
    return static_cast<const unsigned char*>(view_.data) +
           (row * view_.form.parts + part) * view_.stride;
  }
  Buffer buffer_;
  Tensor view_;
};

using Random = std::mt19937_64;

inline float uniform(Random& random) {
  return static_cast<float>(static_cast<double>(random() >> 40) * 0x1p-23 - 1.0);
}

inline void randomize(OwnedTensor& tensor, Random& random) {
  for (int64_t row = 0; row < tensor.view().rows; ++row) {
    for (int64_t col = 0; col < tensor.view().cols; ++col) tensor.set(row, col, uniform(random));
  }
}

// A packed weight that owns its memory.
class OwnedWeight {
 public:
  OwnedWeight(PackedFormat format, int64_t n, int64_t k)
      : buffer_(select_kernels("reference").allocate(packed_bytes(format, n, k))),
        view_{.format = format, .n = n, .k = k} {
    view_.data = static_cast<const unsigned char*>(buffer_.data());
  }

  // value(n, k) for every channel and input.
  void pack(const std::function<float(int64_t, int64_t)>& value) {
    std::vector<float> rows(static_cast<size_t>(kPanelChannels * view_.k));
    for (int64_t panel = 0; panel < num_panels(view_.n); ++panel) {
      const int64_t first = panel * kPanelChannels;
      const int64_t count = std::min(kPanelChannels, view_.n - first);
      for (int64_t i = 0; i < count * view_.k; ++i) {
        rows[static_cast<size_t>(i)] = value(first + i / view_.k, i % view_.k);
      }
      const size_t bytes = panel_bytes(view_.format, view_.k);
      pack_panel(view_.format, view_.k, rows.data(), count,
                 static_cast<unsigned char*>(buffer_.data()) + static_cast<size_t>(panel) * bytes);
    }
  }

  const PackedWeight& view() const { return view_; }

 private:
  Buffer buffer_;
  PackedWeight view_;
};

// Channel n, input k, found by the layout as packed_weight.h words it.
inline float unpack_at(const PackedWeight& weight, int64_t n, int64_t k) {
  const unsigned char* panel =
      weight.data + static_cast<size_t>(n / 16) * panel_bytes(weight.format, weight.k);
  if (weight.format == PackedFormat::kF32) {
    float value;
    std::memcpy(&value, panel + k * 64 + n % 16 * 4, sizeof value);
    return value;
  }
  Bf16 value;
  std::memcpy(&value.bits, panel + k / 2 * 64 + n % 16 * 4 + k % 2 * 2, sizeof value.bits);
  return to_float(value);
}

// A packed weight of random integers that owns its memory.
class OwnedIntegers {
 public:
  OwnedIntegers(const PackedFormat& format, int64_t n, int64_t k, Random& random)
      : buffer_(select_kernels("reference").allocate(packed_bytes(format, n, k))),
        view_{.format = format, .n = n, .k = k} {
    view_.data = static_cast<const unsigned char*>(buffer_.data());
    const uint64_t range = format.numbers == Numbers::kInt4 ? 16 : 256;
    const int64_t groups = num_groups(format, k);
    for (int64_t panel = 0; panel < num_panels(n); ++panel) {
      const int64_t rows = std::min(kPanelChannels, n - panel * kPanelChannels);
      std::vector<uint8_t> q(static_cast<size_t>(rows * k));
      for (uint8_t& value : q) value = static_cast<uint8_t>(random() % range);
      std::vector<float> scales(static_cast<size_t>(rows * groups));
      std::vector<float> offsets(scales.size());
      for (float& scale : scales) scale = half(0.01f + 0.02f * static_cast<float>(random() % 64));
      for (float& offset : offsets) {
        offset = format.offsets == Offsets::kZero
                     ? static_cast<float>(random() % range)
                     : half(static_cast<float>(static_cast<int>(random() % 200) - 100) * 0.01f);
      }
      const IntegerRows integers{
          .num_rows = rows, .q = q.data(), .scales = scales.data(), .offsets = offsets.data()};
      pack_panel(format, k, integers,
                 static_cast<unsigned char*>(buffer_.data()) +
                     static_cast<size_t>(panel) * panel_bytes(format, k));
    }
  }
  const PackedWeight& view() const { return view_; }

 private:
  static float half(float value) { return to_float(to_f16(value)); }
  Buffer buffer_;
  PackedWeight view_;
};

// "int4_g32_zero", for names of tests.
inline std::string label(const PackedFormat& format) {
  constexpr const char* kNumbers[] = {"f32", "bf16", "int8", "int4"};
  constexpr const char* kOffsets[] = {"", "_zero", "_offset"};
  std::string name = kNumbers[static_cast<size_t>(format.numbers)];
  if (format.group > 0) name += "_g" + std::to_string(format.group);
  return name + kOffsets[static_cast<size_t>(format.offsets)];
}

inline bool describes(const Kernels& kernels, const std::string& words) {
  return std::string(kernels.description).find(words) != std::string::npos;
}

// What tells an implementation from the others, for names of tests.
inline std::string label(const Kernels& kernels) {
  const std::string name = kernels.name;
  const bool vnni = describes(kernels, "VNNI");
  for (const Kernels* chosen : runnable_variants()) {
    if (chosen->name == name && chosen != &kernels) {
      return name + (vnni ? "_without_bf16" : "_without_vnni");
    }
  }
  return name;
}

// Where the order of a sum is lost in its final rounding: the yardstick, and what stands on it
// where nothing faster runs.
inline bool sums_in_double(const Kernels& kernels) {
  const std::string name = kernels.name;
  return name == "reference" || (name == "amx_emulated" && runnable_variants().size() == 1);
}

// One section of `count` lanes, denormals flushed as in a step.
inline void on_lanes(int count, const std::function<void(Lane&)>& section) {
  WorkerPool({.num_threads = count, .pin = false}).run(section);
}

}  // namespace tidemill::test
