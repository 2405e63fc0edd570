// Which machine and which program a figure is of.
#pragma once

#include <string>

#include "base/json.h"
#include "kernels/kernels.h"

namespace tidemill {

struct ProcessorName {
  std::string vendor = "unknown";  // "AuthenticAMD"
  std::string model = "unknown";   // "AMD EPYC 9R14"
};

// From the text of /proc/cpuinfo.
ProcessorName processor_in(const std::string& cpuinfo);
ProcessorName this_processor();

// {"vendor", "processor", "isa", "variant", "threads", "usable_cores", "kernel"}
JsonValue machine_json(const Kernels& kernels, int threads);
// {"name", "version", "build"}
JsonValue program_json();
// "2026-11-26T11:00:00Z"
std::string utc_now();

}  // namespace tidemill
