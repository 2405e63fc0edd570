// Which model a generation request is for (apis.md CO-15 to CO-18; serving-contract.md 2.3, 2.4):
// the path, then on DJL's routes query, header and custom attributes, on /v1 the body. And what a
// request may not choose here: versions, adapters, handlers. Pure.
#pragma once

#include "server/http_head.h"
#include "server/model_registry.h"
#include "server/routes.h"

namespace tidemill {

// What DJL calls a property: a header, or a pair of X-Amzn-SageMaker-Custom-Attributes
// ("a=1;b=2"). `name` in lower case; empty when there is none.
std::string_view request_property(const HttpHead& head, std::string_view name);

Result<ModelView> choose_model(const Route& route, const HttpHead& head, const JsonValue& body,
                               const ModelRegistry& models);

}  // namespace tidemill
