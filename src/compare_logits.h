// `eval --reference`: what a model computes beside what a reference implementation computed.
#pragma once

#include "kernels/kernels.h"
#include "model/load.h"
#include "parallel/worker_pool.h"
#include "settings/options.h"

namespace tidemill {

// Prints one line per prompt (or one JSON document): largest difference of logits and of
// log-probabilities, and how many greedy ids agree before the first that does not. The folder:
// reference_outputs.h.
// Returns 0 when every difference is within the tolerance of the model's arithmetic (f32: 2e-4 and
// 2e-3 of the two forms; bf16: 5 % of the largest logit, log-probabilities 0.3; with activations of
// 8 bits one of a hundred log-probabilities up to 0.6), 1 otherwise.
int compare_with_reference(const Kernels& kernels, const Model& model, WorkerPool& workers,
                           const VerbArguments& arguments);

}  // namespace tidemill
