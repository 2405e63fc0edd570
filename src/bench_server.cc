#include "bench_server.h"

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <stdexcept>

#include "base/check.h"
#include "base/log.h"
#include "base/option_table.h"
#include "load/load_report.h"
#include "load/run_load.h"

namespace tidemill {
namespace {

constexpr std::string_view kWithUrl =
    "url cacert endpoint api_key stream ignore_eos num_prompts duration request_rate burstiness "
    "num_warmups random_input_len random_output_len random_range_ratio random_vocab_size dataset "
    "goodput metric_percentiles save_result answer_timeout seed temperature";
constexpr std::string_view kWithBoth = "concurrency json log_level log_format";
constexpr double kBusyClient = 0.5;  // above this share the client itself may be what is measured
constexpr int64_t kDefaultClients = 16;
constexpr int64_t kMaxServerConcurrency = 65'536;

template <typename T>
T value_or_throw(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

std::string base_of(const LoadOptions& options) {
  std::string url = options.url;
  if (!url.starts_with("http://") && !url.starts_with("https://")) {
    throw std::runtime_error(
        format("url is {}; it must be http://HOST:PORT or https://HOST:PORT.", url));
  }
  while (url.ends_with('/')) url.pop_back();
  if (url.ends_with("/v1")) url.resize(url.size() - 3);  // as OpenAI clients spell it
  return url;
}

void check_cacert(const LoadOptions& options) {
  if (options.cacert.empty()) return;
  if (!options.url.starts_with("https://")) {
    throw std::runtime_error(format(
        "cacert is for https, and url is {}: leave cacert out, or make it https.", options.url));
  }
  if (!std::ifstream(options.cacert)) {
    throw std::runtime_error(
        format("cacert is {}, which cannot be read; name a PEM file.", options.cacert));
  }
}

uint64_t seed_of(const VerbArguments& arguments) {
  uint64_t seed = 1;
  const std::string& text = arguments.seed;
  if (text.empty()) return seed;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw std::runtime_error(format("seed is {}; it must be a number from 0 to 2^64 - 1.", text));
  }
  return seed;
}

// The runs to make: a number of requests in flight for each; 0: no bound.
std::vector<int64_t> concurrencies_of(const VerbArguments& arguments) {
  if (!arguments.concurrency.empty()) {
    return concurrencies(arguments.concurrency, kMaxServerConcurrency);
  }
  return {arguments.load.request_rate > 0 ? 0 : kDefaultClients};
}

std::string date_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &parts));
}

// A connection for each request in flight: as many descriptors as this process may have.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // without it there are fewer, and failures say so
}

// Called before anything is measured, too, without lines: to see whether it can be done.
void save(const std::string& path, const std::string& lines) {
  if (path.empty()) return;
  std::ofstream file(path, std::ios::binary | (lines.empty() ? std::ios::app : std::ios::trunc));
  file << lines;
  file.close();
  if (!file) throw std::runtime_error(format("{} cannot be written.", path));
}

}  // namespace

std::vector<int64_t> concurrencies(std::string_view text, int64_t most) {
  const std::string_view whole = text;
  std::vector<int64_t> numbers;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    int64_t number = 0;
    if (assign(&number, between(1, static_cast<double>(most)), text.substr(0, comma))) {
      throw std::runtime_error(
          format("--concurrency has {}; it must be numbers from 1 to {}, separated by commas.",
                 whole, most));
    }
    numbers.push_back(number);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  if (numbers.empty()) throw std::runtime_error("--concurrency is empty; try 1,4,16.");
  return numbers;
}

void check_bench_flags(const SettingsReport& report) {
  const bool with_url = !report.settings.verb.load.url.empty();
  for (const std::string& flag : report.flags) {
    if (contains_word(kWithBoth, flag)) continue;
    if (with_url && !contains_word(kWithUrl, flag)) {
      throw std::runtime_error(
          format("{} does nothing with url: the server has its own settings. "
                 "Leave one of them out.",
                 flag));
    }
    if (!with_url && contains_word(kWithUrl, flag)) {
      throw std::runtime_error(
          format("{} needs url: it is about requests to a running server.", flag));
    }
  }
}

int bench_server(const SettingsReport& report) {
  const VerbArguments& arguments = report.settings.verb;
  LoadOptions options = arguments.load;
  options.url = base_of(options);
  check_cacert(options);
  const auto percents =
      value_or_throw(parse_percents(options.metric_percentiles, "metric_percentiles"));
  const Goodput goodput = value_or_throw(parse_goodput(options.goodput));
  const uint64_t seed = seed_of(arguments);
  const std::vector<int64_t> bounds = concurrencies_of(arguments);
  save(options.save_result, "");
  raise_descriptor_limit();

  HttpClient client({.url = options.url,
                     .cacert = options.cacert,
                     .api_key = options.api_key,
                     .answer_timeout_ms = options.answer_timeout_ms});
  std::string model = report.settings.model.model_id;
  if (model.empty()) model = first_model(client, options.url).value_or("");
  int64_t succeeded = 0;
  std::string saved;
  for (size_t i = 0; i < bounds.size(); ++i) {
    // Every run has prompts of its own: none finds those of another in a prefix cache.
    const Workload workload(options, model, seed + i, arguments.temperature);
    warm_up(client, workload, options, bounds[i]);
    const LoadRun run = run_load(client, workload, options, bounds[i], seed + i);
    const LoadReport figures = report_of(run, goodput, percents);
    const LoadHeading heading{
        .date = date_now(), .model = model, .options = options, .max_concurrency = bounds[i]};
    const std::string json = load_json(heading, figures);
    std::printf("%s\n", arguments.json ? json.c_str() : load_table(heading, figures).c_str());
    std::fflush(stdout);
    if (figures.client_busy_share > kBusyClient) {
      log_warning("this client was busy {:.0f} % of the time: the figures may be its own",
                  figures.client_busy_share * 100.0);
    }
    saved += json + "\n";
    succeeded += figures.completed;
  }
  save(options.save_result, saved);
  return succeeded > 0 ? 0 : 1;
}

}  // namespace tidemill
