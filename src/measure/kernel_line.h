// One kernel by itself, measured.
#pragma once

#include <cstdint>
#include <string>

#include "measure/rounds.h"

namespace tidemill {

struct KernelLine {
  // "qkv", "output", "gate_up", "down", "head", "attention", and what has no limit: "section" (an
  // empty one, and its workers' return), "barrier" (a meeting), "embed", "plan_attention",
  // "rms_norm", "final_norm", "rotate_and_store", "quantize_attended", "quantize" (of what the down
  // projection reads), "choose_greedy", "choose_top_k_top_p".
  std::string kernel;
  std::string format;   // of the weight, of keys and values, or of the input; empty: f32
  int64_t rows = 0;     // workers, of "section" and "barrier"
  int64_t context = 0;  // positions of each row, where they matter; else 0
  Figures figures;      // `tokens` are rows; no limit (shares of 0) where all lies in caches
  bool has_limit = true;
};

}  // namespace tidemill
