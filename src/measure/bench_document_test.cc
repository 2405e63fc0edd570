#include "measure/bench_document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/select.h"
#include "model/random_engine_dir.h"

namespace tidemill {
namespace {

using testing::HasSubstr;

Architecture small() {
  return {.family = "llama",
          .hidden_size = 64,
          .num_layers = 2,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 16,
          .intermediate_size = 96,
          .vocab_size = 160,
          .max_positions = 256,
          .tied_head = true};
}

const Model& small_model() {
  static const RandomEngineDir dir(small(), PackedFormat::kBf16, 1, 1.0f);
  static const Model model(dir.dir());
  return model;
}

Figures figures(double arithmetic_rate) {
  const Rates rates{.bytes = 10.0, .operations = {.body = arithmetic_rate}};
  return figures_of({{.work = {.tokens = 4.0, .bytes = 20.0, .operations = {.body = 30.0}},
                      .seconds = 4.0,
                      .calls = 2,
                      .before = rates,
                      .after = rates}});
}

JsonValue document_with(const Figures& of_cell) {
  BenchDocument document("grid", select_kernels("reference"), 2, small_model(), "tide");
  document.set_limits(256, 64, 12);
  document.add(BenchCell{.phase = "decode",
                         .concurrency = 4,
                         .context = 128,
                         .mean_context = 140,
                         .figures = of_cell});
  document.add(LeftOut{.phase = "decode", .concurrency = 64, .context = 128, .reason = "no room"});
  document.add(KernelLine{.kernel = "rms_norm", .rows = 4, .figures = of_cell, .has_limit = false});
  return *parse_json(document.json());
}

TEST(BenchDocument, SaysWhichMachineProgramAndModelItIsOf) {
  const JsonValue json = document_with(figures(10.0));
  EXPECT_EQ(json.find("schema")->string(), "tidemill-bench/1");
  EXPECT_EQ(json.find("kind")->string(), "grid");
  EXPECT_EQ(json.find("machine")->find("isa")->string(), "reference");
  EXPECT_EQ(json.find("machine")->find("threads")->integer(), 2);
  EXPECT_FALSE(json.find("machine")->find("vendor")->string().empty());
  EXPECT_FALSE(json.find("program")->find("version")->string().empty());
  EXPECT_EQ(json.find("model")->find("name")->string(), "tide");
  EXPECT_EQ(json.find("model")->find("format")->string(), "bf16");
  EXPECT_EQ(json.find("limits")->find("kv_blocks")->integer(), 12);
  EXPECT_EQ(json.find("left_out")->array().front().find("reason")->string(), "no room");
}

TEST(BenchDocument, ACellHasItsProbesAndItsShares) {
  const JsonValue json = document_with(figures(10.0));
  const JsonValue& cell = json.find("cells")->array().front();
  EXPECT_EQ(cell.find("phase")->string(), "decode");
  EXPECT_EQ(cell.find("concurrency")->integer(), 4);
  EXPECT_DOUBLE_EQ(cell.find("call_ms")->find("median")->number(), 2000.0);
  EXPECT_DOUBLE_EQ(cell.find("share_of_memory")->find("median")->number(), 0.5);
  EXPECT_DOUBLE_EQ(cell.find("share_of_arithmetic")->find("median")->number(), 0.75);
  EXPECT_DOUBLE_EQ(cell.find("share")->find("median")->number(), 0.75);
  EXPECT_EQ(cell.find("bound_by")->string(), "arithmetic");
  EXPECT_DOUBLE_EQ(cell.find("probe")->find("gflop_per_second")->find("body")->number(), 10e-9);
  EXPECT_TRUE(cell.find("probe")->find("gflop_per_second")->find("head")->is_null());
}

TEST(BenchDocument, WhatWasNotProbedIsNull) {
  const JsonValue json = document_with(figures(0.0));
  const JsonValue& cell = json.find("cells")->array().front();
  EXPECT_TRUE(cell.find("share_of_arithmetic")->is_null());
  EXPECT_DOUBLE_EQ(cell.find("share")->find("median")->number(), 0.5);
  // A kernel that lives in caches has no share of anything.
  EXPECT_EQ(json.find("kernels")->array().front().find("share"), nullptr);
}

TEST(BenchDocument, LinesForPeopleSayTheSame) {
  const BenchCell cell{
      .phase = "prefill", .concurrency = 1, .context = 512, .figures = figures(10.0)};
  EXPECT_THAT(cell_line(cell), HasSubstr("0.75 (0.75-0.75)"));
  EXPECT_THAT(
      kernel_line({.kernel = "attention", .rows = 16, .context = 1024, .figures = figures(0.0)}),
      HasSubstr("attention of 1024"));
  EXPECT_THAT(left_out_line({.phase = "decode", .reason = "no room"}),
              HasSubstr("left out: no room"));
}

}  // namespace
}  // namespace tidemill
