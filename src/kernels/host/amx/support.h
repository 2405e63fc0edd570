// What stands between a processor with AVX-512 and the use of its tiles. select.cc asks the
// processor; what its answers mean is here, so that tests can answer for any processor.
#pragma once

#include <stdint.h>

#include <string>

namespace tidemill {

struct ProcessorAnswers {
  uint32_t leaf7_ecx = 0;
  uint32_t leaf7_edx = 0;
  uint32_t leaf7_1_eax = 0;
  uint64_t saved_states = 0;  // XCR0
};

// Asks Linux for leave to use tiles, for all threads of this process from now on (children that
// exec must ask again). Tiles are the one register state that it does not give unasked: without
// leave the first tile instruction is a SIGILL. Returns 0 or an errno.
int ask_for_tiles();

// Empty when tiles can be used, else what is missing. Calls `ask` when nothing else is.
std::string missing_for_tiles(const ProcessorAnswers& answers, int (*ask)() = ask_for_tiles);

}  // namespace tidemill
