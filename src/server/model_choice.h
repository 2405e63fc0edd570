// Which model a generation request is for (apis.md CO-15 to CO-18; serving-contract.md 2.3, 2.4):
// on /v1 the body; on DJL's routes the path, then query, header and custom attributes, then a part
// of a form. X-Amzn-SageMaker-Target-Model chooses nothing: the platform has turned it into a path.
// And what a request may not choose here: versions, adapters, handlers. Pure.
#pragma once

#include "server/http_head.h"
#include "server/invocation_body.h"
#include "server/model_registry.h"
#include "server/routes.h"

namespace tidemill {

// What DJL calls a property: a header, or a pair of X-Amzn-SageMaker-Custom-Attributes
// ("a=1;b=2"). `name` in lower case; empty when there is none.
std::string_view request_property(const HttpHead& head, std::string_view name);

Result<ModelView> choose_model(const HttpHead& head, const JsonValue& body,
                               const ModelRegistry& models);
Result<ModelView> choose_invoked_model(const Route& route, const HttpHead& head,
                                       const InvocationBody& body, const ModelRegistry& models);

}  // namespace tidemill
