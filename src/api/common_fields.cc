#include "api/common_fields.h"

#include <utility>

namespace tidemill {

void read_common(Fields& fields, GenerationFields& out) {
  out.frequency_penalty = fields.number("frequency_penalty").value_or(0.0);
  out.presence_penalty = fields.number("presence_penalty").value_or(0.0);
  if (auto bias = fields.bias("logit_bias")) out.logit_bias = std::move(*bias);
  out.seed = fields.bits("seed");
  out.stop_token_ids = fields.integers("stop_token_ids").value_or(std::vector<int64_t>());
  out.ignore_end = fields.boolean("ignore_eos").value_or(out.ignore_end);
  out.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
}

void read_choosing(Fields& fields, GenerationFields& out) {
  out.typical_p = fields.number("typical_p").value_or(1.0);
  out.bad_words = fields.texts("bad_words").value_or(std::vector<std::string>());
  out.allowed_token_ids = fields.integers("allowed_token_ids");
  out.keep_stop_text = fields.boolean("include_stop_str_in_output").value_or(false);
}

}  // namespace tidemill
