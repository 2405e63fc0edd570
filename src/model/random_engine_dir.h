// For tests: an engine directory of random numbers. It disappears with this.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "model/load.h"

namespace tidemill {

class RandomEngineDir {
 public:
  // The same numbers in every run; another seed, another model. `gain` is how far one row of a
  // matrix carries what it is given: the numbers are uniform up to gain / sqrt(k), those of vectors
  // up to 1.
  RandomEngineDir(const Architecture& architecture, PackedFormat format, uint64_t seed, float gain)
      : dir_(new_dir()), gain_(gain), random_(seed) {
    Manifest manifest;
    manifest.format = format;
    manifest.architecture = architecture;
    manifest.tensors = engine_tensors(architecture, format);
    std::string file(static_cast<size_t>(weights_file_bytes(manifest.tensors)), '\0');
    for (const EngineTensor& tensor : manifest.tensors) fill(tensor, file.data() + tensor.offset);
    std::ofstream(dir_ / kWeightsFileName, std::ios::binary) << file;
    write_manifest(dir_, manifest);
  }
  RandomEngineDir(const RandomEngineDir&) = delete;
  RandomEngineDir& operator=(const RandomEngineDir&) = delete;
  ~RandomEngineDir() { std::filesystem::remove_all(dir_); }
  const std::filesystem::path& dir() const { return dir_; }

 private:
  static std::filesystem::path new_dir() {
    static std::atomic<int> count{0};
    const auto dir =
        std::filesystem::temp_directory_path() /
        ("tidemill-engine-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
    std::filesystem::create_directories(dir);
    return dir;
  }
  void fill(const EngineTensor& tensor, char* out) {
    const bool vector = tensor.k == 0;
    const float scale = vector ? 1.0f : gain_ / std::sqrt(static_cast<float>(tensor.k));
    std::uniform_real_distribution<float> values(-scale, scale);
    std::vector<float> numbers(static_cast<size_t>(tensor.n * std::max<int64_t>(tensor.k, 1)));
    for (float& number : numbers) number = values(random_);
    if (vector) {
      std::memcpy(out, numbers.data(), numbers.size() * sizeof(float));
      return;
    }
    const size_t bytes = panel_bytes(tensor.format, tensor.k);
    for (int64_t panel = 0; panel < num_panels(tensor.n); ++panel) {
      const int64_t first = panel * kPanelChannels;
      const int64_t count = std::min(kPanelChannels, tensor.n - first);
      auto* target = reinterpret_cast<unsigned char*>(out) + static_cast<size_t>(panel) * bytes;
      if (is_integer(tensor.format)) {
        pack_integers(tensor, count, scale, target);
      } else {
        pack_panel(tensor.format, tensor.k, numbers.data() + first * tensor.k, count, target);
      }
    }
  }
  // Random integers whose numbers are uniform up to `largest`.
  void pack_integers(const EngineTensor& tensor, int64_t count, float largest, unsigned char* out) {
    const bool is_int8 = tensor.format.numbers == Numbers::kInt8;
    const float middle = is_int8 ? 128.0f : 8.0f;
    const float scale = to_float(to_f16(largest / middle));
    std::vector<uint8_t> q(static_cast<size_t>(count * tensor.k));
    for (uint8_t& value : q) value = static_cast<uint8_t>(random_() % (is_int8 ? 256 : 16));
    const auto groups = static_cast<size_t>(count * num_groups(tensor.format, tensor.k));
    const std::vector<float> scales(groups, scale);
    const bool zeros = tensor.format.offsets == Offsets::kZero;
    const std::vector<float> offsets(groups, zeros ? middle : -scale * middle);
    pack_panel(
        tensor.format, tensor.k,
        IntegerRows{
            .num_rows = count, .q = q.data(), .scales = scales.data(), .offsets = offsets.data()},
        out);
  }
  const std::filesystem::path dir_;
  const float gain_;
  std::mt19937_64 random_;
};

}  // namespace tidemill
