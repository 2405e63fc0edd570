#include "server/pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/test_server.h"

namespace tidemill {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Key;
using testing::Not;
using testing::Pair;

class PagesTest : public ServerTest {
 protected:
  Answer page(RouteKind kind, std::string model = "") const {
    return answer_page({.kind = kind, .model = std::move(model)}, registry_, draining_);
  }
  bool draining_ = false;
};

TEST_F(PagesTest, TheWorstModelDecidesThePing) {
  EXPECT_EQ(page(RouteKind::kPing).body, "{}\n");
  registry_.add("m", {"m"});
  load({});
  EXPECT_EQ(page(RouteKind::kPing).head.status, 200);
  const size_t second = registry_.add("n", {"n"});
  EXPECT_EQ(page(RouteKind::kPing).head.status, 503);
  EXPECT_EQ(page(RouteKind::kPing).body,
            "{\n  \"m\": {\n    \"status\": \"Healthy\"\n  },\n  \"n\": {\n    \"status\": "
            "\"PENDING\"\n  }\n}\n");
  registry_.set_failed(second, "broken");
  EXPECT_EQ(page(RouteKind::kPing).head.status, 500);
  draining_ = true;
  EXPECT_EQ(page(RouteKind::kPing).head.status, 500);
}

TEST_F(PagesTest, NamesInThePingAreSafeInsideHtml) {
  registry_.add("<a&b='c'>", {"x"});
  EXPECT_THAT(page(RouteKind::kPing).body,
              HasSubstr("\"\\u003ca\\u0026b\\u003d\\u0027c\\u0027\\u003e\": {"));
}

TEST_F(PagesTest, HE_4_DrainingIsNotReadyButAlive) {
  registry_.add("m", {"m"});
  load({});
  EXPECT_EQ(page(RouteKind::kReady).body, R"({"status":"ok"})");
  draining_ = true;
  EXPECT_EQ(page(RouteKind::kReady).head.status, 503);
  EXPECT_THAT(page(RouteKind::kReady).body, HasSubstr("draining"));
  EXPECT_THAT(page(RouteKind::kReady).head.headers, Contains(Key("Retry-After")));
  EXPECT_EQ(page(RouteKind::kPing).head.status, 503);
  EXPECT_EQ(page(RouteKind::kLive).head.status, 200);
}

TEST_F(PagesTest, MO_3_OnlyModelsThatCanAnswerAreListed) {
  registry_.add("m", {"m", "alias"});
  registry_.add("loading", {"loading"});
  load({});
  const std::string list = page(RouteKind::kModelList).body;
  EXPECT_LT(list.find("\"id\":\"m\""), list.find("\"id\":\"alias\""));
  EXPECT_THAT(list, Not(HasSubstr("loading")));
  EXPECT_THAT(page(RouteKind::kModel, "alias").body, HasSubstr("\"id\":\"alias\""));
  EXPECT_EQ(page(RouteKind::kModel, "loading").head.status, 404);
  const Route all{.kind = RouteKind::kModelList, .query = {{"all", "true"}}};
  EXPECT_THAT(answer_page(all, registry_, false).body,
              HasSubstr(R"("max_model_len":0,"status":"loading"})"));
}

TEST_F(PagesTest, MO_1_CanonicalNamesComeBeforeAliases) {
  registry_.add("m", {"m", "alias"});
  load({});
  ModelFacts facts = facts_;
  facts.root = "folder";
  const auto other = make_executor({}, "n");
  registry_.set_ready(registry_.add("n", {"n", "another"}), facts, *other);
  const auto list = parse_json(page(RouteKind::kModelList).body);
  std::vector<std::string> ids;
  for (const JsonValue& model : list->find("data")->array()) {
    ids.push_back(model.find("id")->string());
    EXPECT_EQ(model.find("owned_by")->string(), "tidemill");
    EXPECT_GT(model.find("created")->integer(), 0);
    EXPECT_TRUE(model.find("parent")->is_null());
    EXPECT_EQ(model.find("max_model_len")->integer(), 4096);  // MO-2
  }
  EXPECT_THAT(ids, testing::ElementsAre("m", "n", "alias", "another"));
}

TEST_F(PagesTest, VersionAndLoadAreShortAnswers) {
  registry_.add("m", {"m"});
  EXPECT_EQ(page(RouteKind::kLoad).body, R"({"server_load":0})");
  load({});
  EXPECT_EQ(page(RouteKind::kLoad).body, R"({"server_load":0})");
  const auto version = parse_json(page(RouteKind::kVersion).body);
  EXPECT_NE(version->find("version")->string(), "");
  EXPECT_NE(version->find("build")->string(), "");
}

TEST_F(PagesTest, TheTokenizerOfTheOnlyOrTheNamedModelIsShown) {
  registry_.add("m", {"m"});
  EXPECT_EQ(page(RouteKind::kTokenizerInfo).head.status, 503);  // still loading
  load({});
  EXPECT_THAT(page(RouteKind::kTokenizerInfo).body, HasSubstr(R"("eos_token":"<|im_end|>")"));
  const Route other{.kind = RouteKind::kTokenizerInfo, .query = {{"model", "n"}}};
  EXPECT_EQ(answer_page(other, registry_, false).head.status, 404);
}

TEST_F(PagesTest, ER_3_RetriesAreToldWhereTheyHelp) {
  const Answer full = answer_error({.kind = ErrorKind::kQueueFull}, {.dialect = Dialect::kOpenAi});
  EXPECT_EQ(full.head.status, 429);
  EXPECT_THAT(full.head.headers, Contains(Pair("Retry-After", "1")));
  EXPECT_THAT(full.head.headers, Contains(Pair("x-should-retry", "true")));
  const Answer failed = answer_error({.kind = ErrorKind::kModelFailed}, {.dialect = Dialect::kLmi});
  EXPECT_EQ(failed.head.status, 503);
  EXPECT_THAT(failed.head.headers, Not(Contains(Key("Retry-After"))));
  EXPECT_THAT(failed.head.headers, Contains(Pair("x-should-retry", "false")));
  EXPECT_THAT(failed.head.headers, Contains(Pair("Pragma", "no-cache")));
  const Answer bad =
      answer_error({.kind = ErrorKind::kInvalidParameter}, {.dialect = Dialect::kOpenAi});
  EXPECT_THAT(bad.head.headers, Not(Contains(Key("x-should-retry"))));
}

TEST_F(PagesTest, WhoAsksWhileAModelLoadsIsToldToTakeHisTime) {
  registry_.add("m", {"m"});
  EXPECT_THAT(page(RouteKind::kReady).head.headers, Contains(Pair("Retry-After", "5")));
  const Answer loading = answer_error(registry_.find("m").error(), {.dialect = Dialect::kOpenAi});
  EXPECT_THAT(loading.head.headers, Contains(Pair("Retry-After", "5")));
}

TEST_F(PagesTest, CO_15_AModelAnswersToEachOfItsNames) {
  registry_.add("m", {"served", "other"});
  load({});
  for (const char* name : {"", "m", "served", "other"}) {
    EXPECT_TRUE(registry_.find(name)) << name;
  }
  EXPECT_EQ(registry_.find("M").error().kind, ErrorKind::kModelNotFound);
}

TEST_F(PagesTest, CO_16_WithSeveralModelsANameIsNeeded) {
  registry_.add("m", {"m"});
  registry_.add("n", {"n"});
  load({});
  EXPECT_EQ(registry_.find("").error().kind, ErrorKind::kMissingParameter);
  EXPECT_EQ(registry_.find("n").error().kind, ErrorKind::kModelLoading);
  EXPECT_TRUE(registry_.find("m"));
  registry_.set_failed(1, "secret path");
  EXPECT_EQ(registry_.find("n").error().kind, ErrorKind::kModelFailed);
  EXPECT_THAT(registry_.find("n").error().message, Not(HasSubstr("secret path")));
}

}  // namespace
}  // namespace tidemill
