// tidemill eval: how right a model is, in numbers.
//
//   --file TEXT         perplexity: the text encoded as a whole and cut into windows; each window
//                       scores all its ids but the first, from f32 logits
//   --reference FOLDER  logits, log-probabilities and greedy ids against stored ones: a folder with
//                       expected.json and expected.safetensors, or greedy.json and
//                       logits.safetensors
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "base/check.h"
#include "base/json.h"
#include "base/text_file.h"
#include "compare_logits.h"
#include "kernels/select.h"
#include "loaded_model.h"
#include "model/logits_runner.h"
#include "progress_bar.h"
#include "verbs.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

std::vector<TokenId> encode_file(const fs::path& engine, const Architecture& architecture,
                                 const Settings& settings) {
  const TextParts text = make_text_parts(read_text_files(engine), architecture, settings.model);
  if (!text.tokenizer) {
    throw std::runtime_error("this model has no tokenizer, so no text can be scored.");
  }
  auto ids =
      text.tokenizer->encode(read_text_file(settings.verb.file), {.add_special_tokens = false});
  if (!ids) throw std::runtime_error(ids.error().message);
  for (const TokenId id : *ids) {
    if (id >= 0 && id < architecture.vocab_size) continue;
    throw std::runtime_error(
        format("the tokenizer made id {} of the text; this model has {} ids, 0 to {}.", id,
               architecture.vocab_size, architecture.vocab_size - 1));
  }
  return std::move(*ids);
}

struct Perplexity {
  double sum = 0.0;  // of log-probabilities
  int64_t scored = 0;
  int64_t windows = 0;
  double value() const { return std::exp(-sum / static_cast<double>(scored)); }
};

Perplexity measure(LogitsRunner& runner, std::span<const TokenId> ids,
                   const VerbArguments& arguments) {
  const auto window = static_cast<size_t>(arguments.window);
  Perplexity result;
  for (size_t begin = 0; begin + window <= ids.size(); begin += window) {
    if (arguments.num_windows > 0 && result.windows == arguments.num_windows) break;
    const auto part = ids.subspan(begin, window);
    runner.run(part, 0, [&](int64_t position, std::span<const float> logits) {
      const auto next = static_cast<size_t>(position) + 1;
      if (next == part.size()) return;
      result.sum += log_probability(logits, part[next]);
      ++result.scored;
    });
    ++result.windows;
    std::fprintf(stderr, "window %lld: perplexity so far %.3f\n",
                 static_cast<long long>(result.windows), result.value());
  }
  if (result.windows == 0) {
    throw std::runtime_error(
        format("the text has {} tokens; a window takes {}. Lower --window.", ids.size(), window));
  }
  return result;
}

void print(const Perplexity& result, bool json) {
  if (!json) {
    std::printf("perplexity %.5f over %lld tokens in %lld windows, sum of log-probabilities %.4f\n",
                result.value(), static_cast<long long>(result.scored),
                static_cast<long long>(result.windows), result.sum);
    return;
  }
  std::string text;
  JsonWriter(&text)
      .begin_object()
      .key("perplexity")
      .value(result.value())
      .key("sum_logprob")
      .value(result.sum)
      .key("tokens_scored")
      .value(result.scored)
      .key("windows")
      .value(result.windows)
      .end_object();
  std::puts(text.c_str());
}

}  // namespace

int eval(const SettingsReport& report) {
  const Settings& settings = report.settings;
  if (settings.verb.file.empty() == settings.verb.reference.empty()) {
    throw std::runtime_error("eval needs one of --file TEXT and --reference FOLDER.");
  }
  WorkerPool workers(settings.workers);
  ProgressBar bar(stderr);
  const OpenedEngine opened =
      open_engine(settings.model.model_id, engine_options(settings.model), workers, bar.callback());
  const fs::path& engine = opened.dir;
  bar.finish();
  const Model model(engine, model_options(settings.model));
  const Kernels& kernels = select_kernels(settings.model.isa);
  if (!settings.verb.reference.empty()) {
    return compare_with_reference(kernels, model, workers, settings.verb);
  }
  const std::vector<TokenId> ids = encode_file(engine, model.architecture(), settings);
  LogitsRunner runner(kernels, model, workers, settings.verb.window);
  print(measure(runner, ids, settings.verb), settings.verb.json);
  return 0;
}

}  // namespace tidemill
