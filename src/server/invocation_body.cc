#include "server/invocation_body.h"

#include <algorithm>

namespace tidemill {

namespace {

// `curl -d` says that its JSON is a form. No name of a field begins so.
bool looks_like_json(std::string_view body) {
  const size_t first = body.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && body[first] == '{';
}

}  // namespace

Result<InvocationBody> InvocationBody::take(const Route& route, const HttpHead& head,
                                            std::string body) {
  InvocationBody taken;
  for (const auto& [name, value] : route.query) {
    taken.parts_.push_back({.name = name, .value = value, .content_type = ""});
  }
  taken.num_query_parts_ = taken.parts_.size();
  taken.content_type_ = head.field("content-type");
  const BodyForm form = body_form(taken.content_type_);
  const bool json = form == BodyForm::kForm && looks_like_json(body);
  if (form == BodyForm::kWhole || json) {
    // A request without a body says everything in its query.
    const bool empty = body.empty() && taken.content_type_.empty();
    taken.is_form_ = empty && !std::all_of(taken.parts_.begin(), taken.parts_.end(),
                                           [](auto& part) { return chooses_model(part.name); });
    if (json) taken.content_type_ = "application/json";
    taken.whole_ = std::move(body);
    return taken;
  }
  auto parts =
      form == BodyForm::kForm ? form_parts(body) : multipart_parts(taken.content_type_, body);
  if (!parts) return parts.error();
  std::move(parts->begin(), parts->end(), std::back_inserter(taken.parts_));
  taken.is_form_ = true;
  return taken;
}

std::string_view InvocationBody::part(std::string_view name) const {
  for (const ContentPart& part : parts_) {
    if (part.name == name) return part.value;
  }
  return {};
}

Result<JsonValue> InvocationBody::json(const JsonLimits& limits) const {
  return is_form_ ? read_lmi_parts(parts_, limits) : read_lmi_body(content_type_, whole_, limits);
}

std::vector<std::string> InvocationBody::ignored() const {
  std::vector<std::string> names;
  if (is_form_) return names;
  for (size_t i = 0; i < num_query_parts_; ++i) {
    const bool used = chooses_model(parts_[i].name) && parts_[i].name != "model_url";
    if (!used) names.push_back(parts_[i].name);
  }
  return names;
}

}  // namespace tidemill
