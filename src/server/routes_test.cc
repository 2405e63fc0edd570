#include "server/routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::HasSubstr;

Route found(std::string_view method, std::string_view target) {
  auto result = find_route(method, target);
  EXPECT_TRUE(std::holds_alternative<Route>(result)) << method << " " << target;
  auto* route = std::get_if<Route>(&result);
  return route != nullptr ? std::move(*route) : Route{};
}

NoRoute missed(std::string_view method, std::string_view target) {
  auto result = find_route(method, target);
  EXPECT_TRUE(std::holds_alternative<NoRoute>(result)) << method << " " << target;
  auto* miss = std::get_if<NoRoute>(&result);
  return miss != nullptr ? std::move(*miss) : NoRoute{};
}

TEST(Routes, EveryPathOfTheContractLeadsSomewhere) {
  EXPECT_EQ(found("GET", "/ping").kind, RouteKind::kPing);
  EXPECT_EQ(found("POST", "/invocations").kind, RouteKind::kInvocation);
  EXPECT_EQ(found("POST", "/predictions/m").model, "m");
  EXPECT_EQ(found("POST", "/models/m/invoke").model, "m");
  EXPECT_EQ(found("POST", "/predictions/m/v%201").model, "m");
  EXPECT_EQ(found("POST", "/predictions/m/v%201").version, "v 1");
  EXPECT_EQ(found("POST", "/v1/completions").kind, RouteKind::kCompletion);
  EXPECT_EQ(found("POST", "/v1/chat/completions").kind, RouteKind::kChat);
  EXPECT_EQ(found("GET", "/v1/models").kind, RouteKind::kModelList);
  EXPECT_EQ(found("POST", "/tokenize").kind, RouteKind::kTokenize);
  EXPECT_EQ(found("POST", "/detokenize").kind, RouteKind::kDetokenize);
  EXPECT_EQ(found("GET", "/tokenizer_info").kind, RouteKind::kTokenizerInfo);
  EXPECT_EQ(found("GET", "/version").kind, RouteKind::kVersion);
  EXPECT_EQ(found("GET", "/load").kind, RouteKind::kLoad);
  EXPECT_EQ(found("GET", "/openapi.json").kind, RouteKind::kOpenApi);
  EXPECT_EQ(found("GET", "/v1/health").kind, RouteKind::kReady);
  EXPECT_EQ(found("GET", "/health").kind, RouteKind::kReady);
  EXPECT_EQ(found("GET", "/health/live").kind, RouteKind::kLive);
  EXPECT_EQ(found("GET", "/health/ready").kind, RouteKind::kReady);
  EXPECT_EQ(found("GET", "/metrics").kind, RouteKind::kMetrics);
  EXPECT_EQ(found("GET", "/server/metrics").kind, RouteKind::kMetrics);
  EXPECT_EQ(found("GET", "/").kind, RouteKind::kReady);
}

TEST(Routes, CO_1_HeadIsGetAndOneTrailingSlashIsIgnored) {
  EXPECT_EQ(found("HEAD", "/health").kind, RouteKind::kReady);
  EXPECT_EQ(found("GET", "/health/").pattern, "/health");
  EXPECT_EQ(found("POST", "/invocations/").pattern, "/invocations");
  EXPECT_EQ(missed("GET", "/health//").kind, ErrorKind::kNotFound);
  EXPECT_EQ(missed("GET", "//health").kind, ErrorKind::kNotFound);
}

TEST(Routes, ModelIdsMayHoldSlashesRawOrEncoded) {
  EXPECT_EQ(found("GET", "/v1/models/org/name").model, "org/name");
  EXPECT_EQ(found("GET", "/v1/models/org%2Fname").model, "org/name");
  EXPECT_EQ(found("GET", "/v1/models/a%20b").model, "a b");
}

TEST(Routes, CO_2_PathsAreDecodedOnceAndOddOnesAreNotFound) {
  EXPECT_EQ(found("GET", "/%70ing").kind, RouteKind::kPing);
  EXPECT_EQ(found("POST", "/predictions/a%2562").model, "a%62");
  for (const char* path : {"/predictions/a%2Fb", "/predictions/%00", "/predictions/..", "/./ping",
                           "/x/../ping", "/%2e%2e/ping", "/ping%2F", "/ping%", "/ping%4",
                           "/ping%zz", "/models//invoke", "*", "/PING", "/v1/models/../ping"}) {
    const std::string_view method = std::string_view(path).find("models") != std::string::npos ||
                                            std::string_view(path).find("pred") != std::string::npos
                                        ? "POST"
                                        : "GET";
    EXPECT_EQ(missed(method, path).kind, ErrorKind::kNotFound) << path;
  }
}

TEST(Routes, CO_10_WrongMethodsNameTheRightOnes) {
  const NoRoute get = missed("GET", "/v1/completions");
  EXPECT_EQ(get.kind, ErrorKind::kMethodNotAllowed);
  EXPECT_EQ(get.allow, "POST");
  EXPECT_EQ(get.dialect, Dialect::kOpenAi);
  EXPECT_EQ(missed("DELETE", "/health").allow, "GET, HEAD");
  EXPECT_EQ(missed("PUT", "/invocations").dialect, Dialect::kLmi);
  EXPECT_EQ(found("POST", "/ping").kind, RouteKind::kPing);  // the original takes any
}

TEST(Routes, Version025TakesAnyMethodWhereAModelIsInvoked) {
  for (const char* path : {"/invocations", "/predictions/m", "/models/m/invoke"}) {
    const auto route = find_route("DELETE", path, InvocationMethods::kAny);
    ASSERT_TRUE(std::holds_alternative<Route>(route)) << path;
    EXPECT_EQ(std::get<Route>(route).kind, RouteKind::kInvocation);
  }
  for (const auto& [method, path] :
       {std::pair("DELETE", "/v1/completions"), std::pair("HEAD", "/invocations")}) {
    EXPECT_TRUE(std::holds_alternative<NoRoute>(find_route(method, path, InvocationMethods::kAny)));
  }
}

TEST(Routes, CO_10_AForgottenPrefixIsNamed) {
  EXPECT_THAT(missed("POST", "/chat/completions").message, HasSubstr("/v1/chat/completions"));
  EXPECT_EQ(missed("POST", "/chat/completions").dialect, Dialect::kLmi);
  EXPECT_EQ(missed("POST", "/v1/nothing").dialect, Dialect::kOpenAi);
}

TEST(Routes, QueriesAreDecodedAndAskedByName) {
  const Route route = found("POST", "/invocations?model_name=a%26b&empty=&flag&bad=%zz");
  EXPECT_EQ(route.query_value("model_name"), "a&b");
  EXPECT_EQ(route.query_value("empty"), "");
  EXPECT_EQ(route.query_value("bad"), "");
  EXPECT_EQ(route.query.size(), 3u);
}

TEST(ContentType, CO_3_JsonByAnyOfItsNames) {
  for (const char* type :
       {"", "application/json", "Application/JSON; charset=UTF-8", "application/vnd.x+json",
        "text/json", "application/json; charset=\"utf-8\"", "application/json ;charset=utf8"}) {
    EXPECT_TRUE(accepts_content_type(type, "x")) << type;
  }
}

TEST(ContentType, CO_3_WhatCurlSendsByMistakeIsJsonWhenItLooksLikeIt) {
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded"}) {
    EXPECT_TRUE(accepts_content_type(type, " \r\n{\"inputs\":1}")) << type;
    EXPECT_TRUE(accepts_content_type(type, "[1]")) << type;
    EXPECT_FALSE(accepts_content_type(type, "inputs=hello")) << type;
    EXPECT_FALSE(accepts_content_type(type, "")) << type;
  }
}

TEST(ContentType, CO_3_OtherTypesAndCharsetsAreRefused) {
  for (const char* type : {"application/octet-stream", "image/png", "multipart/form-data",
                           "application/json; charset=latin-1", "text/html"}) {
    EXPECT_FALSE(accepts_content_type(type, "{}")) << type;
  }
}

}  // namespace
}  // namespace tidemill
