#include "machine_calibration.h"

#include <unistd.h>

#include <cmath>
#include <fstream>
#include <future>
#include <new>
#include <stdexcept>
#include <system_error>

#include "base/build_id.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/text_file.h"
#include "compiler/engine_cache.h"
#include "parallel/available_memory.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

// Of the file. Raised when what is measured changes.
constexpr int kFileVersion = 3;
// Measuring takes an arena; a machine with less than so many of them left does without numbers.
constexpr int64_t kLeastRoom = 4;

constexpr std::string_view kNumbersNames[] = {"f32", "bf16", "int8", "int4"};
constexpr std::string_view kOffsetsNames[] = {"none", "zero", "offset"};

JsonValue json_of(const CalibrationKey& key) {
  return JsonObject{{"processor", key.processor}, {"microcode", key.microcode},
                    {"threads", key.num_threads}, {"variant", key.variant},
                    {"version", key.version},     {"build", key.build}};
}

JsonValue json_of(const ProductTimes& times) {
  JsonObject by_rows;
  for (size_t r = 0; r < kCalibratedRows.size(); ++r) {
    by_rows.emplace_back(std::to_string(kCalibratedRows[r]), times.seconds_per_byte[r]);
  }
  const PackedFormat& f = times.format;
  return JsonObject{{"numbers", std::string(kNumbersNames[static_cast<size_t>(f.numbers)])},
                    {"group", int64_t{f.group}},
                    {"offsets", std::string(kOffsetsNames[static_cast<size_t>(f.offsets)])},
                    {"seconds_per_byte", std::move(by_rows)}};
}

// Of files that somebody may have edited: whatever is not as it was written makes them unreadable.
struct Unreadable {};

const JsonValue& member(const JsonValue& value, std::string_view name) {
  const JsonValue* found = value.find(name);
  if (found == nullptr) throw Unreadable{};
  return *found;
}

double rate_of(const JsonValue& value) {
  if (!value.is_number()) throw Unreadable{};
  const double rate = value.number();
  if (!std::isfinite(rate) || rate < 0.0) throw Unreadable{};
  return rate;
}

template <size_t kCount>
size_t index_in(const std::string_view (&names)[kCount], const JsonValue& value) {
  for (size_t i = 0; i < kCount; ++i) {
    if (value.is_string() && value.string() == names[i]) return i;
  }
  throw Unreadable{};
}

ProductTimes times_of(const JsonValue& value) {
  const JsonValue& group = member(value, "group");
  if (!group.is_integer() || !group.fits_int64()) throw Unreadable{};
  if (group.integer() < 0 || group.integer() > kMaxGroup) throw Unreadable{};
  ProductTimes times{
      .format = {static_cast<Numbers>(index_in(kNumbersNames, member(value, "numbers"))),
                 static_cast<Offsets>(index_in(kOffsetsNames, member(value, "offsets"))),
                 static_cast<int32_t>(group.integer())}};
  for (size_t r = 0; r < kCalibratedRows.size(); ++r) {
    times.seconds_per_byte[r] =
        rate_of(member(member(value, "seconds_per_byte"), std::to_string(kCalibratedRows[r])));
  }
  return times;
}

Calibration calibration_of(const JsonValue& value) {
  const JsonValue& version = member(value, "file_version");
  if (!version.is_integer() || version != JsonValue(kFileVersion)) throw Unreadable{};
  const JsonValue& numbers = member(value, "calibration");
  Calibration calibration{.read_by_one = rate_of(member(numbers, "read_by_one")),
                          .read_by_all = rate_of(member(numbers, "read_by_all"))};
  for (size_t n = 0; n < calibration.multiplies.size(); ++n) {
    calibration.multiplies[n] = rate_of(member(member(numbers, "multiplies"), kNumbersNames[n]));
  }
  const JsonValue& products = member(numbers, "products");
  const JsonValue& set_aside = member(numbers, "set_aside");
  if (!products.is_array() || !set_aside.is_array()) throw Unreadable{};
  for (const JsonValue& times : products.array()) calibration.products.push_back(times_of(times));
  for (const JsonValue& sentence : set_aside.array()) {
    if (!sentence.is_string()) throw Unreadable{};
    calibration.set_aside.push_back(sentence.string());
  }
  return calibration;
}

struct CalibrationFile {
  JsonValue key;
  Calibration calibration;
};

std::optional<CalibrationFile> read_file(const fs::path& path) {
  const Result<JsonValue> value = parse_json(read_text_file(path), kFileJsonLimits);
  if (!value) return std::nullopt;
  try {
    return CalibrationFile{member(*value, "key"), calibration_of(*value)};
  } catch (const Unreadable&) {
    return std::nullopt;
  }
}

// Where calibrations are kept.
struct Keeper {
  std::optional<CalibrationMemory> memory;  // none: nothing there may be believed
  std::string obstacle;                     // why nothing can be written there; empty: it can
};

Keeper keeper_in(const ModelSettings& settings) {
  const fs::path dir =
      settings.cache_dir.empty() ? default_cache_dir() : fs::path(settings.cache_dir);
  Keeper keeper{.memory = CalibrationMemory(calibration_dir_of(dir)), .obstacle = ""};
  try {
    const EngineCache cache(dir);
  } catch (const std::exception& error) {
    keeper.obstacle = error.what();
    if (!may_be_read(dir) || !may_be_read(calibration_dir_of(dir))) keeper.memory.reset();
  }
  return keeper;
}

// Unless others disturbed them; what keeps numbers from being kept is said.
void keep(Keeper keeper, const CalibrationKey& key, const Calibration& measured) {
  if (keeper.obstacle.empty()) {
    if (measured.disturbed || keeper.memory->remember(key, measured)) return;
    keeper.obstacle = format("{} cannot be written.", keeper.memory->path_of(key).string());
  }
  log_warning(
      "calibration: it cannot be kept, so each start measures the machine anew. Set cache_dir to a "
      "folder that can be written to, or calibration=FILE to a file that was kept in one. {}",
      keeper.obstacle);
}

MachineCalibration pinned(const std::string& path) {
  std::optional<CalibrationFile> file;
  std::string reason = "it is not a calibration of this version";
  try {
    file = read_file(path);
  } catch (const std::runtime_error& error) {
    reason = error.what();
  }
  if (file) return {file->calibration, path};
  throw std::runtime_error(
      format("calibration is {}: {}. It is auto, off or a file like those in "
             "CACHE_DIR/calibration, where auto keeps them.",
             path, reason));
}

std::string gigas(double rate) { return rate > 0.0 ? format("{:.3g}", rate * 1e-9) : "?"; }

}  // namespace

std::string cpuinfo_field(std::string_view text, std::string_view field) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || !line.starts_with(field)) continue;
    // "model" is not "model name".
    if (line.substr(field.size(), colon - field.size()).find_first_not_of(" \t") !=
        std::string_view::npos) {
      continue;
    }
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == std::string_view::npos ? "" : std::string(line.substr(value));
  }
  return "";
}

CalibrationKey calibration_key(const Kernels& kernels, const WorkerPool& workers) {
  std::ifstream in("/proc/cpuinfo");
  const std::string cpuinfo{std::istreambuf_iterator<char>(in), {}};
  return {.processor = cpuinfo_field(cpuinfo, "model name"),
          .microcode = cpuinfo_field(cpuinfo, "microcode"),
          .num_threads = workers.num_threads(),
          .variant = format("{}: {}", kernels.name, kernels.description),
          .version = TIDEMILL_VERSION,
          .build = build_id()};
}

JsonValue json_of(const Calibration& calibration) {
  JsonObject multiplies;
  for (size_t n = 0; n < calibration.multiplies.size(); ++n) {
    multiplies.emplace_back(std::string(kNumbersNames[n]), calibration.multiplies[n]);
  }
  JsonArray products;
  for (const ProductTimes& times : calibration.products) products.push_back(json_of(times));
  return JsonObject{
      {"read_by_one", calibration.read_by_one},
      {"read_by_all", calibration.read_by_all},
      {"multiplies", std::move(multiplies)},
      {"products", std::move(products)},
      {"set_aside", JsonArray(calibration.set_aside.begin(), calibration.set_aside.end())}};
}

fs::path CalibrationMemory::path_of(const CalibrationKey& key) const {
  return dir_ / (sha256_of(to_json(json_of(key))).substr(0, 16) + ".json");
}

std::optional<Calibration> CalibrationMemory::recall(const CalibrationKey& key) const {
  std::error_code error;
  if (!fs::is_regular_file(path_of(key), error)) return std::nullopt;
  try {
    std::optional<CalibrationFile> file = read_file(path_of(key));
    if (file && file->key == json_of(key)) return std::move(file->calibration);
  } catch (const std::runtime_error&) {  // there is none, or not for us
  }
  return std::nullopt;
}

bool CalibrationMemory::remember(const CalibrationKey& key, const Calibration& calibration) const {
  std::error_code error;
  fs::create_directories(dir_, error);
  const fs::path path = path_of(key);
  const fs::path staged = path.string() + format(".{}", ::getpid());
  const JsonObject file{
      {"file_version", kFileVersion}, {"key", json_of(key)}, {"calibration", json_of(calibration)}};
  std::ofstream out(staged);
  out << to_json(file) << '\n';
  out.close();
  if (out) fs::rename(staged, path, error);
  if (out && !error) return true;
  fs::remove(staged, error);
  return false;
}

MachineCalibration machine_calibration(const ModelSettings& settings, const Kernels& kernels,
                                       WorkerPool& workers) {
  if (settings.calibration == "off") return {{}, "calibration=off"};
  if (settings.calibration != "auto") return pinned(settings.calibration);
  if (kernels.name == std::string_view("reference")) {
    return {{}, "isa=reference, which is not made to be fast"};
  }
  const CalibrationKey key = calibration_key(kernels, workers);
  const Keeper keeper = keeper_in(settings);
  if (keeper.memory) {
    if (std::optional<Calibration> known = keeper.memory->recall(key)) {
      return {std::move(known), keeper.memory->path_of(key).string()};
    }
  }
  const CalibrationOptions options;
  if (available_memory() < kLeastRoom * arena_bytes(options, workers.num_threads())) {
    return {{}, "too little memory to measure in"};
  }
  try {
    // On a thread that stays on worker 0's core, as who computes steps does.
    auto task = std::async(std::launch::async, [&] {
      workers.pin_caller();
      return calibrate(kernels, workers, options);
    });
    Calibration measured = task.get();
    keep(keeper, key, measured);
    if (measured.disturbed) return {std::move(measured), "measured beside others"};
    return {std::move(measured), "measured"};
  } catch (const std::bad_alloc&) {
    return {{}, "too little memory to measure in"};
  }
}

// Beside others, strange values are no wonder: little is decided by them.
std::optional<CalibrationRemark> remark_on(const MachineCalibration& machine) {
  if (!machine.numbers) return std::nullopt;
  if (machine.numbers->disturbed) {
    return CalibrationRemark{
        LogLevel::kInfo,
        "calibration: other programs were at work while the machine was measured. Nothing is lost: "
        "steps have the sizes that do well on most machines, and the next start measures again"};
  }
  if (machine.numbers->set_aside.empty()) return std::nullopt;
  return CalibrationRemark{
      LogLevel::kWarning,
      format("calibration: values too strange to be used: {}; tidemill inspect lists them",
             machine.numbers->set_aside.size())};
}

std::string describe(const Calibration& c) {
  return format("reads {} GB/s ({} by one worker); multiplies {} f32, {} bf16, {} int8 GFLOP/s",
                gigas(c.read_by_all), gigas(c.read_by_one), gigas(c.multiplies[0]),
                gigas(c.multiplies[1]), gigas(c.multiplies[2]));
}

}  // namespace tidemill
