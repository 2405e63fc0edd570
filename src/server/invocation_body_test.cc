#include "server/invocation_body.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::ElementsAre;

constexpr const char* kForm = "application/x-www-form-urlencoded";

InvocationBody taken(std::string_view target, std::string type, std::string body) {
  const Route route = std::get<Route>(find_route("POST", target));
  HttpHead head{.method = "POST"};
  if (!type.empty()) head.fields.emplace_back("content-type", std::move(type));
  auto result = InvocationBody::take(route, head, std::move(body));
  EXPECT_TRUE(result) << result.error().message;
  return result ? std::move(*result) : InvocationBody{};
}

std::string json(const InvocationBody& body) {
  const auto value = body.json();
  return value ? to_json(*value) : value.error().field + ": " + value.error().message;
}

TEST(InvocationBody, JsonWithoutATypeIsJson) {
  EXPECT_EQ(json(taken("/invocations", "", R"({"inputs":"x"})")), R"({"inputs":"x"})");
}

TEST(InvocationBody, WhatCurlCallsAFormIsJsonWhenItLooksLikeIt) {
  EXPECT_EQ(json(taken("/invocations", kForm, R"({"inputs":"a=b&c+%20"})")),
            R"({"inputs":"a=b&c+%20"})");
  EXPECT_EQ(taken("/invocations", kForm, "{bad").json().error().kind, ErrorKind::kInvalidJson);
}

TEST(InvocationBody, OtherFormsAreForms) {
  EXPECT_EQ(json(taken("/invocations", kForm, "inputs=a+b&parameters=%7B%22n%22%3A1%7D")),
            R"({"inputs":"a b","parameters":{"n":1}})");
  EXPECT_EQ(taken("/invocations", kForm, "hello").json().error().kind, ErrorKind::kEmptyPrompt);
}

TEST(InvocationBody, WithoutABodyTheQueryIsAForm) {
  EXPECT_EQ(json(taken("/invocations?inputs=hi%20there&model_name=m", "", "")),
            R"({"inputs":"hi there"})");
  EXPECT_EQ(json(taken("/invocations?model_name=m", "", "")), R"({"inputs":""})");
}

TEST(InvocationBody, BesideABodyTheQueryIsReported) {
  const InvocationBody body =
      taken("/invocations?model_name=m&x=1&inputs=y", "", R"({"inputs":"z"})");
  EXPECT_EQ(json(body), R"({"inputs":"z"})");
  EXPECT_THAT(body.ignored(), ElementsAre("x", "inputs"));
  EXPECT_EQ(body.part("x"), "1");
  EXPECT_THAT(taken("/invocations?inputs=y", "", "").ignored(), ElementsAre());
}

TEST(InvocationBody, AFormThatIsNoneIsTheFrontsToRefuse) {
  const Route route = std::get<Route>(find_route("POST", "/invocations"));
  const HttpHead head{.method = "POST", .fields = {{"content-type", "multipart/form-data"}}};
  EXPECT_FALSE(InvocationBody::take(route, head, "x"));
}

}  // namespace
}  // namespace tidemill
