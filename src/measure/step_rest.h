// What a decode step does beside products and attention, put together from kernels that were
// measured by themselves: each as often as it stands in a step, beside the limit of the whole step.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "measure/kernel_line.h"
#include "model/load.h"

namespace tidemill {

struct StepPart {
  std::string kernel;
  int64_t times = 0;  // in a step
  double us = 0.0;    // of one
};

struct StepRest {
  int64_t sequences = 0;  // one token each
  int64_t context = 0;    // positions of each
  std::vector<StepPart> parts;
  // Of the whole step, products and attention included: every kernel ends in one, and they are in
  // its time. Where attention of one sequence is cut between workers it takes one more.
  int64_t meetings = 0;
  double meeting_us = 0.0;  // of one
  double limit_us = 0.0;    // of the whole step, by the formulas (step_work.h)

  double us() const;  // of all parts
  double share() const { return limit_us > 0.0 ? us() / limit_us : 0.0; }
};

// `lines` are those of measure_kernels() for `model`, with all that a step of `sequences` rows
// consists of. The limit is by the probes that were taken beside the parts.
StepRest rest_of_step(const Model& model, std::span<const KernelLine> lines, int64_t sequences,
                      int64_t context);

}  // namespace tidemill
