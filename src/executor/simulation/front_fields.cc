#include "executor/simulation/front_fields.h"

#include <algorithm>
#include <string>
#include <utility>

#include "scheduler/prefix_cache.h"

namespace tidemill {
namespace {

int64_t random_length(SimulationRandom& random, const ExecutorOptions& options) {
  const int64_t limit =
      std::min(options.max_model_len, options.scheduler.groups.front().num_blocks * kBlockTokens);
  switch (random.up_to(4)) {
    case 0:
      return random.one_of({0, 1, 31, 32, 33});
    case 1:
      return limit + random.between(-2, 1);
    case 2:
      return options.scheduler.max_step_tokens + random.between(-1, 1);
    default:
      return random.between(1, std::max<int64_t>(1, limit / 2));
  }
}

// Beside these an answer depends on nothing: what they change of the logits.
void change_logits(SimulationRandom& random, GenerationFields& fields) {
  // Two of them are never forbidden.
  if (random.one_in(8)) fields.allowed_token_ids = {'x', 'b', 'c', 'y'};
  if (random.one_in(8)) fields.logit_bias = {{'b', 1.5}, {'d', -2.0}};
  if (random.one_in(8)) fields.repetition_penalty = 1.25;
  if (random.one_in(8)) fields.presence_penalty = 0.5;
}

}  // namespace

GenerationFields random_fields(SimulationRandom& random, const ExecutorOptions& options,
                               bool has_text) {
  GenerationFields fields{.temperature = 0, .seed = random.next() >> 11};
  const int64_t num_prompts = random.one_in(6) ? random.between(2, 3) : 1;
  for (int64_t p = 0; p < num_prompts; ++p) {
    TokenPrompt prompt;
    const auto family = static_cast<TokenId>('a' + random.up_to(2));
    prompt.ids.assign(static_cast<size_t>(random_length(random, options)), family);
    if (random.one_in(2) && !prompt.ids.empty()) prompt.ids.back() = 'z';
    fields.prompts.push_back(std::move(prompt));
  }
  if (!random.one_in(5)) fields.max_new_tokens = random.between(0, 40);
  fields.min_new_tokens = random.one_in(3) ? random.up_to(fields.max_new_tokens.value_or(3)) : 0;
  fields.clamp_max_new_tokens = random.one_in(2);
  fields.num_choices = random.one_in(4) ? random.between(2, 4) : 1;
  fields.ignore_end = random.one_in(4);
  if (random.one_in(4)) fields.stop_token_ids = {'a' + random.up_to(4)};
  if (has_text && random.one_in(3)) {
    fields.stop_strings = {random.one_of(
        {std::string("ab"), std::string("eee"), std::string("cdc"), std::string("a")})};
  }
  if (random.one_in(6)) fields.best_of = fields.num_choices + random.between(0, 3);
  if (random.one_in(5)) fields.num_prompt_logprobs = random.one_of({0, 1, 3});
  if (random.one_in(3)) fields.priority = random.between(-1, 1);
  if (random.one_in(4)) fields.cache_salt = random.one_in(2) ? "salt" : "pepper";
  if (random.one_in(2)) change_logits(random, fields);
  return fields;
}

}  // namespace tidemill
