// GET /v1/models (apis.md 7), and which model a body names.
#include "api/openai_common.h"
#include "api/schema.h"
#include "base/check.h"

namespace tidemill {
namespace {

void write_model(JsonWriter& out, const ModelListing& model) {
  out.begin_object().key("id").value(model.id).key("object").value("model");
  out.key("created").value(model.created).key("owned_by").value("tidemill");
  out.key("root").value(model.root).key("parent").null();
  out.key("max_model_len").value(model.max_model_len);
  if (!model.status.empty()) out.key("status").value(model.status);
  out.end_object();
}

}  // namespace

std::string model_list_json(std::span<const ModelListing> models) {
  std::string json;
  JsonWriter out(&json);
  out.begin_object().key("object").value("list").key("data").begin_array();
  for (const ModelListing& model : models) write_model(out, model);
  out.end_array().end_object();
  return json;
}

std::string model_json(const ModelListing& model) {
  std::string json;
  JsonWriter out(&json);
  write_model(out, model);
  return json;
}

Result<std::string> requested_model(const JsonValue& body) {
  const JsonValue* model = body.find("model");
  if (model == nullptr || model->is_null()) return std::string();
  if (!model->is_string()) {
    return Error{.kind = ErrorKind::kInvalidParameter,
                 .field = "model",
                 .message = format("model is {}; it must be a string.", model->kind_name())};
  }
  const std::string& name = model->string();
  return names_no_model(name) ? std::string() : name;
}

}  // namespace tidemill
