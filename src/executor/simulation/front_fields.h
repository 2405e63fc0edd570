// What clients of a front door's simulation may ask for: lengths at every border that the options
// have, and every field that decides what is generated, and when.
#pragma once

#include "executor/executor.h"
#include "scheduler/simulation/random.h"

namespace tidemill {

// The prompts are tokens, and the seed is there.
GenerationFields random_fields(SimulationRandom& random, const ExecutorOptions& options,
                               bool has_text);

}  // namespace tidemill
