#include "server/model_choice.h"

#include <algorithm>

#include "base/ascii.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr std::string_view kAttributes = "x-amzn-sagemaker-custom-attributes";
constexpr std::string_view kAdapter = "x-amzn-sagemaker-adapter-identifier";

bool equal_ignoring_case(std::string_view a, std::string_view lower) {
  return std::equal(a.begin(), a.end(), lower.begin(), lower.end(), [](char x, char y) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(x))) == y;
  });
}

Error no_adapters(std::string_view field) {
  return {.kind = ErrorKind::kUnsupportedParameter,
          .field = std::string(field),
          .message = "adapters are not supported yet. Serve the merged model instead."};
}

// What a request on DJL's routes says about the model, outside its text.
class Invocation {
 public:
  Invocation(const Route& route, const HttpHead& head, const InvocationBody& body)
      : route_(route), head_(head), body_(body) {}

  // A query parameter, or else a property.
  std::string_view given(std::string_view name) const {
    const std::string_view value = route_.query_value(name);
    return value.empty() ? request_property(head_, name) : value;
  }

  std::string_view given_or_part(std::string_view name) const {
    const std::string_view value = given(name);
    return value.empty() ? body_.part(name) : value;
  }

  std::optional<Error> refusal() const {
    if (!head_.field(kAdapter).empty()) return no_adapters(kAdapter);
    if (!given_or_part("adapter").empty()) return no_adapters("adapter");
    if (!request_property(head_, "handler").empty()) {
      return Error{.kind = ErrorKind::kUnsupportedParameter,
                   .field = "handler",
                   .message = "The handler can't be overridden in a request"};
    }
    const std::string_view version =
        route_.version.empty() ? given("model_version") : std::string_view(route_.version);
    if (version.empty()) return std::nullopt;
    return Error{.kind = ErrorKind::kModelNotFound,
                 .field = "model_version",
                 .message = format("Model or workflow not found: version {}. Models have no "
                                   "versions here; leave it out.",
                                   excerpt(version))};
  }

 private:
  const Route& route_;
  const HttpHead& head_;
  const InvocationBody& body_;
};

// The original's words, which its clients compare.
Error in_djl_words(Error error, std::string_view name) {
  if (error.kind == ErrorKind::kMissingParameter) {
    error.field = "model_name";
    error.message = "Parameter model_name is required.";
  } else if (error.kind == ErrorKind::kModelNotFound) {
    error.field = "model_name";
    error.message = format("Model or workflow not found: {}", excerpt(name));
  }
  return error;
}

}  // namespace

std::string_view request_property(const HttpHead& head, std::string_view name) {
  const std::string_view header = head.field(name);
  if (!header.empty()) return header;
  std::string_view rest = head.field(kAttributes);
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(item.size() + 1, rest.size()));
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) continue;
    if (equal_ignoring_case(without_blanks(item.substr(0, equals)), name)) {
      return without_blanks(item.substr(equals + 1));
    }
  }
  return {};
}

Result<ModelView> choose_model(const HttpHead& head, const JsonValue& body,
                               const ModelRegistry& models) {
  if (!head.field(kAdapter).empty()) return no_adapters(kAdapter);
  const auto name = requested_model(body);
  return name ? models.find(*name) : name.error();
}

Result<ModelView> choose_invoked_model(const Route& route, const HttpHead& head,
                                       const InvocationBody& body, const ModelRegistry& models) {
  const Invocation invocation(route, head, body);
  if (auto refused = invocation.refusal()) return std::move(*refused);
  const std::string_view name =
      route.model.empty() ? invocation.given_or_part("model_name") : std::string_view(route.model);
  auto model = models.find(name);
  return model ? std::move(model) : in_djl_words(model.error(), name);
}

}  // namespace tidemill
