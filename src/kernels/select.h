// Which variants exist, which can run here, and the choice between them. The only code that asks
// the processor (CPUID, XCR0).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"

namespace tidemill {

struct Variant {
  const Kernels* kernels;
  std::string why_not;  // empty when it can run here; else what is missing
};

// Every variant, slowest first.
std::vector<Variant> variants();
// Those that can run here, slowest first; "reference" always can.
std::vector<const Kernels*> runnable_variants();
// Also those that a faster one of the same name hides here, and "amx_emulated", which is amx with
// its tiles in plain C++ and cannot be selected; for tests.
std::vector<const Kernels*> runnable_implementations();
// The one named, or with "auto" the fastest that runs here. Throws std::runtime_error that lists
// the names and says what is missing.
const Kernels& select_kernels(std::string_view name);

}  // namespace tidemill
