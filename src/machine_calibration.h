// The calibration of this machine, as a setting wants it: remembered from the last start, measured,
// or read from a file. Shared by the verbs.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"
#include "kernels/calibration.h"
#include "settings/options.h"

namespace tidemill {

// What a calibration is good for: another of these is another machine.
struct CalibrationKey {
  std::string processor;  // as /proc/cpuinfo names it
  std::string microcode;  // likewise; empty where it says none
  int num_threads = 0;
  std::string variant;  // name and description of the kernels
  std::string version;  // of the program
  std::string build;    // build_id(): other kernels have other times

  bool operator==(const CalibrationKey&) const = default;
};
CalibrationKey calibration_key(const Kernels& kernels, const WorkerPool& workers);

// The value of a line "field : value" of a text like /proc/cpuinfo, the first such; "" without one.
std::string cpuinfo_field(std::string_view text, std::string_view field);

// One file of JSON for each key, in a folder of its own: DIR/<digest of the key>.json.
class CalibrationMemory {
 public:
  explicit CalibrationMemory(std::filesystem::path dir) : dir_(std::move(dir)) {}

  std::filesystem::path path_of(const CalibrationKey& key) const;
  // Nothing when there is no file, or one that is damaged or of another key.
  std::optional<Calibration> recall(const CalibrationKey& key) const;
  // Written beside and renamed. False where it cannot be written: it is measured again then.
  bool remember(const CalibrationKey& key, const Calibration& calibration) const;

 private:
  std::filesystem::path dir_;
};

JsonValue json_of(const Calibration& calibration);

struct MachineCalibration {
  std::optional<Calibration> numbers;  // none with calibration=off, and for `reference`
  std::string origin;                  // where they come from, for the log

  // Nobody disturbed them: something may be judged and chosen by them, beyond whether a model is
  // large.
  bool is_sound() const { return numbers && !numbers->disturbed; }
};
// By settings.model.calibration. Measuring takes half a second, and happens once: undisturbed
// numbers are remembered in the cache directory; where they cannot be, the log says so and what
// would help. Those that lie in a cache are used though nothing can be written there. Throws
// std::runtime_error when the file that the setting names cannot be read; without memory to measure
// in there are none.
MachineCalibration machine_calibration(const ModelSettings& settings, const Kernels& kernels,
                                       WorkerPool& workers);

// What is odd about it, for the log of a start; nothing where all is well.
struct CalibrationRemark {
  LogLevel level = LogLevel::kInfo;
  std::string text;
};
std::optional<CalibrationRemark> remark_on(const MachineCalibration& machine);

// Its rates, in one line.
std::string describe(const Calibration& calibration);

}  // namespace tidemill
