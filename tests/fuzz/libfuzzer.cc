// The same targets under libFuzzer (-DTIDEMILL_FUZZ=ON with clang): its entry point.
#include "base/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemill::fuzz_one({reinterpret_cast<const char*>(data), size});
  return 0;
}
