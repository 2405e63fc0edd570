#include "measure/machine_facts.h"

#include <sys/utsname.h>

#include <ctime>
#include <fstream>
#include <sstream>

#include "parallel/topology.h"

namespace tidemill {
namespace {

std::string value_of(const std::string& text, std::string_view key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(':');
    if (line.starts_with(key) && colon != std::string::npos && colon + 2 < line.size()) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

std::string kernel_release() {
  utsname name{};
  return ::uname(&name) == 0 ? std::string(name.sysname) + " " + name.release : "unknown";
}

}  // namespace

ProcessorName processor_in(const std::string& cpuinfo) {
  return {.vendor = value_of(cpuinfo, "vendor_id"), .model = value_of(cpuinfo, "model name")};
}

ProcessorName this_processor() {
  std::stringstream cpuinfo;
  cpuinfo << std::ifstream("/proc/cpuinfo").rdbuf();
  return processor_in(cpuinfo.str());
}

JsonValue machine_json(const Kernels& kernels, int threads) {
  const ProcessorName processor = this_processor();
  return JsonObject{
      {"vendor", processor.vendor}, {"processor", processor.model},
      {"isa", kernels.name},        {"variant", kernels.description},
      {"threads", threads},         {"usable_cores", static_cast<int64_t>(usable_cores().size())},
      {"kernel", kernel_release()}};
}

JsonValue program_json() {
  return JsonObject{{"name", "tidemill"}, {"version", TIDEMILL_VERSION}, {"build", TIDEMILL_BUILD}};
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

}  // namespace tidemill
