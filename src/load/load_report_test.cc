#include "load/load_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"

namespace tidemill {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;

// Due at 1 s, sent at 1.5 s; text at 2, 2.25 and 2.75 s; over at 3 s; four tokens counted.
LoadRecord streamed() {
  return {.due = 1.0,
          .start = 1.5,
          .end = 3.0,
          .prompt_tokens_sent = 9,
          .answer = {.pieces = {2.0, 2.25, 2.75}, .prompt_tokens = 10, .completion_tokens = 4}};
}

LoadRecord uncounted() {
  return {.due = 0.0, .start = 0.0, .end = 2.0, .prompt_tokens_sent = 3, .answer = {.pieces = {1}}};
}

LoadRecord failed(const char* reason) { return {.end = 1.0, .answer = {.failure = reason}}; }

TEST(LoadReport, LatenciesAreMilliseconds) {
  const LoadReport report = report_of({.records = {streamed()}, .seconds = 4.0}, {}, {50});
  EXPECT_DOUBLE_EQ(report.ttft.mean, 500);
  EXPECT_DOUBLE_EQ(report.tpot.mean, 1000.0 / 3);  // from first text to end, over 4 - 1 tokens
  EXPECT_EQ(report.itl.count, 2);
  EXPECT_DOUBLE_EQ(report.itl.mean, 375);
  EXPECT_DOUBLE_EQ(report.e2el.mean, 1500);
  EXPECT_DOUBLE_EQ(report.client_queue.mean, 500);
}

TEST(LoadReport, TokensAreTheServersOrElseTheClients) {
  const LoadReport report =
      report_of({.records = {streamed(), uncounted()}, .seconds = 2.0}, {}, {});
  EXPECT_EQ(report.input_tokens, 13);
  EXPECT_EQ(report.output_tokens, 5);
  EXPECT_EQ(report.counted_inputs, 1);
  EXPECT_EQ(report.counted_outputs, 1);
  EXPECT_EQ(report.peak_concurrency, 2);
  EXPECT_EQ(report.tpot.count, 1);  // one token has no time for each further one
}

TEST(LoadReport, FailuresAreCountedByReasonAndMeasureNothing) {
  const LoadReport report = report_of(
      {.records = {failed("a"), streamed(), failed("b"), failed("a")}, .seconds = 1.0}, {}, {});
  EXPECT_EQ(report.completed, 1);
  EXPECT_EQ(report.failed, 3);
  EXPECT_EQ(report.failures.at("a"), 2);
  EXPECT_EQ(report.e2el.count, 1);
}

TEST(LoadReport, ReasonsAreBounded) {
  LoadRun run{.seconds = 1.0};
  for (int i = 0; i < 300; ++i) run.records.push_back(failed(std::to_string(i).c_str()));
  const LoadReport report = report_of(run, {}, {});
  EXPECT_EQ(report.failed, 300);
  EXPECT_EQ(report.failures.size(), 101);
  EXPECT_EQ(report.failures.at("others"), 200);
}

TEST(LoadReport, GoodIsWhatKeepsEveryBound) {
  const LoadRun run{.records = {streamed(), uncounted(), failed("x")}, .seconds = 2.0};
  const auto good = [&](const char* bounds) {
    return report_of(run, *parse_goodput(bounds), {}).goodput;
  };
  EXPECT_EQ(good("e2el:1500"), 0.5);
  EXPECT_EQ(good("e2el:2000,ttft:1000"), 1.0);
  EXPECT_EQ(good("ttft:499 tpot:1000"), 0.0);
  EXPECT_EQ(good("tpot:333"), 0.5);  // the answer of one token has nothing to keep
  EXPECT_EQ(good(""), std::nullopt);
}

TEST(LoadReport, BoundsThatNobodyKnowsAreRefused) {
  for (const char* wrong : {"itl:5", "ttft", "ttft:", "ttft:-1", "ttft:x", ":5"}) {
    const auto refused = parse_goodput(wrong);
    ASSERT_FALSE(refused) << wrong;
    EXPECT_THAT(refused.error().message, HasSubstr(wrong));
  }
}

TEST(LoadReport, JsonHasTheNamesThatToolsRead) {
  const LoadReport report = report_of({.records = {streamed(), failed("x")}, .seconds = 2.0},
                                      *parse_goodput("e2el:5000"), {50, 99, 99.9});
  const auto json = parse_json(load_json({.date = "20260101-000000", .model = "m"}, report));
  ASSERT_TRUE(json);
  for (const char* name : {"date",
                           "backend",
                           "model_id",
                           "num_prompts",
                           "request_rate",
                           "burstiness",
                           "max_concurrency",
                           "duration",
                           "completed",
                           "failed",
                           "total_input_tokens",
                           "total_output_tokens",
                           "request_throughput",
                           "request_goodput",
                           "output_throughput",
                           "total_token_throughput",
                           "max_output_tokens_per_s",
                           "max_concurrent_requests",
                           "mean_ttft_ms",
                           "median_tpot_ms",
                           "std_itl_ms",
                           "p99_e2el_ms",
                           "p99.9_ttft_ms",
                           "p50_client_queue_time_ms",
                           "p99_client_delay_ms",
                           "client_busy_share"}) {
    EXPECT_NE(json->find(name), nullptr) << name;
  }
  EXPECT_EQ(json->find("request_rate")->string(), "inf");
  EXPECT_THAT(json->find("request_throughput")->number(), DoubleNear(0.5, 1e-12));
  EXPECT_THAT(json->find("output_throughput")->number(), DoubleNear(2.0, 1e-12));
  EXPECT_EQ(json->find("failures")->array()[0].find("count")->integer(), 1);
}

TEST(LoadReport, WhatWasNotMeasuredIsNullAndSaysSo) {
  LoadRecord plain = uncounted();
  plain.answer.pieces.clear();
  const LoadReport report = report_of({.records = {plain}, .seconds = 2.0}, {}, {90});
  const auto json = parse_json(load_json({}, report));
  EXPECT_TRUE(json->find("p90_ttft_ms")->is_null());
  EXPECT_TRUE(json->find("request_goodput")->is_null());
  EXPECT_TRUE(json->find("p90_e2el_ms")->is_number());
  const std::string table = load_table({.model = "m"}, report);
  EXPECT_THAT(table, HasSubstr("TTFT           not measured"));
  EXPECT_THAT(table, HasSubstr("as sent"));
}

}  // namespace
}  // namespace tidemill
