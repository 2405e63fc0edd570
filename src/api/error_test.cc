#include "api/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/json.h"

namespace tidemill {
namespace {

using testing::HasSubstr;

struct Expected {
  ErrorKind kind;
  std::string_view slug;
  int openai_status;
  std::string_view openai_type;
  int lmi_status;
  std::string_view lmi_type;
  bool retryable;
};

constexpr Expected kExpected[] = {
    {ErrorKind::kInvalidJson, "invalid_json", 400, "invalid_request_error", 424,
     "BadRequestException", false},
    {ErrorKind::kInvalidParameter, "invalid_parameter", 400, "invalid_request_error", 424,
     "BadRequestException", false},
    {ErrorKind::kTemplateError, "template_error", 400, "invalid_request_error", 424,
     "TranslateException", false},
    {ErrorKind::kUnauthorized, "invalid_api_key", 401, "authentication_error", 401,
     "UnauthorizedException", false},
    {ErrorKind::kModelNotFound, "model_not_found", 404, "invalid_request_error", 404,
     "ModelNotFoundException", false},
    {ErrorKind::kNotFound, "not_found", 404, "invalid_request_error", 404,
     "ResourceNotFoundException", false},
    {ErrorKind::kMethodNotAllowed, "method_not_allowed", 405, "invalid_request_error", 405,
     "MethodNotAllowedException", false},
    {ErrorKind::kBodyTooLarge, "body_too_large", 413, "invalid_request_error", 413,
     "BadRequestException", false},
    {ErrorKind::kQueueFull, "queue_full", 429, "rate_limit_error", 503, "WlmCapacityException",
     true},
    {ErrorKind::kDraining, "draining", 503, "server_error", 503, "WlmShutdownException", true},
    {ErrorKind::kModelLoading, "model_loading", 503, "server_error", 503, "WlmException", true},
    {ErrorKind::kModelFailed, "model_failed", 503, "server_error", 503, "WlmException", false},
    {ErrorKind::kDeadline, "deadline", 503, "server_error", 503, "TranslateException", false},
    {ErrorKind::kEngineError, "engine_error", 500, "server_error", 424, "TranslateException", true},
    {ErrorKind::kNumericalError, "numerical_error", 500, "server_error", 424, "TranslateException",
     false},
    {ErrorKind::kInternal, "internal", 500, "server_error", 500, "InternalServerException", true},
};

TEST(Error, EveryKindHasItsStatusAndSlugInEachDialect) {
  for (const Expected& expected : kExpected) {
    SCOPED_TRACE(expected.slug);
    const Error error{.kind = expected.kind, .field = "", .message = "no"};
    const ErrorAnswer openai = error_answer(error, Dialect::kOpenAi, "id");
    const ErrorAnswer lmi = error_answer(error, Dialect::kLmi, "id");
    EXPECT_EQ(error_slug(expected.kind), expected.slug);
    EXPECT_EQ(openai.status, expected.openai_status);
    EXPECT_EQ(openai.retryable, expected.retryable);
    EXPECT_EQ(parse_json(openai.body)->find("error")->find("type")->string(), expected.openai_type);
    EXPECT_EQ(lmi.status, expected.lmi_status);
    EXPECT_EQ(lmi.retryable, expected.retryable);
    EXPECT_EQ(parse_json(lmi.body)->find("type")->string(), expected.lmi_type);
  }
}

TEST(Error, EveryKindThereIsHasARow) {
  for (int kind = 0; kind <= static_cast<int>(ErrorKind::kInternal); ++kind) {
    EXPECT_FALSE(error_slug(static_cast<ErrorKind>(kind)).empty());
  }
}

TEST(Error, WhatTheFrontRefusesOnDjlsRoutesIs400) {
  const Error error{.kind = ErrorKind::kMissingParameter, .field = "model_name", .message = "no"};
  const ErrorAnswer front = error_answer(error, Dialect::kLmi, "id", RefusedBy::kFront);
  EXPECT_EQ(front.status, 400);
  EXPECT_EQ(parse_json(front.body)->find("code")->integer(), 400);
  EXPECT_EQ(error_answer(error, Dialect::kLmi, "id").status, 424);
  const Error full{.kind = ErrorKind::kQueueFull, .field = "", .message = "no"};
  EXPECT_EQ(error_answer(full, Dialect::kLmi, "id", RefusedBy::kFront).status, 503);
  EXPECT_EQ(error_answer(full, Dialect::kOpenAi, "id", RefusedBy::kFront).status, 429);
}

TEST(Error, TheOperatorMayChooseStatusesOfDjlsRoutes) {
  const auto status = [](ErrorKind kind, const LmiErrorCodes& codes,
                         RefusedBy by = RefusedBy::kModel) {
    const Error error{.kind = kind, .field = "", .message = "no"};
    const LmiOptions options{.codes = codes};
    EXPECT_NE(error_answer(error, Dialect::kOpenAi, "id", by, options).status, 499);
    const ErrorAnswer answer = error_answer(error, Dialect::kLmi, "id", by, options);
    EXPECT_EQ(parse_json(answer.body)->find("code")->integer(), answer.status);
    return answer.status;
  };
  const LmiErrorCodes bad{.bad_request = 499};
  EXPECT_EQ(status(ErrorKind::kInvalidJson, bad), 499);
  EXPECT_EQ(status(ErrorKind::kMissingParameter, bad, RefusedBy::kFront), 499);
  EXPECT_EQ(status(ErrorKind::kEngineError, bad), 424);
  EXPECT_EQ(status(ErrorKind::kModelLoading, {.not_ready = 499}), 499);
  EXPECT_EQ(status(ErrorKind::kDraining, {.not_ready = 499}), 499);
  EXPECT_EQ(status(ErrorKind::kQueueFull, {.queue_full = 499}), 499);
  EXPECT_EQ(status(ErrorKind::kDeadline, {.timeout = 499}), 499);
  EXPECT_EQ(status(ErrorKind::kInternal, {.server_error = 499}), 499);
}

TEST(Error, Version025HasThreeMembers) {
  const Error error{.kind = ErrorKind::kModelNotFound,
                    .field = "model_name",
                    .message = "Model or workflow not found: foo"};
  EXPECT_EQ(error_answer(error, Dialect::kLmi, "id", RefusedBy::kFront, {.compat = "0.25.0"}).body,
            "{\n  \"code\": 404,\n  \"type\": \"ModelNotFoundException\",\n"
            "  \"message\": \"Model or workflow not found: foo\"\n}\n");
}

TEST(Error, WhatOnlyHttpCanGetWrongHasItsStatusAndCode) {
  for (const auto& [status, slug] : {std::pair(400, "malformed_request"),
                                     {408, "request_timeout"},
                                     {414, "target_too_long"},
                                     {431, "header_fields_too_large"},
                                     {501, "not_implemented"},
                                     {503, "overloaded"},
                                     {505, "version_not_supported"}}) {
    const ErrorAnswer openai = http_error_answer(status, "no", Dialect::kOpenAi, "id");
    const ErrorAnswer lmi = http_error_answer(status, "no", Dialect::kLmi, "id");
    EXPECT_EQ(openai.status, status);
    EXPECT_EQ(parse_json(openai.body)->find("error")->find("code")->string(), slug);
    EXPECT_EQ(parse_json(lmi.body)->find("code")->integer(), status);
    EXPECT_EQ(parse_json(lmi.body)->find("reason")->string(), slug);
    EXPECT_EQ(http_error_slug(status), slug);
  }
}

TEST(Error, WithoutMemoryARequestMayComeAgain) {
  const ErrorAnswer openai = http_error_answer(503, "no", Dialect::kOpenAi, "id");
  EXPECT_TRUE(openai.retryable);
  EXPECT_EQ(parse_json(openai.body)->find("error")->find("type")->string(), "server_error");
  const ErrorAnswer lmi = http_error_answer(503, "no", Dialect::kLmi, "id");
  EXPECT_EQ(parse_json(lmi.body)->find("type")->string(), "WlmCapacityException");
  const LmiOptions options{.codes = {.queue_full = 499}};
  EXPECT_EQ(http_error_answer(503, "no", Dialect::kLmi, "id", options).status, 499);
  EXPECT_FALSE(http_error_answer(400, "no", Dialect::kLmi, "id").retryable);
}

TEST(Error, SlugsAreAClosedSetWithoutRepetition) {
  const auto slugs = error_slugs();
  EXPECT_EQ(std::set(slugs.begin(), slugs.end()).size(), slugs.size());
  EXPECT_THAT(slugs, testing::IsSupersetOf({"queue_full", "internal", "request_timeout"}));
}

TEST(Error, OpenAiNamesAllFourMembers) {
  const Error error{.kind = ErrorKind::kInvalidParameter, .field = "n", .message = "n is 0."};
  EXPECT_EQ(error_answer(error, Dialect::kOpenAi, "id").body,
            R"({"error":{"message":"n is 0.","type":"invalid_request_error","param":"n",)"
            R"("code":"invalid_parameter"}})");
  const Error no_field{.kind = ErrorKind::kQueueFull, .field = "", .message = "full"};
  EXPECT_EQ(error_answer(no_field, Dialect::kPlain, "id").body,
            R"({"error":{"message":"full","type":"rate_limit_error","param":null,)"
            R"("code":"queue_full"}})");
}

TEST(Error, LmiIsPrettyPrintedAndSafeInsideHtml) {
  const Error error{
      .kind = ErrorKind::kInvalidParameter, .field = "top_p", .message = "a<b> & 'c' = \"d\""};
  EXPECT_EQ(error_answer(error, Dialect::kLmi, "id-1").body,
            "{\n  \"code\": 424,\n  \"type\": \"BadRequestException\",\n"
            "  \"message\": \"a\\u003cb\\u003e \\u0026 \\u0027c\\u0027 \\u003d \\\"d\\\"\",\n"
            "  \"error\": \"a\\u003cb\\u003e \\u0026 \\u0027c\\u0027 \\u003d \\\"d\\\"\",\n"
            "  \"reason\": \"invalid_parameter\",\n  \"param\": \"top_p\",\n"
            "  \"request_id\": \"id-1\"\n}\n");
}

TEST(Error, ATooLongPromptHasTheSlugOfItsDialect) {
  const Error error{.kind = ErrorKind::kPromptTooLong, .field = "prompt", .message = "long"};
  EXPECT_THAT(error_answer(error, Dialect::kOpenAi, "").body, HasSubstr("context_length_exceeded"));
  EXPECT_THAT(error_answer(error, Dialect::kLmi, "").body, HasSubstr("prompt_too_long"));
}

}  // namespace
}  // namespace tidemill
