#include "server/model_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

HttpHead with(std::string name, std::string value) {
  return {.method = "POST", .fields = {{std::move(name), std::move(value)}}};
}

class ModelChoiceTest : public testing::Test {
 protected:
  ModelChoiceTest() {
    models_.add("m", {"m"});
    models_.add("n", {"n"});
  }

  Error refused(const HttpHead& head, std::string_view target = "/invocations",
                std::string_view body = "{}") const {
    const Route route = std::get<Route>(find_route("POST", target));
    const auto taken = InvocationBody::take(route, head, std::string(body));
    EXPECT_TRUE(taken);
    const auto model = route.dialect == Dialect::kLmi
                           ? choose_invoked_model(route, head, *taken, models_)
                           : choose_model(head, *parse_json(body), models_);
    EXPECT_FALSE(model);  // none is loaded
    return model ? Error{} : model.error();
  }

  MetricsRegistry metrics_;
  ModelRegistry models_{metrics_};
};

constexpr const char* kAttributes = "x-amzn-sagemaker-custom-attributes";

TEST(RequestProperty, IsAHeaderOrAPairOfTheCustomAttributes) {
  EXPECT_EQ(request_property(with("model_name", "a"), "model_name"), "a");
  const HttpHead head = with(kAttributes, "x=1; Model_Name = a=b ;flag;;y=");
  EXPECT_EQ(request_property(head, "model_name"), "a=b");
  EXPECT_EQ(request_property(head, "x"), "1");
  EXPECT_EQ(request_property(head, "y"), "");
  EXPECT_EQ(request_property(head, "flag"), "");
  EXPECT_EQ(request_property({}, "x"), "");
}

TEST_F(ModelChoiceTest, OnDjlsRoutesItIsPathThenQueryThenProperty) {
  EXPECT_EQ(refused({}, "/invocations").message, "Parameter model_name is required.");
  EXPECT_EQ(refused({}, "/predictions/n?model_name=x").kind, ErrorKind::kModelLoading);
  EXPECT_EQ(refused(with("model_name", "m"), "/invocations?model_name=x").message,
            "Model or workflow not found: x");
  EXPECT_EQ(refused(with("model_name", "x")).message, "Model or workflow not found: x");
  EXPECT_EQ(refused(with(kAttributes, "model_name=x")).message, "Model or workflow not found: x");
  EXPECT_EQ(refused(with(kAttributes, "model_name=m")).kind, ErrorKind::kModelLoading);
  EXPECT_EQ(refused({}, "/invocations", R"({"model":"m"})").field, "model_name");
}

TEST_F(ModelChoiceTest, APartOfAFormIsAskedLast) {
  HttpHead form = with("content-type", "application/x-www-form-urlencoded");
  EXPECT_EQ(refused(form, "/invocations", "model_name=x&inputs=a").message,
            "Model or workflow not found: x");
  EXPECT_EQ(refused(form, "/invocations?model_name=y", "model_name=x").message,
            "Model or workflow not found: y");
  EXPECT_EQ(refused(form, "/invocations", "adapter=x").field, "adapter");
  form.fields.emplace_back("model_name", "z");
  EXPECT_EQ(refused(form, "/invocations", "model_name=x").message,
            "Model or workflow not found: z");
  const HttpHead multipart = with("content-type", "multipart/form-data; boundary=b");
  EXPECT_EQ(refused(multipart, "/invocations",
                    "--b\r\nContent-Disposition: form-data; name=model_name\r\n\r\nm\r\n--b--")
                .kind,
            ErrorKind::kModelLoading);
}

TEST_F(ModelChoiceTest, TheTargetModelIsInformational) {
  EXPECT_EQ(refused(with("x-amzn-sagemaker-target-model", "x.tar.gz"), "/models/m/invoke").kind,
            ErrorKind::kModelLoading);
  EXPECT_EQ(refused(with("x-amzn-sagemaker-target-model", "m")).message,
            "Parameter model_name is required.");
}

TEST_F(ModelChoiceTest, OnV1ItIsTheBody) {
  const std::string_view path = "/v1/completions";
  EXPECT_EQ(refused({}, path, R"({"model":"n"})").kind, ErrorKind::kModelLoading);
  EXPECT_EQ(refused({}, path, R"({"model":"x"})").kind, ErrorKind::kModelNotFound);
  EXPECT_EQ(refused({}, path).field, "model");
  EXPECT_EQ(refused({}, path, R"({"model":7})").kind, ErrorKind::kInvalidParameter);
}

TEST_F(ModelChoiceTest, VersionsAdaptersAndHandlersAreRefusedByName) {
  EXPECT_EQ(refused(with("model_version", "2")).field, "model_version");
  EXPECT_EQ(refused(with(kAttributes, "model_version=2")).kind, ErrorKind::kModelNotFound);
  EXPECT_EQ(refused({}, "/invocations?model_version=2").field, "model_version");
  EXPECT_EQ(refused({}, "/predictions/m/2").kind, ErrorKind::kModelNotFound);
  EXPECT_EQ(refused(with(kAttributes, "handler=x")).message,
            "The handler can't be overridden in a request");
  const HttpHead adapter = with("x-amzn-sagemaker-adapter-identifier", "tuned");
  for (const char* path : {"/invocations", "/v1/completions"}) {
    EXPECT_EQ(refused(adapter, path).kind, ErrorKind::kUnsupportedParameter) << path;
    EXPECT_EQ(refused(adapter, path).field, "x-amzn-sagemaker-adapter-identifier");
  }
  EXPECT_EQ(refused({}, "/predictions/m?adapter=tuned").field, "adapter");
}

}  // namespace
}  // namespace tidemill
