#include "open_model.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <system_error>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "compiler/check_engine.h"
#include "compiler/compile.h"
#include "compiler/engine_cache.h"
#include "compiler/source_digest.h"
#include "compiler/staged_dir.h"
#include "model/engine_dir.h"
#include "parallel/available_memory.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

// "organisation/name", as model hubs write it.
bool looks_like_hub_id(std::string_view model) {
  return std::ranges::count(model, '/') == 1 && model.front() != '/' && model.front() != '.' &&
         model.back() != '/';
}

bool is_none(std::string_view quantize) { return quantize.empty() || quantize == "none"; }

void refuse_other_dtype(const fs::path& engine, const OpenOptions& options) {
  const bool any_dtype = options.dtype.empty() || options.dtype == "auto";
  if (any_dtype && is_none(options.quantize)) return;
  const PackedFormat format = read_manifest(engine).format;
  if (format == packed_format_of(options.dtype, options.quantize)) return;
  throw std::runtime_error(fmt::format(
      "{}: this engine was compiled as {}, but {}{}{}{}. Leave {} out, or name the checkpoint, so "
      "that it is compiled again.",
      engine.string(), name_of(format), any_dtype ? "" : "dtype is " + options.dtype,
      !any_dtype && !is_none(options.quantize) ? " and " : "",
      is_none(options.quantize) ? "" : "quantize is ", options.quantize,
      any_dtype                   ? "quantize"
      : is_none(options.quantize) ? "dtype"
                                  : "both"));
}

// The original's names for rounding while it loads: dynamic_int8 is int8 with activations rounded
// as they come; those of bitsandbytes, of 8 bits and of 4 in blocks of 64, are what is nearest
// here.
constexpr struct {
  std::string_view name;
  PackedFormat format;
} kQuantizations[] = {
    {"int8", {Numbers::kInt8, Offsets::kNone, 128}},
    {"int8_g32", {Numbers::kInt8, Offsets::kNone, 32}},
    {"int8_g64", {Numbers::kInt8, Offsets::kNone, 64}},
    {"int8_g128", {Numbers::kInt8, Offsets::kNone, 128}},
    {"w8a8", PackedFormat::kInt8PerChannel},
    {"dynamic_int8", PackedFormat::kInt8PerChannel},
    {"bitsandbytes", {Numbers::kInt8, Offsets::kNone, 128}},
    {"bitsandbytes8", {Numbers::kInt8, Offsets::kNone, 128}},
    {"bitsandbytes4", {Numbers::kInt4, Offsets::kZero, 64}},
    {"int4", {Numbers::kInt4, Offsets::kZero, 64}},
    {"int4_g32", {Numbers::kInt4, Offsets::kZero, 32}},
    {"int4_g64", {Numbers::kInt4, Offsets::kZero, 64}},
    {"int4_g128", {Numbers::kInt4, Offsets::kZero, 128}},
};

PackedFormat quantized_format_of(std::string_view dtype, std::string_view quantize) {
  std::string known = "none";
  for (const auto& row : kQuantizations) {
    known += fmt::format(", {}", row.name);
    if (row.name != quantize) continue;
    if (packed_format_of(dtype, "") == PackedFormat::kF32) {
      throw std::runtime_error(
          fmt::format("dtype is {} and quantize is {}: f32 keeps every bit. Leave one of them out.",
                      dtype, quantize));
    }
    return row.format;
  }
  throw std::runtime_error(fmt::format("quantize is {}; it must be one of: {}.", quantize, known));
}

// Files there are pages of memory.
constexpr const char* kMemoryDisk = "/dev/shm";

fs::path memory_dir() { return fmt::format("{}/tidemill-{}", kMemoryDisk, ::geteuid()); }

// What processes left there that were killed, and the folder itself when nobody uses it.
void tidy_memory_dir() {
  std::error_code ignored;
  if (!fs::exists(memory_dir(), ignored)) return;
  try {
    const EngineCache ours(memory_dir());
  } catch (const std::runtime_error&) {
    return;  // somebody else's
  }
  fs::remove(memory_dir() / "engines", ignored);
  fs::remove(memory_dir(), ignored);
}

// A folder in memory, locked while this object lives and never published: whatever ends this
// process, the next one removes what is left.
class MemoryFolder {
 public:
  explicit MemoryFolder(const std::string& source_digest)
      : stage_(std::make_unique<StagedDir>(
            EngineCache(memory_dir())
                .engine_dir(fmt::format("{}-{}", source_digest, ::getpid())))) {}
  MemoryFolder(const MemoryFolder&) = delete;
  MemoryFolder& operator=(const MemoryFolder&) = delete;
  ~MemoryFolder() {
    stage_.reset();
    tidy_memory_dir();
  }
  fs::path engine() const { return stage_->path() / "engine"; }

 private:
  std::unique_ptr<StagedDir> stage_;
};

OpenedEngine compile_in_memory(const Checkpoint& checkpoint, CompileOptions options,
                               const NoRoom& reason, WorkerPool& pool, const Progress& progress) {
  const int64_t available = available_memory();
  if (!fs::is_directory(kMemoryDisk) || available <= reason.needed_bytes()) {
    throw std::runtime_error(
        fmt::format("{} Nor is there memory to do without: {:.1f} MB are available.", reason.what(),
                    static_cast<double>(available) / 1e6));
  }
  log_warning(
      "{} It is compiled into memory for this run only, and takes its memory as long as it runs; "
      "the next start compiles again.",
      reason.what());
  auto folder = std::make_shared<const MemoryFolder>(options.source_digest);
  options.memory = {};
  compile_model(checkpoint, options, folder->engine(), pool, progress);
  return {.dir = folder->engine(), .in_memory = folder};
}

}  // namespace

std::optional<PackedFormat> packed_format_of(std::string_view dtype, std::string_view quantize) {
  if (!is_none(quantize)) return quantized_format_of(dtype, quantize);
  if (dtype == "fp32" || dtype == "f32" || dtype == "float32") return PackedFormat::kF32;
  if (dtype == "fp16" || dtype == "float16") {
    log_info(
        "dtype fp16: weights and keys and values are kept in bf16, the 16-bit float that is "
        "computed with here");
    return PackedFormat::kBf16;
  }
  if (dtype.empty() || dtype == "auto") return std::nullopt;
  if (dtype == "bf16" || dtype == "bfloat16") return PackedFormat::kBf16;
  throw std::runtime_error(fmt::format("dtype is {}; it must be auto, bf16, fp16 or fp32.", dtype));
}

fs::path local_model(const std::string& model) {
  std::error_code ignored;
  if (!model.empty() && fs::exists(model, ignored)) return model;
  if (!model.empty() && looks_like_hub_id(model)) {
    throw std::runtime_error(fmt::format(
        "{}: is no folder or file here. Hub ids come later: name a local folder or GGUF "
        "file.",
        model));
  }
  throw std::runtime_error(fmt::format(
      "{}: no such file or folder. Name an engine directory, a checkpoint folder or a GGUF file.",
      model.empty() ? "the model's name is empty" : model));
}

OpenedEngine open_engine(const std::string& model, const OpenOptions& options, WorkerPool& pool,
                         const Progress& progress) {
  const std::optional<PackedFormat> packed_format =
      packed_format_of(options.dtype, options.quantize);
  const fs::path path = local_model(model);
  tidy_memory_dir();
  const fs::path cache_dir = options.cache_dir.empty() ? default_cache_dir() : options.cache_dir;
  if (is_engine_dir(path)) {
    refuse_other_dtype(path, options);
    progress("check", 0);
    check_engine(path, digest_memory_of(cache_dir));
    return {.dir = path, .in_memory = nullptr};
  }
  progress("read checkpoint", 0);
  const Checkpoint checkpoint = Checkpoint::open(path);
  const EngineCache cache(cache_dir);
  const DigestMemory memory = cache.digest_memory();
  const std::string digest = source_digest(checkpoint, packed_format, memory, pool, progress);
  const fs::path engine = cache.engine_dir(digest);
  progress("check", 0);
  if (!find_engine(engine, digest, memory).whole) {
    const CompileOptions compile_options{
        .format = packed_format, .source_digest = digest, .source_name = model, .memory = memory};
    try {
      compile_model(checkpoint, compile_options, engine, pool, progress);
    } catch (const NoRoom& reason) {
      return compile_in_memory(checkpoint, compile_options, reason, pool, progress);
    }
  }
  return {.dir = engine, .in_memory = nullptr};
}

}  // namespace tidemill
