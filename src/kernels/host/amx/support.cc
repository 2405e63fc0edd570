#include "kernels/host/amx/support.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <system_error>

#include "base/check.h"

namespace tidemill {
namespace {

struct Feature {
  uint32_t ProcessorAnswers::*word;
  int bit;
  const char* name;
};

constexpr Feature kNeeded[] = {{&ProcessorAnswers::leaf7_edx, 24, "AMX-TILE"},
                               {&ProcessorAnswers::leaf7_edx, 22, "AMX-BF16"},
                               {&ProcessorAnswers::leaf7_edx, 25, "AMX-INT8"},
                               {&ProcessorAnswers::leaf7_ecx, 11, "AVX512_VNNI"},
                               {&ProcessorAnswers::leaf7_1_eax, 5, "AVX512_BF16"}};

constexpr uint64_t kTileStates = 0x60000;  // XCR0: the tiles' shapes (17) and the tiles (18)

}  // namespace

int ask_for_tiles() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
}

std::string missing_for_tiles(const ProcessorAnswers& answers, int (*ask)()) {
  std::string names;
  for (const Feature& feature : kNeeded) {
    if ((answers.*feature.word >> feature.bit & 1u) != 0) continue;
    names += format("{}{}", names.empty() ? "" : ", ", feature.name);
  }
  if (!names.empty()) return format("the processor has no {}", names);
  if ((answers.saved_states & kTileStates) != kTileStates) {
    return "the system does not save AMX tiles";
  }
  const int refusal = ask();
  if (refusal == 0) return "";
  return format("the system gives this process no leave to use AMX tiles (arch_prctl: {})",
                std::system_category().message(refusal));
}

}  // namespace tidemill
