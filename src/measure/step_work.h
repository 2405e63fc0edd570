// What a step of a network must read and compute at least, by the formulas of kernels.md 1.
//
// Operations are those of the input that a product is asked to read: an integer product whose input
// keeps 16 bits is two multiplications of bytes for each weight, one for each run of the input
// (quantized_rows.h). So it is with the head of every engine of integers, and with the layers where
// activations are int16.
#pragma once

#include <cstdint>

#include "measure/rounds.h"
#include "model/engine_dir.h"

namespace tidemill {

// Of one model, by its manifest.
struct ModelCost {
  double weight_bytes = 0.0;     // read in each step: all but an embedding that is not the head
  double body_operations = 0.0;  // of a token: 2 x weights of the layers x parts of their inputs
  double head_operations = 0.0;  // of a row of logits: the same of the head
  // Of a query and a position that it attends to: 4 x heads x head_dim x layers.
  // Twice that of int8 keys and values: queries and probabilities are two runs of bytes.
  double attention_operations = 0.0;
  double kv_bytes = 0.0;  // of a position, all layers
  int64_t window = 0;     // positions that a query sees at most; 0: all
};

ModelCost cost_of(const Manifest& manifest, const ComputeTypes& types);

// `steps` steps of one token for each of `sequences`, with that many positions before it on
// average.
Work decode_work(const ModelCost& cost, double sequences, double context, double steps);

// `prompts` prompts of `prompt_tokens`, one after another in steps of at most `step_tokens`, with a
// row of logits each.
Work prefill_work(const ModelCost& cost, int64_t prompts, int64_t prompt_tokens,
                  int64_t step_tokens);

}  // namespace tidemill
