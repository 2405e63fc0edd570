#include "sampling_arguments.h"

#include <charconv>
#include <stdexcept>

#include "base/check.h"

namespace tidemill {

GenerationFields generation_fields(const VerbArguments& arguments) {
  GenerationFields fields{.max_new_tokens = arguments.max_new_tokens,
                          .temperature = arguments.temperature,
                          .max_temperature = 100.0,
                          .top_k = arguments.top_k,
                          .top_p = arguments.top_p,
                          .min_p = arguments.min_p,
                          .typical_p = arguments.typical_p,
                          .repetition_penalty = arguments.repetition_penalty,
                          .frequency_penalty = arguments.frequency_penalty,
                          .presence_penalty = arguments.presence_penalty,
                          .num_logprobs = arguments.num_logprobs,
                          .ignore_end = arguments.ignore_end,
                          .clamp_max_new_tokens = true};
  if (!arguments.seed.empty()) {
    const std::string& text = arguments.seed;
    uint64_t seed = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
    if (error != std::errc() || end != text.data() + text.size()) {
      throw std::runtime_error(format("--seed is {}; it must be an integer from 0.", text));
    }
    fields.seed = seed;
  }
  return fields;
}

JsonValue chat_message(std::string_view role, std::string_view content) {
  return JsonObject{{"role", std::string(role)}, {"content", std::string(content)}};
}

}  // namespace tidemill
