// What /openapi.json says of requests and answers, and the reference page of the request's fields.
// Requests are printed from the tables that parse them (field_table.h).
#pragma once

#include <string>

#include "api/field_table.h"
#include "base/json.h"

namespace tidemill {

// A JSON schema of what the table accepts.
JsonValue schema_of(const FieldTable& table);

// `components.schemas`: every table, every answer, and the errors of both families.
JsonValue component_schemas();

// Markdown: the fields of every table.
std::string fields_page();

}  // namespace tidemill
