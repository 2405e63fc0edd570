// tidemill bench: prefill and decode through the real loop, offline, each figure beside a bandwidth
// probe taken in the same seconds. Prompts are token ids; ends of sequence are ignored.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <random>
#include <stdexcept>

#include "base/check.h"
#include "kernels/bandwidth_probe.h"
#include "kernels/select.h"
#include "loaded_model.h"
#include "model/kv_cache.h"
#include "progress_bar.h"
#include "verbs.h"

namespace tidemill {
namespace {

constexpr int kRounds = 5;

struct Figures {
  double prefill_tokens_per_second = 0.0;
  double decode_tokens_per_second = 0.0;
  double seconds_per_step = 0.0;
  double probe_bytes_per_second = 0.0;
};

std::vector<int64_t> concurrencies(std::string_view text) {
  std::vector<int64_t> numbers;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + comma, number);
    if (error != std::errc() || end != text.data() + comma || number < 1) {
      throw std::runtime_error(
          format("--concurrency is {}; it must be numbers from 1, separated by commas.", text));
    }
    numbers.push_back(number);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return numbers;
}

// Prompts that differ from their first token on, so that none is found in the prefix cache.
TokenPrompt random_prompt(std::mt19937_64& random, int64_t length, int32_t vocab_size) {
  TokenPrompt prompt;
  for (int64_t i = 0; i < length; ++i) {
    prompt.ids.push_back(static_cast<TokenId>(random() % static_cast<uint64_t>(vocab_size)));
  }
  return prompt;
}

// Runs `count` sequences together and gives their times.
std::vector<RequestTimes> run(LoadedModel& model, std::mt19937_64& random, int64_t count,
                              int64_t prompt_tokens, int64_t new_tokens) {
  std::vector<ResponseStream> streams;
  for (int64_t i = 0; i < count; ++i) {
    GenerationFields fields{.max_new_tokens = new_tokens, .temperature = 0.0, .ignore_end = true};
    fields.prompts.push_back(random_prompt(random, prompt_tokens, model.facts().limits.vocab_size));
    const auto request =
        GenerationRequest::make(std::move(fields), FieldNames{}, model.facts().limits);
    if (!request) throw std::runtime_error(request.error().message);
    auto stream = model.executor().submit(*request);
    if (!stream) throw std::runtime_error(stream.error().message);
    streams.push_back(std::move(*stream));
  }
  std::vector<RequestTimes> times;
  for (ResponseStream& stream : streams) {
    for (bool ended = false; !ended;) {
      const ResponseStream::Poll poll = stream.wait();
      if (poll.error) throw std::runtime_error(poll.error->message);
      ended = poll.ended;
    }
    times.push_back(stream.times());
  }
  return times;
}

double seconds(RequestTimes::Time from, RequestTimes::Time to) {
  return std::chrono::duration<double>(to - from).count();
}

// Decode counts from the moment when all have their first token to the first that ends.
Figures measure(LoadedModel& model, BandwidthProbe& probe, std::mt19937_64& random, int64_t count,
                const VerbArguments& arguments) {
  const double before = probe.measure();
  const auto times =
      run(model, random, count, arguments.prompt_tokens, arguments.decode_tokens + 1);
  const double after = probe.measure();
  const auto order_by = [](auto member) {
    return [member](const RequestTimes& x, const RequestTimes& y) { return x.*member < y.*member; };
  };
  const auto earliest = [&](auto member) {
    return (*std::min_element(times.begin(), times.end(), order_by(member))).*member;
  };
  const auto latest = [&](auto member) {
    return (*std::max_element(times.begin(), times.end(), order_by(member))).*member;
  };
  const double prefill =
      seconds(earliest(&RequestTimes::first_scheduled), latest(&RequestTimes::first_token));
  // From the last first token on, every step decodes all; those that began early end early.
  const double decode =
      seconds(latest(&RequestTimes::first_token), latest(&RequestTimes::last_token));
  const auto tokens = static_cast<double>(arguments.decode_tokens);
  return {
      .prefill_tokens_per_second = static_cast<double>(count * arguments.prompt_tokens) / prefill,
      .decode_tokens_per_second = static_cast<double>(count) * tokens / decode,
      .seconds_per_step = decode / tokens,
      .probe_bytes_per_second = (before + after) / 2.0};
}

// What one step reads: every weight but the embedding (which a tied head is), and the keys and
// values of half-grown contexts.
double bytes_per_step(const Model& model, int64_t count, const VerbArguments& arguments) {
  const Architecture& a = model.architecture();
  double bytes = static_cast<double>(model.weight_bytes());
  if (!a.tied_head) {
    bytes -= static_cast<double>(
        packed_bytes(model.embedding().format, model.embedding().n, model.embedding().k));
  }
  const double context = static_cast<double>(arguments.prompt_tokens) +
                         static_cast<double>(arguments.decode_tokens) / 2.0;
  const double kv_per_token = static_cast<double>(kv_bytes_per_block(a, model.activation_type())) /
                              static_cast<double>(kTokensPerBlock);
  return bytes + static_cast<double>(count) * context * kv_per_token;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void print(int64_t count, const std::vector<Figures>& rounds, double bytes, bool json) {
  const auto of = [&](auto value) {
    std::vector<double> values;
    for (const Figures& figures : rounds) values.push_back(value(figures));
    return median(std::move(values));
  };
  const double prefill = of([](const Figures& f) { return f.prefill_tokens_per_second; });
  const double decode = of([](const Figures& f) { return f.decode_tokens_per_second; });
  const double step = of([](const Figures& f) { return f.seconds_per_step * 1e3; });
  const double probe = of([](const Figures& f) { return f.probe_bytes_per_second / 1e9; });
  const double share =
      of([&](const Figures& f) { return bytes / f.seconds_per_step / f.probe_bytes_per_second; });
  if (!json) {
    std::printf("%11lld %14.1f %13.1f %9.3f %11.1f %7.2f\n", static_cast<long long>(count), prefill,
                decode, step, probe, share);
    return;
  }
  std::string line;
  JsonWriter(&line)
      .begin_object()
      .key("concurrency")
      .value(count)
      .key("prefill_tokens_per_second")
      .value(prefill)
      .key("decode_tokens_per_second")
      .value(decode)
      .key("step_ms")
      .value(step)
      .key("probe_gb_per_second")
      .value(probe)
      .key("share_of_probe")
      .value(share)
      .end_object();
  std::puts(line.c_str());
}

}  // namespace

int bench(const SettingsReport& report) {
  const VerbArguments& arguments = report.settings.verb;
  Settings settings = report.settings;
  const std::vector<int64_t> counts = concurrencies(arguments.concurrency);
  settings.executor.scheduler.prefix_cache = false;  // every prompt is computed
  settings.executor.scheduler.max_sequences = static_cast<int32_t>(std::max<int64_t>(
      settings.executor.scheduler.max_sequences, *std::max_element(counts.begin(), counts.end())));
  WorkerPool workers(settings.workers);
  MetricsRegistry metrics;
  ProgressBar bar(stderr);
  const auto model = LoadedModel::load(settings, workers, metrics, bar.callback());
  bar.finish();
  if (model->model() == nullptr) throw std::runtime_error("a script has nothing to measure.");
  BandwidthProbe probe(select_kernels(settings.model.isa), workers);
  std::mt19937_64 random(1);
  run(*model, random, 1, arguments.prompt_tokens, 8);  // pages and caches are warm afterwards
  if (!arguments.json) {
    std::printf(
        "prompts of %lld tokens, %lld decoded; medians of %d rounds\n"
        "concurrency  prefill tok/s  decode tok/s   step ms  probe GB/s   share\n",
        static_cast<long long>(arguments.prompt_tokens),
        static_cast<long long>(arguments.decode_tokens), kRounds);
  }
  for (const int64_t count : counts) {
    std::vector<Figures> rounds;
    for (int i = 0; i < kRounds; ++i) {
      rounds.push_back(measure(*model, probe, random, count, arguments));
    }
    print(count, rounds, bytes_per_step(*model->model(), count, arguments), arguments.json);
  }
  return 0;
}

}  // namespace tidemill
