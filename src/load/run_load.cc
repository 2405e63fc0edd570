#include "load/run_load.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <stdexcept>

#include "base/check.h"
#include "base/json.h"
#include "load/arrivals.h"

namespace tidemill {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kLongestWait{1000};
constexpr size_t kMaxTurns = 1'000'000;
constexpr size_t kMaxModelListBytes = size_t{16} << 20;
// Warm-ups come from the other end of the numbers: none of them is in the run's prefix cache.
constexpr uint64_t kWarmUpIndex = uint64_t{1} << 62;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class Loop {
 public:
  Loop(HttpClient& client, const Workload& workload, const LoadOptions& options,
       int64_t max_concurrency, uint64_t first_index)
      : client_(client),
        workload_(workload),
        options_(options),
        max_concurrency_(max_concurrency),
        first_index_(first_index),
        begin_(Clock::now()) {}

  LoadRun run(Arrivals* arrivals) {
    if (arrivals != nullptr) next_arrival_ = arrivals->next();
    while (true) {
      const double turn_begin = now();
      client_.work();
      arrivals != nullptr ? take_arrivals(*arrivals) : refill();
      if (num_running_ == 0 && waiting_.empty() && !may_begin(now())) break;
      end_turn(turn_begin);
      client_.wait(time_to_wait(arrivals != nullptr));
    }
    run_.seconds = now();
    return std::move(run_);
  }

 private:
  double now() const { return seconds_since(begin_); }

  // With a duration, requests begin until it is over; else until all have begun.
  bool may_begin(double when) const {
    if (options_.duration_ms > 0) return when * 1000.0 < static_cast<double>(options_.duration_ms);
    return num_begun_ < options_.num_prompts;
  }

  void refill() {
    while (num_running_ < max_concurrency_ && may_begin(now())) {
      ++num_begun_;
      send(now());
    }
  }

  void take_arrivals(Arrivals& arrivals) {
    while (next_arrival_ <= now() && may_begin(next_arrival_)) {
      ++num_begun_;
      waiting_.push_back(next_arrival_);
      next_arrival_ = arrivals.next();
    }
    while (!waiting_.empty() && (max_concurrency_ == 0 || num_running_ < max_concurrency_)) {
      const double due = waiting_.front();
      waiting_.pop_front();
      send(due);
    }
  }

  void send(double due) {
    LoadBody body = workload_.body(first_index_ + run_.records.size());
    const size_t index = run_.records.size();
    run_.records.push_back({.due = due, .prompt_tokens_sent = body.prompt_tokens});
    auto reader = std::make_shared<std::unique_ptr<AnswerReader>>();  // both listeners own it
    HttpListener listener;
    listener.on_bytes = [this, reader](const HttpHeadFacts& head, std::string_view bytes) {
      const double when = now();
      if (!*reader) *reader = std::make_unique<AnswerReader>(head.status, head.content_type);
      return (*reader)->push(bytes, when);
    };
    listener.on_end = [this, reader, index](const HttpHeadFacts& head, const std::string& failure) {
      LoadRecord& record = run_.records[index];
      record.end = now();
      if (!*reader) *reader = std::make_unique<AnswerReader>(head.status, head.content_type);
      record.answer = (*reader)->end();
      if (!failure.empty()) record.answer.failure = failure;
      --num_running_;
    };
    ++num_running_;
    const double start = now();
    run_.records[index].start = start;
    client_.send(options_.endpoint, std::move(body.json), std::move(listener));
  }

  void end_turn(double turn_begin) {
    const double turn = now() - turn_begin;
    run_.busy_seconds += turn;
    if (run_.turns.size() < kMaxTurns) {
      run_.turns.push_back(turn);
    } else {
      run_.turns[next_turn_++ % kMaxTurns] = turn;
    }
  }

  // The last millisecond before an arrival is waited out awake: sockets wait in whole ones.
  milliseconds time_to_wait(bool open) const {
    if (!open || !may_begin(next_arrival_)) return kLongestWait;
    const auto left = static_cast<int64_t>((next_arrival_ - now()) * 1000.0);
    return std::clamp(milliseconds(left), milliseconds(0), kLongestWait);
  }

  HttpClient& client_;
  const Workload& workload_;
  const LoadOptions& options_;
  const int64_t max_concurrency_;
  const uint64_t first_index_;
  const Clock::time_point begin_;
  LoadRun run_;
  std::deque<double> waiting_;  // arrivals that the bound holds back; at most num_prompts
  double next_arrival_ = 0.0;
  int64_t num_begun_ = 0;
  int64_t num_running_ = 0;
  size_t next_turn_ = 0;
};

}  // namespace

LoadRun run_load(HttpClient& client, const Workload& workload, const LoadOptions& options,
                 int64_t max_concurrency, uint64_t seed) {
  Loop loop(client, workload, options, max_concurrency, 0);
  if (options.request_rate == 0.0) return loop.run(nullptr);
  Arrivals arrivals(options.request_rate, options.burstiness, seed);
  return loop.run(&arrivals);
}

void warm_up(HttpClient& client, const Workload& workload, const LoadOptions& options,
             int64_t max_concurrency) {
  if (options.num_warmups == 0) return;
  LoadOptions warm = options;
  warm.num_prompts = options.num_warmups;
  warm.duration_ms = 0;
  Loop loop(client, workload, warm, std::max<int64_t>(1, max_concurrency), kWarmUpIndex);
  const LoadRun run = loop.run(nullptr);
  for (const LoadRecord& record : run.records) {
    if (record.succeeded()) return;
  }
  throw std::runtime_error(
      format("{}{}: {}", options.url, options.endpoint, run.records.back().answer.failure));
}

std::optional<std::string> first_model(HttpClient& client, const std::string& url) {
  std::string body, failure;
  int status = 0;
  HttpListener listener;
  listener.on_bytes = [&body](const HttpHeadFacts&, std::string_view bytes) {
    body += bytes;
    return body.size() <= kMaxModelListBytes;
  };
  listener.on_end = [&](const HttpHeadFacts& head, const std::string& reason) {
    status = head.status;
    failure = reason;
  };
  client.send("/v1/models", "", std::move(listener));
  while (client.num_running() > 0) {
    client.wait(kLongestWait);
    client.work();
  }
  if (!failure.empty()) throw std::runtime_error(format("{}: {}", url, failure));
  const auto json = parse_json(body);
  const JsonValue* list = json && status == 200 ? json->find("data") : nullptr;
  if (list == nullptr || !list->is_array() || list->array().empty()) return std::nullopt;
  const JsonValue* id = list->array().front().find("id");
  return id != nullptr && id->is_string() ? std::optional(id->string()) : std::nullopt;
}

}  // namespace tidemill
