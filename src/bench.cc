// tidemill bench: prefill and decode through the real loop, offline, each decode between two probes
// of the memory's bandwidth. Prompts are token ids; ends of sequence are ignored. With --url a
// running server is measured instead (bench_server.cc).
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <iterator>
#include <random>
#include <stdexcept>
#include <thread>

#include "base/check.h"
#include "bench_server.h"
#include "kernels/bandwidth_probe.h"
#include "kernels/select.h"
#include "loaded_model.h"
#include "model/kv_cache.h"
#include "progress_bar.h"
#include "verbs.h"

namespace tidemill {
namespace {

constexpr int kRounds = 9;
constexpr double kMaxProbeSpread = 0.15;  // rounds whose two probes differ by more are dropped
constexpr int64_t kMaxConcurrency = 1024;
constexpr std::string_view kDefaultConcurrency = "1,4,16";

struct Round {
  double prefill_tokens_per_second = 0.0;
  double decode_seconds_per_step = 0.0;
  double probe_before = 0.0;  // bytes per second
  double probe_after = 0.0;

  double probe() const { return (probe_before + probe_after) / 2.0; }
  bool steady() const { return std::abs(probe_before - probe_after) <= kMaxProbeSpread * probe(); }
};

// Prompts that differ from their first token on, so that none is found in the prefix cache.
TokenPrompt random_prompt(std::mt19937_64& random, int64_t length, int32_t vocab_size) {
  TokenPrompt prompt;
  for (int64_t i = 0; i < length; ++i) {
    prompt.ids.push_back(static_cast<TokenId>(random() % static_cast<uint64_t>(vocab_size)));
  }
  return prompt;
}

ResponseStream submit(LoadedModel& model, std::mt19937_64& random, int64_t prompt_tokens,
                      int64_t new_tokens) {
  const RequestLimits& limits = model.facts().limits;
  GenerationFields fields{.max_new_tokens = new_tokens, .temperature = 0.0, .ignore_end = true};
  fields.prompts.push_back(random_prompt(random, prompt_tokens, limits.vocab_size));
  const auto request = GenerationRequest::make(std::move(fields), FieldNames{}, limits);
  if (!request) throw std::runtime_error(request.error().message);
  auto stream = model.executor().submit(*request);
  if (!stream) throw std::runtime_error(stream.error().message);
  return std::move(*stream);
}

// True when the stream has ended.
bool take(ResponseStream::Poll poll) {
  if (poll.error) throw std::runtime_error(poll.error->message);
  return poll.ended;
}

double seconds(RequestTimes::Time from, RequestTimes::Time to) {
  return std::chrono::duration<double>(to - from).count();
}

// `count` prompts, one token each: nothing but prefill.
double prefill_tokens_per_second(LoadedModel& model, std::mt19937_64& random, int64_t count,
                                 int64_t prompt_tokens) {
  std::vector<ResponseStream> streams;
  for (int64_t i = 0; i < count; ++i) streams.push_back(submit(model, random, prompt_tokens, 1));
  RequestTimes::Time begin = RequestTimes::Time::max();
  RequestTimes::Time end{};
  for (ResponseStream& stream : streams) {
    while (!take(stream.wait())) continue;
    begin = std::min(begin, stream.times().first_scheduled);
    end = std::max(end, stream.times().first_token);
  }
  return static_cast<double>(count * prompt_tokens) / seconds(begin, end);
}

// `count` sequences, measured while all of them decode: from the first to the last token of the
// one that was submitted last. The others get enough tokens to still be running then: the steps of
// everybody's prefill, were every second step a decode.
double decode_seconds_per_step(LoadedModel& model, std::mt19937_64& random, int64_t count,
                               const VerbArguments& arguments, int64_t max_step_tokens) {
  const int64_t prompt = arguments.prompt_tokens;
  const int64_t measured = arguments.decode_tokens + 1;
  const int64_t prefill_room = std::max<int64_t>(kTokensPerBlock, max_step_tokens - count);
  const int64_t prefill_steps = 2 * (count * prompt / prefill_room + 1) + count;
  std::vector<ResponseStream> others;
  for (int64_t i = 0; i + 1 < count; ++i) {
    others.push_back(submit(model, random, prompt, measured + prefill_steps));
  }
  ResponseStream last = submit(model, random, prompt, measured);
  for (bool ended = false; !ended;) {
    ended = take(last.wait());
    for (ResponseStream& other : others) {
      CHECK(!take(other.poll()) || ended, "a sequence ended before the measured ones");
    }
  }
  return seconds(last.times().first_token, last.times().last_token) /
         static_cast<double>(arguments.decode_tokens);
}

void wait_until_idle(LoadedModel& model) {
  while (!model.executor().idle()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

Round measure(LoadedModel& model, BandwidthProbe& probe, std::mt19937_64& random, int64_t count,
              const Settings& settings) {
  const VerbArguments& arguments = settings.verb;
  Round round{.prefill_tokens_per_second =
                  prefill_tokens_per_second(model, random, count, arguments.prompt_tokens),
              .probe_before = probe.measure()};
  round.decode_seconds_per_step = decode_seconds_per_step(
      model, random, count, arguments, settings.executor.scheduler.max_step_tokens);
  wait_until_idle(model);
  round.probe_after = probe.measure();
  return round;
}

// What one step must read. The token embedding is not read whole, unless it is the head, too.
double weight_bytes_per_step(const Model& model) {
  double bytes = static_cast<double>(model.weight_bytes());
  if (!model.architecture().tied_head) {
    bytes -= static_cast<double>(
        packed_bytes(model.embedding().format, model.embedding().n, model.embedding().k));
  }
  return bytes;
}

// Keys and values of `count` contexts in the middle of their decoding.
double kv_bytes_per_step(const Model& model, int64_t count, const VerbArguments& arguments) {
  const double context = static_cast<double>(arguments.prompt_tokens) +
                         static_cast<double>(arguments.decode_tokens) / 2.0;
  const double per_token =
      static_cast<double>(kv_bytes_per_block(model.architecture(), model.compute_types().floats)) /
      static_cast<double>(kTokensPerBlock);
  return static_cast<double>(count) * context * per_token;
}

struct Spread {
  double min = 0.0;
  double median = 0.0;
  double max = 0.0;
};

Spread spread_of(const std::vector<Round>& rounds,
                 const std::function<double(const Round&)>& value) {
  std::vector<double> values;
  for (const Round& round : rounds) values.push_back(value(round));
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}

struct Figures {
  int64_t concurrency = 0;
  Spread prefill_tokens_per_second;
  Spread decode_tokens_per_second;
  Spread step_ms;
  Spread probe_gb_per_second;
  Spread share_of_weights;  // bytes of weights per step, over what the probe reads in that time
  Spread share_of_all;      // keys and values included
  int64_t dropped_rounds = 0;
};

Figures figures_of(int64_t count, std::vector<Round> rounds, double weights, double kv) {
  const auto all = static_cast<int64_t>(rounds.size());
  // When no round was steady, all are shown: `dropped` then says that none can be believed.
  std::vector<Round> steady;
  std::copy_if(rounds.begin(), rounds.end(), std::back_inserter(steady),
               [](const Round& round) { return round.steady(); });
  const int64_t dropped = all - static_cast<int64_t>(steady.size());
  if (!steady.empty()) rounds = std::move(steady);
  const auto share = [](double bytes) {
    return [bytes](const Round& r) { return bytes / r.decode_seconds_per_step / r.probe(); };
  };
  const auto tokens = static_cast<double>(count);
  return {
      .concurrency = count,
      .prefill_tokens_per_second =
          spread_of(rounds, [](const Round& r) { return r.prefill_tokens_per_second; }),
      .decode_tokens_per_second = spread_of(
          rounds, [tokens](const Round& r) { return tokens / r.decode_seconds_per_step; }),
      .step_ms = spread_of(rounds, [](const Round& r) { return r.decode_seconds_per_step * 1e3; }),
      .probe_gb_per_second = spread_of(rounds, [](const Round& r) { return r.probe() / 1e9; }),
      .share_of_weights = spread_of(rounds, share(weights)),
      .share_of_all = spread_of(rounds, share(weights + kv)),
      .dropped_rounds = dropped};
}

void print_row(const Figures& f) {
  std::printf("%11lld %13.1f %12.1f %8.3f %10.1f %7.2f  %4.2f-%4.2f %7.2f %7lld\n",
              static_cast<long long>(f.concurrency), f.prefill_tokens_per_second.median,
              f.decode_tokens_per_second.median, f.step_ms.median, f.probe_gb_per_second.median,
              f.share_of_weights.median, f.share_of_weights.min, f.share_of_weights.max,
              f.share_of_all.median, static_cast<long long>(f.dropped_rounds));
  std::fflush(stdout);
}

void write(JsonWriter& out, std::string_view name, const Spread& spread) {
  out.key(name).begin_object();
  out.key("min").value(spread.min).key("median").value(spread.median);
  out.key("max").value(spread.max).end_object();
}

void print_json(const Figures& f) {
  std::string line;
  JsonWriter out(&line);
  out.begin_object().key("concurrency").value(f.concurrency);
  write(out, "prefill_tokens_per_second", f.prefill_tokens_per_second);
  write(out, "decode_tokens_per_second", f.decode_tokens_per_second);
  write(out, "step_ms", f.step_ms);
  write(out, "probe_gb_per_second", f.probe_gb_per_second);
  write(out, "share_of_probe_weights", f.share_of_weights);
  write(out, "share_of_probe_all", f.share_of_all);
  out.key("rounds").value(int64_t{kRounds}).key("dropped_rounds").value(f.dropped_rounds);
  out.end_object();
  std::puts(line.c_str());
  std::fflush(stdout);
}

// A bench is nobody's client: nothing of it may time out or be turned away.
Settings offline(Settings settings, int64_t most) {
  ExecutorOptions& executor = settings.executor;
  executor.scheduler.prefix_cache = false;  // every prompt is computed
  executor.scheduler.speculative = "off";   // and every token in a step of its own
  executor.scheduler.max_sequences =
      static_cast<int32_t>(std::max<int64_t>(executor.scheduler.max_sequences, most));
  executor.job_queue_size = std::max<int64_t>(executor.job_queue_size, most);
  executor.queue_timeout_ms = executor.request_timeout_ms = int64_t{24} * 3600 * 1000;
  return settings;
}

}  // namespace

int bench(const SettingsReport& report) {
  const VerbArguments& arguments = report.settings.verb;
  check_bench_flags(report);
  if (!arguments.load.url.empty()) return bench_server(report);
  const std::string_view asked = arguments.concurrency;
  const std::vector<int64_t> counts =
      concurrencies(asked.empty() ? kDefaultConcurrency : asked, kMaxConcurrency);
  const Settings settings =
      offline(report.settings, *std::max_element(counts.begin(), counts.end()));
  WorkerPool workers(settings.workers);
  MetricsRegistry metrics;
  ProgressBar bar(stderr);
  const auto model = LoadedModel::load(settings, workers, metrics, bar.callback());
  bar.finish();
  if (model->model() == nullptr) throw std::runtime_error("a script has nothing to measure.");
  // The machine's own best read, whatever variant is measured.
  BandwidthProbe probe(select_kernels("auto"), workers);
  std::mt19937_64 random(1);
  // Weights, keys and values are in memory afterwards.
  prefill_tokens_per_second(*model, random, counts.back(), arguments.prompt_tokens);
  if (!arguments.json) {
    std::printf(
        "%s, %d threads; prompts of %lld tokens, %lld decoded; medians of %d rounds\n"
        "weights/probe: bytes of weights per step over what a plain read of memory by the same\n"
        "threads gets in that time, with its least and most; all/probe: keys and values, too\n"
        "concurrency prefill tok/s decode tok/s  step ms probe GB/s weights/probe    all/probe "
        "dropped\n",
        select_kernels(settings.model.isa).name, workers.num_threads(),
        static_cast<long long>(arguments.prompt_tokens),
        static_cast<long long>(arguments.decode_tokens), kRounds);
  }
  for (const int64_t count : counts) {
    std::vector<Round> rounds;
    for (int i = 0; i < kRounds; ++i) {
      rounds.push_back(measure(*model, probe, random, count, settings));
    }
    const Figures figures =
        figures_of(count, std::move(rounds), weight_bytes_per_step(*model->model()),
                   kv_bytes_per_step(*model->model(), count, arguments));
    arguments.json ? print_json(figures) : print_row(figures);
  }
  return 0;
}

}  // namespace tidemill
