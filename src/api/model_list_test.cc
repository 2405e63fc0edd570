#include <gtest/gtest.h>

#include "api/schema.h"

namespace tidemill {
namespace {

TEST(ModelList, EntriesHaveTheseBytes) {
  const ModelListing model{.id = "m", .created = 5, .root = "org/m", .max_model_len = 64};
  const std::string entry =
      R"({"id":"m","object":"model","created":5,"owned_by":"tidemill","root":"org/m",)"
      R"("parent":null,"max_model_len":64})";
  EXPECT_EQ(model_json(model), entry);
  EXPECT_EQ(model_list_json(std::vector<ModelListing>{model, model}),
            R"({"object":"list","data":[)" + entry + "," + entry + "]}");
  EXPECT_EQ(model_list_json({}), R"({"object":"list","data":[]})");
}

TEST(ModelList, SomeNamesMeanThatNoneWasGiven) {
  for (const char* body : {R"({})", R"({"model":null})", R"({"model":""})", R"({"model":"tgi"})",
                           R"({"model":"dummy"})"}) {
    EXPECT_EQ(*requested_model(*parse_json(body)), "") << body;
  }
  EXPECT_EQ(*requested_model(*parse_json(R"({"model":"a/b"})")), "a/b");
  EXPECT_EQ(requested_model(*parse_json(R"({"model":7})")).error().field, "model");
}

}  // namespace
}  // namespace tidemill
