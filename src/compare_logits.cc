#include "compare_logits.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/check.h"
#include "base/json.h"
#include "model/logits_runner.h"
#include "reference_outputs.h"

namespace tidemill {
namespace {

struct Tolerances {
  double logits = 0.0;
  double logprobs = 0.0;
  bool greedy = false;  // every greedy id must agree
  // Of so many log-probabilities one may be farther away, at most twice as far; 0: none may.
  size_t one_farther_of = 0;
};

Tolerances tolerances_of(const ReferenceOutputs& outputs, const ComputeTypes& types) {
  constexpr double kUsualLargestLogit = 40.0;
  if (types.floats == DType::kF32) {
    return {.logits = outputs.precise ? 2e-4 : 2e-3, .logprobs = 1e-3, .greedy = true};
  }
  const double scale = outputs.largest_logit.value_or(kUsualLargestLogit);
  // Activations rounded to 8 bits make single tokens worth 0.3 to 0.5 more or less, others in each
  // variant (16 bits: at most 0.06), while perplexity agrees to two thousandths.
  constexpr size_t kOneFartherOf = 100;
  return {.logits = 0.05 * scale,
          .logprobs = 0.3,
          .one_farther_of = types.integer_parts == 1 ? kOneFartherOf : 0};
}

struct Differences {
  double logits = 0.0;
  double logprobs = 0.0;
  size_t num_logprobs = 0;
  size_t num_farther = 0;   // of them, than is allowed
  size_t equal_greedy = 0;  // before the first that differs

  bool within(const Tolerances& allowed, size_t num_greedy) const {
    const double farthest = (allowed.one_farther_of > 0 ? 2.0 : 1.0) * allowed.logprobs;
    return logits <= allowed.logits && logprobs <= farthest &&
           (equal_greedy == num_greedy || !allowed.greedy);
  }
};

// Feeds the prompt and then the reference's own greedy ids: later differences do not depend on
// earlier ones.
Differences compare(LogitsRunner& runner, const ReferencePrompt& expected,
                    const Tolerances& allowed) {
  std::vector<TokenId> ids = expected.ids;
  ids.insert(ids.end(), expected.greedy_ids.begin(), expected.greedy_ids.end());
  ids.resize(static_cast<size_t>(expected.num_tokens()));
  const size_t prompt = expected.ids.size();
  Differences worst;
  bool same = true;
  runner.run(ids, 0, [&](int64_t position, std::span<const float> logits) {
    const auto at = static_cast<size_t>(position);
    if (at < prompt && at + expected.rows >= prompt) {
      const float* reference =
          expected.logits.data() + (at + expected.rows - prompt) * logits.size();
      for (size_t i = 0; i < logits.size(); ++i) {
        worst.logits = std::max(worst.logits, std::abs(double{logits[i]} - reference[i]));
      }
    }
    const size_t step = at + 1 - prompt;
    if (at + 1 < prompt || step >= expected.greedy_ids.size()) return;
    const TokenId wanted = expected.greedy_ids[step];
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    same = same && best == wanted;
    worst.equal_greedy += same;
    if (step < expected.logprobs.size()) {
      const double distance = std::abs(log_probability(logits, wanted) - expected.logprobs[step]);
      worst.logprobs = std::max(worst.logprobs, distance);
      worst.num_logprobs += 1;
      worst.num_farther += distance > allowed.logprobs;
    }
  });
  return worst;
}

// One line for each prompt, and the verdict.
class Printer {
 public:
  Printer(bool json, const Tolerances& allowed) : json_(json), allowed_(allowed) {
    if (!json_) std::printf("%-20s %12s %12s   greedy\n", "prompt", "logits", "logprobs");
  }

  void add(const ReferencePrompt& prompt, const Differences& found) {
    const size_t num_greedy = prompt.greedy_ids.size();
    const bool within = found.within(allowed_, num_greedy);
    good_ = good_ && within;
    num_logprobs_ += found.num_logprobs;
    num_farther_ += found.num_farther;
    if (!json_) {
      std::printf("%-20s %12.3g %12.3g   %zu of %zu\n", prompt.name.c_str(), found.logits,
                  found.logprobs, found.equal_greedy, num_greedy);
      return;
    }
    rows_.push_back(JsonObject{{"name", prompt.name},
                               {"logits", found.logits},
                               {"logprobs", found.logprobs},
                               {"equal_greedy", uint64_t{found.equal_greedy}},
                               {"greedy", uint64_t{num_greedy}},
                               {"within", within}});
  }

  bool finish() {
    good_ = good_ && num_farther_ * allowed_.one_farther_of <= num_logprobs_;
    if (json_) {
      std::puts(to_json(JsonObject{{"within", good_},
                                   {"allowed_logits", allowed_.logits},
                                   {"allowed_logprobs", allowed_.logprobs},
                                   {"logprobs", uint64_t{num_logprobs_}},
                                   {"farther", uint64_t{num_farther_}},
                                   {"prompts", std::move(rows_)}})
                    .c_str());
    } else {
      std::string farther;
      if (allowed_.one_farther_of > 0) {
        farther = format(", of which one in {} twice that: {} of {}", allowed_.one_farther_of,
                         num_farther_, num_logprobs_);
      }
      std::printf("%s (allowed: logits %.3g, log-probabilities %.3g%s%s)\n",
                  good_ ? "within the tolerances" : "OUTSIDE the tolerances", allowed_.logits,
                  allowed_.logprobs, farther.c_str(), allowed_.greedy ? ", greedy ids equal" : "");
    }
    return good_;
  }

 private:
  const bool json_;
  const Tolerances allowed_;
  bool good_ = true;
  size_t num_logprobs_ = 0;
  size_t num_farther_ = 0;
  JsonArray rows_;
};

}  // namespace

int compare_with_reference(const Kernels& kernels, const Model& model, WorkerPool& workers,
                           const VerbArguments& arguments) {
  const ReferenceOutputs outputs =
      read_reference_outputs(arguments.reference, model.architecture());
  LogitsRunner runner(kernels, model, workers, outputs.longest());
  const Tolerances allowed = tolerances_of(outputs, model.compute_types());
  Printer printer(arguments.json, allowed);
  for (const ReferencePrompt& prompt : outputs.prompts) {
    printer.add(prompt, compare(runner, prompt, allowed));
  }
  return printer.finish() ? 0 : 1;
}

}  // namespace tidemill
