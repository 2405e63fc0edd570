#include "load/load_report.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/option_table.h"

namespace tidemill {
namespace {

constexpr size_t kMaxReasons = 100;

// Of one answer that succeeded, in milliseconds.
struct Latencies {
  std::optional<double> ttft, tpot;
  double e2el = 0.0;
};

Latencies latencies_of(const LoadRecord& record) {
  Latencies latencies{.e2el = (record.end - record.start) * 1e3};
  if (record.answer.pieces.empty()) return latencies;
  latencies.ttft = (record.answer.pieces.front() - record.start) * 1e3;
  const int64_t tokens = record.completion_tokens();
  if (tokens > 1) {
    latencies.tpot = (latencies.e2el - *latencies.ttft) / static_cast<double>(tokens - 1);
  }
  return latencies;
}

// A bound on what was not measured is not kept, but for TPOT: one token has no further ones.
bool is_good(const Latencies& latencies, const Goodput& bounds) {
  if (bounds.ttft && (!latencies.ttft || *latencies.ttft > *bounds.ttft)) return false;
  if (bounds.tpot && latencies.tpot.value_or(0.0) > *bounds.tpot) return false;
  return !bounds.e2el || latencies.e2el <= *bounds.e2el;
}

// Pieces of text by the second in which they came; the best second.
double peak_per_second(const LoadRun& run) {
  std::map<int64_t, int64_t> seconds;
  double most = 0.0;
  for (const LoadRecord& record : run.records) {
    if (!record.succeeded()) continue;
    for (const double piece : record.answer.pieces) {
      most = std::max(most, static_cast<double>(++seconds[static_cast<int64_t>(piece)]));
    }
  }
  return most;
}

int64_t peak_concurrency(const LoadRun& run) {
  std::vector<std::pair<double, int>> events;
  for (const LoadRecord& record : run.records) {
    if (!record.succeeded()) continue;
    events.emplace_back(record.start, 1);
    events.emplace_back(record.end, -1);  // before a start of the same moment
  }
  std::sort(events.begin(), events.end());
  int64_t running = 0, most = 0;
  for (const auto& [when, change] : events) most = std::max(most, running += change);
  return most;
}

void count_failure(LoadReport& report, const std::string& reason) {
  ++report.failed;
  const bool room = report.failures.size() < kMaxReasons || report.failures.contains(reason);
  ++report.failures[room ? reason : "others"];
}

std::string percent_word(double percent) { return format("{}", percent); }

}  // namespace

Result<Goodput> parse_goodput(std::string_view text) {
  Goodput goodput;
  std::string commas(text);
  std::replace(commas.begin(), commas.end(), ',', ' ');
  for (const std::string_view word : words_of(commas)) {
    const size_t colon = std::min(word.find(':'), word.size());
    const std::string_view name = word.substr(0, colon);
    std::optional<double>* bound = name == "ttft"   ? &goodput.ttft
                                   : name == "tpot" ? &goodput.tpot
                                   : name == "e2el" ? &goodput.e2el
                                                    : nullptr;
    double milliseconds = 0.0;
    if (bound == nullptr || colon == word.size() ||
        assign(&milliseconds, between(0, 1e9), word.substr(colon + 1))) {
      return Error{.kind = ErrorKind::kInvalidParameter,
                   .field = "goodput",
                   .message = format("goodput has {}; it must be bounds in milliseconds for ttft, "
                                     "tpot or e2el, such as ttft:200,tpot:50,e2el:5000.",
                                     word)};
    }
    *bound = milliseconds;
  }
  return goodput;
}

LoadReport report_of(const LoadRun& run, const Goodput& goodput, std::vector<double> percents) {
  LoadReport report{.seconds = run.seconds, .percents = std::move(percents)};
  std::vector<double> ttft, tpot, itl, e2el, queue, delay;
  int64_t good = 0;
  for (const LoadRecord& record : run.records) {
    if (!record.succeeded()) {
      count_failure(report, record.answer.failure);
      continue;
    }
    ++report.completed;
    report.input_tokens += record.prompt_tokens();
    report.output_tokens += record.completion_tokens();
    report.counted_inputs += record.answer.prompt_tokens.has_value();
    report.counted_outputs += record.answer.completion_tokens.has_value();
    const Latencies latencies = latencies_of(record);
    good += is_good(latencies, goodput);
    e2el.push_back(latencies.e2el);
    queue.push_back((record.start - record.due) * 1e3);
    if (latencies.ttft) ttft.push_back(*latencies.ttft);
    if (latencies.tpot) tpot.push_back(*latencies.tpot);
    for (size_t i = 1; i < record.answer.pieces.size(); ++i) {
      itl.push_back((record.answer.pieces[i] - record.answer.pieces[i - 1]) * 1e3);
    }
  }
  for (const double turn : run.turns) delay.push_back(turn * 1e3);
  if (!goodput.empty()) report.goodput = report.per_second(good);
  report.ttft = summarize(std::move(ttft), report.percents);
  report.tpot = summarize(std::move(tpot), report.percents);
  report.itl = summarize(std::move(itl), report.percents);
  report.e2el = summarize(std::move(e2el), report.percents);
  report.client_queue = summarize(std::move(queue), report.percents);
  report.client_delay = summarize(std::move(delay), report.percents);
  report.peak_output_tokens = peak_per_second(run);
  report.peak_concurrency = peak_concurrency(run);
  report.client_busy_share = run.seconds > 0 ? run.busy_seconds / run.seconds : 0.0;
  return report;
}

namespace {

void write_summary(JsonWriter& out, const Summary& summary, std::string_view name,
                   const std::vector<double>& percents) {
  const auto write = [&](const std::string& figure, double value) {
    out.key(format("{}_{}_ms", figure, name));
    summary.count == 0 ? out.null() : out.value(value);  // nothing was measured
  };
  write("mean", summary.mean);
  write("median", summary.median);
  write("std", summary.std);
  write("max", summary.max);
  for (size_t i = 0; i < percents.size(); ++i) {
    write("p" + percent_word(percents[i]), summary.percentiles[i]);
  }
}

void write_heading(JsonWriter& out, const LoadHeading& heading) {
  const LoadOptions& options = heading.options;
  const char* backend = options.endpoint == "/v1/completions"        ? "openai"
                        : options.endpoint == "/v1/chat/completions" ? "openai-chat"
                                                                     : "sagemaker";
  out.key("date").value(heading.date).key("endpoint_type").value(backend);
  out.key("backend").value(backend).key("label").null().key("model_id").value(heading.model);
  out.key("tokenizer_id").null().key("num_prompts").value(options.num_prompts);
  out.key("request_rate");
  options.request_rate > 0 ? out.value(options.request_rate) : out.value("inf");
  out.key("burstiness").value(options.burstiness).key("max_concurrency");
  heading.max_concurrency > 0 ? out.value(heading.max_concurrency) : out.null();
}

void write_failures(JsonWriter& out, const LoadReport& report) {
  out.key("failures").begin_array();
  for (const auto& [reason, count] : report.failures) {
    out.begin_object().key("reason").value(reason).key("count").value(count).end_object();
  }
  out.end_array();
}

std::string line(std::string_view name, std::string_view value, std::string_view note = "") {
  return format("{:<38} {:>12}{}{}\n", name, value, note.empty() ? "" : "  ", note);
}

std::string number(double value) { return format("{:.2f}", value); }

std::string table_row(std::string_view name, const Summary& summary) {
  std::string row = format("{:<14}", name);
  if (summary.count == 0) return row + " not measured\n";
  for (const double value : {summary.mean, summary.median, summary.std}) {
    row += format(" {:>10.2f}", value);
  }
  for (const double value : summary.percentiles) row += format(" {:>10.2f}", value);
  return row + "\n";
}

std::string table_head(const LoadReport& report) {
  std::string head = format("{:<14} {:>10} {:>10} {:>10}", "milliseconds", "mean", "median", "std");
  for (const double percent : report.percents) {
    head += format(" {:>10}", "p" + percent_word(percent));
  }
  return head + "\n";
}

std::string counted(int64_t counted, const LoadReport& report, std::string_view otherwise) {
  if (counted == report.completed) return "as the server counted";
  if (counted == 0) return std::string(otherwise);
  return format("{} of {} answers counted; else {}", counted, report.completed, otherwise);
}

}  // namespace

std::string load_json(const LoadHeading& heading, const LoadReport& report) {
  std::string json;
  JsonWriter out(&json);
  out.begin_object();
  write_heading(out, heading);
  out.key("duration").value(report.seconds);
  out.key("completed").value(report.completed).key("failed").value(report.failed);
  out.key("total_input_tokens").value(report.input_tokens);
  out.key("total_output_tokens").value(report.output_tokens);
  out.key("request_throughput").value(report.per_second(report.completed));
  out.key("request_goodput");
  report.goodput ? out.value(*report.goodput) : out.null();
  out.key("output_throughput").value(report.per_second(report.output_tokens));
  out.key("total_token_throughput")
      .value(report.per_second(report.input_tokens + report.output_tokens));
  out.key("max_output_tokens_per_s");
  report.ttft.count == 0 ? out.null() : out.value(report.peak_output_tokens);
  out.key("max_concurrent_requests").value(report.peak_concurrency);
  write_summary(out, report.ttft, "ttft", report.percents);
  write_summary(out, report.tpot, "tpot", report.percents);
  write_summary(out, report.itl, "itl", report.percents);
  write_summary(out, report.e2el, "e2el", report.percents);
  write_summary(out, report.client_queue, "client_queue_time", report.percents);
  out.key("counted_inputs").value(report.counted_inputs);
  out.key("counted_outputs").value(report.counted_outputs);
  write_failures(out, report);
  out.key("client_busy_share").value(report.client_busy_share);
  write_summary(out, report.client_delay, "client_delay", report.percents);
  out.end_object();
  return json;
}

std::string load_table(const LoadHeading& heading, const LoadReport& report) {
  const LoadOptions& options = heading.options;
  std::string table = format("{}{}  {}\n", options.url, options.endpoint, heading.model);
  if (options.request_rate > 0) {
    table +=
        format("open loop, {} requests/s, burstiness {}", options.request_rate, options.burstiness);
  } else {
    table += "closed loop";
  }
  if (heading.max_concurrency > 0) {
    table += format(", at most {} at a time", heading.max_concurrency);
  }
  table += "\n" + line("successful requests", format("{}", report.completed));
  table += line("failed requests", format("{}", report.failed));
  for (const auto& [reason, count] : report.failures) table += format("  {} x {}\n", count, reason);
  table += line("duration, s", number(report.seconds));
  table += line("input tokens", format("{}", report.input_tokens),
                counted(report.counted_inputs, report, "as sent"));
  table += line("output tokens", format("{}", report.output_tokens),
                counted(report.counted_outputs, report, "pieces of text"));
  table += line("requests/s", number(report.per_second(report.completed)));
  if (report.goodput) table += line("good requests/s", number(*report.goodput));
  table += line("output tokens/s", number(report.per_second(report.output_tokens)));
  table +=
      line("all tokens/s", number(report.per_second(report.input_tokens + report.output_tokens)));
  table += line("most at a time", format("{}", report.peak_concurrency));
  table += table_head(report) + table_row("TTFT", report.ttft) + table_row("TPOT", report.tpot);
  table += table_row("ITL", report.itl) + table_row("E2EL", report.e2el);
  if (options.request_rate > 0) table += table_row("client queue", report.client_queue);
  table += table_row("client delay", report.client_delay);
  table += format(
      "client delay: what this client may have added to a time; it was busy {:.1f} % of "
      "the run\n",
      report.client_busy_share * 100.0);
  return table;
}

}  // namespace tidemill
