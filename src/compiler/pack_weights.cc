#include "compiler/pack_weights.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <exception>
#include <system_error>

#include "base/check.h"
#include "base/digest.h"
#include "compiler/integer_rows.h"

namespace tidemill {
namespace {

// Bytes packed before they are hashed and written: large enough to feed every worker, small enough
// to still lie in the last-level cache when it is hashed.
constexpr int64_t kChunkBytes = int64_t{8} << 20;

// The weights file while it is written, front to back, hashed on the way.
class WeightsFile {
 public:
  explicit WeightsFile(const std::filesystem::path& path)
      : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
    if (fd_ < 0) fail("cannot be created");
  }
  WeightsFile(const WeightsFile&) = delete;
  WeightsFile& operator=(const WeightsFile&) = delete;
  ~WeightsFile() { ::close(fd_); }

  void append(std::span<const std::byte> bytes) {
    digest_.add(bytes);
    offset_ += static_cast<int64_t>(bytes.size());
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail("cannot be written");
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
  }
  void pad_to(int64_t offset) {
    const std::vector<std::byte> zeros(static_cast<size_t>(offset - offset_));
    append(zeros);
  }
  int64_t offset() const { return offset_; }
  std::string digest() { return digest_.hex(); }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw std::runtime_error(
        format("{}: {}: {}", path_.string(), what, std::generic_category().message(errno)));
  }
  const std::filesystem::path path_;
  const int fd_;
  Sha256 digest_;
  int64_t offset_ = 0;
};

// Bit patterns of |x|, as integers ordered like the numbers.
constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr uint32_t kFirstAboveBf16 = 0x7f7f8000u;  // rounds to infinity

void count_losses(std::span<const float> values, const PackedFormat& format, NumberLoss& loss) {
  const uint32_t limit = format == PackedFormat::kBf16 ? kFirstAboveBf16 : kInfinityBits;
  int64_t beyond = 0;
  int64_t not_finite = 0;
  for (const float value : values) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
    beyond += magnitude >= limit;
    not_finite += magnitude >= kInfinityBits;
  }
  loss.not_finite += not_finite;
  loss.overflowed += beyond - not_finite;
}

// Reads the rows that make up `count` channels from `first` on, each `k` floats apart in `out`,
// which is zero where nothing is stored. Rows that follow one another are read in one call.
void read_channels(const MappedTensor& tensor, int64_t first, int64_t count, float* out) {
  const int64_t k = tensor.target.k;
  for (int64_t i = 0; i < count;) {
    const ChannelSource source = source_of(tensor, first + i);
    int64_t run = 1;
    if (source.part != nullptr) {
      while (source.part->columns == k && i + run < count) {
        const ChannelSource next = source_of(tensor, first + i + run);
        if (next.part != source.part || next.row != source.row + run) break;
        ++run;
      }
      read_rows(*source.part->stored, source.row, run, out + i * k);
    }
    i += run;
  }
}

class Packer {
 public:
  Packer(WorkerPool& pool, WeightsFile& file, const Progress& progress, int64_t total)
      : pool_(pool), file_(file), progress_(progress), total_(total) {}

  // Returns what was lost on the way.
  NumberLoss pack(const MappedTensor& tensor) {
    NumberLoss loss{.tensor = tensor.target.name};
    file_.pad_to(tensor.target.offset);
    if (tensor.target.k == 0) {
      append_vector(tensor, loss);
    } else {
      append_matrix(tensor, loss);
    }
    CHECK(file_.offset() == tensor.target.offset + tensor.target.bytes,
          "{} ends at {} instead of {}", tensor.target.name, file_.offset(),
          tensor.target.offset + tensor.target.bytes);
    return loss;
  }

 private:
  void append_vector(const MappedTensor& tensor, NumberLoss& loss) {
    std::vector<std::vector<float>> stored;
    for (const TensorPart& part : tensor.parts) {
      stored.emplace_back(static_cast<size_t>(part.rows));
      read_rows(*part.stored, 0, 1, stored.back().data());
    }
    std::vector<float> values(static_cast<size_t>(tensor.target.n));
    for (int64_t i = 0; i < tensor.target.n; ++i) {
      const ChannelSource source = source_of(tensor, i);
      if (source.part == nullptr) continue;
      const auto part = static_cast<size_t>(source.part - tensor.parts.data());
      values[static_cast<size_t>(i)] = stored[part][static_cast<size_t>(source.row)];
    }
    count_losses(values, PackedFormat::kF32, loss);
    file_.append(std::as_bytes(std::span(values)));
  }

  void append_matrix(const MappedTensor& tensor, NumberLoss& loss) {
    const int64_t one_panel =
        static_cast<int64_t>(panel_bytes(tensor.target.format, tensor.target.k));
    const int64_t panels = num_panels(tensor.target.n);
    const int64_t panels_per_chunk = std::max<int64_t>(1, kChunkBytes / one_panel);
    for (int64_t first = 0; first < panels; first += panels_per_chunk) {
      const int64_t count = std::min(panels_per_chunk, panels - first);
      chunk_.resize(static_cast<size_t>(count * one_panel));
      pack_panels(tensor, first, count, loss);
      file_.append(chunk_);
      progress_("pack", static_cast<int>(100 * file_.offset() / total_));
    }
  }

  void pack_panels(const MappedTensor& tensor, int64_t first, int64_t count, NumberLoss& loss) {
    const auto num_lanes = static_cast<size_t>(pool_.num_threads());
    std::vector<NumberLoss> losses(num_lanes);
    std::vector<std::exception_ptr> failures(num_lanes);
    pool_.run([&](Lane& lane) {
      const auto index = static_cast<size_t>(lane.index());
      try {
        const Range share = lane.share(count);
        for (int64_t i = share.begin; i < share.end; ++i) {
          pack_one_panel(tensor, first + i, i, losses[index]);
        }
      } catch (...) {
        failures[index] = std::current_exception();
      }
    });
    for (size_t i = 0; i < num_lanes; ++i) {
      if (failures[i] != nullptr) std::rethrow_exception(failures[i]);
      loss.not_finite += losses[i].not_finite;
      loss.overflowed += losses[i].overflowed;
    }
  }

  void pack_one_panel(const MappedTensor& tensor, int64_t panel, int64_t place, NumberLoss& loss) {
    const EngineTensor& target = tensor.target;
    const int64_t channel = panel * kPanelChannels;
    const int64_t channels = std::min(kPanelChannels, target.n - channel);
    const size_t bytes = panel_bytes(target.format, target.k);
    unsigned char* out =
        reinterpret_cast<unsigned char*>(chunk_.data()) + static_cast<size_t>(place) * bytes;
    if (is_integer(target.format)) {
      pack_panel(target.format, target.k, integer_rows(tensor, channel, channels).rows(), out);
      return;
    }
    std::vector<float> rows(static_cast<size_t>(channels * target.k));
    read_channels(tensor, channel, channels, rows.data());
    count_losses(rows, target.format, loss);
    pack_panel(target.format, target.k, rows.data(), channels, out);
  }

  WorkerPool& pool_;
  WeightsFile& file_;
  const Progress& progress_;
  const int64_t total_;
  std::vector<std::byte> chunk_;
};

}  // namespace

PackedFile pack_weights(const std::vector<MappedTensor>& tensors, const std::filesystem::path& path,
                        WorkerPool& pool, const Progress& progress) {
  std::vector<EngineTensor> targets;
  for (const MappedTensor& tensor : tensors) targets.push_back(tensor.target);
  const int64_t total = weights_file_bytes(targets);
  progress("pack", 0);

  WeightsFile file(path);
  Packer packer(pool, file, progress, total);
  PackedFile packed;
  for (const MappedTensor& tensor : tensors) {
    const NumberLoss loss = packer.pack(tensor);
    if (loss.not_finite + loss.overflowed > 0) packed.losses.push_back(loss);
  }
  file.pad_to(total);
  packed.digest = file.digest();
  return packed;
}

}  // namespace tidemill
