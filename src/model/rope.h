// Rotary embedding as data: read from a configuration, turned into frequencies (the functions of
// architecture.h that do so are defined in rope.cc).
#pragma once

#include <cstdint>

#include "model/architecture.h"
#include "model/json_fields.h"

namespace tidemill {

// How many positions a model may have, or have had before it was stretched.
inline constexpr JsonFields::Bounds kPositionBounds{1, int64_t{1} << 27};

// `rope_scaling` of published configurations, or `rope_parameters` of newer ones. Refuses kinds of
// scaling that are not supported, and rotation of only a part of each head, by name.
RopeDescription read_rope(const JsonFields& config, int64_t head_dim, int64_t max_positions);

JsonValue to_json(const RopeDescription& rope);
RopeDescription rope_from_json(const JsonFields& fields, int64_t head_dim);

}  // namespace tidemill
