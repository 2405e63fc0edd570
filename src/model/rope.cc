#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

#include "base/check.h"

namespace tidemill {
namespace {

struct ScalingName {
  std::string_view name;
  RopeScaling scaling;
};
constexpr ScalingName kScalingNames[] = {
    {"default", RopeScaling::kNone},    {"linear", RopeScaling::kLinear},
    {"dynamic", RopeScaling::kDynamic}, {"llama3", RopeScaling::kLlama3},
    {"yarn", RopeScaling::kYarn},
};

RopeScaling scaling_named(const JsonFields& fields, std::string_view key) {
  const std::string name = fields.text(key);
  for (const ScalingName& row : kScalingNames) {
    if (row.name == name) return row.scaling;
  }
  throw fields.wrong(key, name,
                     "default, linear, dynamic, llama3 or yarn (others, longrope among them, are "
                     "not supported)");
}

double positive(const JsonFields& fields, JsonFields::Keys keys,
                std::optional<double> absent = {}) {
  const double value = fields.number(keys, absent);
  if (value <= 0.0) {
    throw std::runtime_error(
        format("{}: {} is {}; it must be above 0", fields.source(), *keys.begin(), value));
  }
  return value;
}

// YaRN's temperature, as a factor on cos and sin. Peng et al. 2023; mscale as DeepSeek extended it.
double yarn_attention_factor(const JsonFields& fields, double factor) {
  if (fields.find("attention_factor") != nullptr) return positive(fields, {"attention_factor"});
  const auto temperature = [&](double scale) {
    return factor <= 1.0 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
  };
  const double mscale = fields.number({"mscale"}, 0.0);
  const double mscale_all = fields.number({"mscale_all_dim"}, 0.0);
  if (mscale != 0.0 && mscale_all != 0.0) return temperature(mscale) / temperature(mscale_all);
  return temperature(1.0);
}

// Each number alone may be sane, and what follows from all of them not. It is a float in the end.
void check_attention_factor(const JsonFields& fields, double factor) {
  if (factor > 0.0 && std::isnormal(static_cast<float>(factor))) return;
  throw std::runtime_error(
      format("{}: cos and sin would be multiplied by {}, which follows from factor, mscale, "
             "mscale_all_dim or attention_factor; it must be above 0 and no larger than a float",
             fields.source(), factor));
}

void read_scaling(const JsonFields& fields, int64_t max_positions, RopeDescription& rope) {
  const std::string_view type_key = fields.find("rope_type") != nullptr ? "rope_type" : "type";
  if (fields.find(type_key) == nullptr) {
    if (fields.find("factor") == nullptr) return;  // only a base: nothing is scaled
    throw std::runtime_error(format("{}: has a factor but no rope_type", fields.source()));
  }
  rope.scaling = scaling_named(fields, type_key);
  if (rope.scaling == RopeScaling::kNone) return;

  rope.factor = positive(fields, {"factor"});
  rope.original_max_positions = max_positions;
  if (rope.scaling == RopeScaling::kLlama3) {
    rope.low_freq_factor = positive(fields, {"low_freq_factor"});
    rope.high_freq_factor = positive(fields, {"high_freq_factor"});
    rope.original_max_positions =
        fields.integer({"original_max_position_embeddings"}, kPositionBounds);
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      throw std::runtime_error(
          format("{}: high_freq_factor is {}; it must be above low_freq_factor "
                 "({})",
                 fields.source(), rope.high_freq_factor, rope.low_freq_factor));
    }
  }
  if (rope.scaling == RopeScaling::kYarn) {
    rope.original_max_positions =
        fields.integer({"original_max_position_embeddings"}, kPositionBounds, max_positions);
    rope.beta_fast = positive(fields, {"beta_fast"}, 32.0);
    rope.beta_slow = positive(fields, {"beta_slow"}, 1.0);
    rope.truncate = fields.boolean("truncate", true);
    rope.attention_factor = yarn_attention_factor(fields, rope.factor);
    check_attention_factor(fields, rope.attention_factor);
  }
}

void refuse_partial_rotation(const JsonFields& fields, int64_t head_dim) {
  for (const std::string_view key : {"partial_rotary_factor", "rotary_pct"}) {
    const JsonValue* value = fields.find(key);
    if (value != nullptr && fields.number({key}) != 1.0) {
      throw fields.wrong(key, *value, "1 (rotating only a part of each head is not supported)");
    }
  }
  const JsonValue* rotated = fields.find("rotary_dim");
  if (rotated != nullptr && fields.number({"rotary_dim"}) != static_cast<double>(head_dim)) {
    throw fields.wrong("rotary_dim", *rotated,
                       format("{}, the head size (rotating only a part of each head is not "
                              "supported)",
                              head_dim));
  }
}

// Rotated pairs whose frequency completes `turns` turns within the original context lie below this
// index; not rounded.
double yarn_boundary(const RopeDescription& rope, double head_dim, double turns) {
  const double wavelength =
      static_cast<double>(rope.original_max_positions) / (turns * 2.0 * std::numbers::pi);
  return head_dim * std::log(wavelength) / (2.0 * std::log(rope.theta));
}

double yarn_frequency(const RopeDescription& rope, double head_dim, double j, double frequency) {
  double low = yarn_boundary(rope, head_dim, rope.beta_fast);
  double high = yarn_boundary(rope, head_dim, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1.0);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((j - low) / (high - low), 0.0, 1.0);
  return frequency * (1.0 - ramp) + frequency / rope.factor * ramp;
}

double llama3_frequency(const RopeDescription& rope, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double original = static_cast<double>(rope.original_max_positions);
  if (wavelength < original / rope.high_freq_factor) return frequency;
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth = (original / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
}

// Dynamic scaling stretches the base for the sequence's length; ours is fixed at the longest that
// the server plans for, so that keys in the cache stay valid while a sequence grows.
double dynamic_theta(const RopeDescription& rope, double head_dim, int64_t length) {
  if (length <= rope.original_max_positions) return rope.theta;
  const double stretch =
      rope.factor * static_cast<double>(length) / static_cast<double>(rope.original_max_positions) -
      (rope.factor - 1.0);
  return rope.theta * std::pow(stretch, head_dim / (head_dim - 2.0));
}

}  // namespace

RopeDescription read_rope(const JsonFields& config, int64_t head_dim, int64_t max_positions) {
  RopeDescription rope;
  refuse_partial_rotation(config, head_dim);
  const bool new_spelling = config.find("rope_parameters") != nullptr;
  const std::string_view key = new_spelling ? "rope_parameters" : "rope_scaling";
  std::optional<double> nested_theta;
  if (config.find(key) != nullptr) {
    const JsonFields fields = config.object(key);
    for (const std::string_view kind : {"full_attention", "sliding_attention"}) {
      if (const JsonValue* value = fields.find(kind)) {
        throw fields.wrong(kind, *value,
                           "absent (one rotation per kind of layer is not supported)");
      }
    }
    refuse_partial_rotation(fields, head_dim);
    read_scaling(fields, max_positions, rope);
    if (fields.find("rope_theta") != nullptr) nested_theta = positive(fields, {"rope_theta"});
  }
  rope.theta = positive(config, {"rope_theta", "rotary_emb_base"}, nested_theta.value_or(10000.0));
  if (rope.theta <= 1.0) {  // frequencies would not fall, and YaRN divides by its logarithm
    throw std::runtime_error(
        format("{}: rope_theta is {}; it must be above 1", config.source(), rope.theta));
  }
  if (rope.scaling == RopeScaling::kDynamic && head_dim == 2) {
    throw std::runtime_error(
        format("{}: {} is dynamic, which needs heads larger than 2", config.source(), key));
  }
  return rope;
}

std::vector<float> rope_frequencies(const Architecture& architecture, int64_t max_model_len) {
  const RopeDescription& rope = architecture.rope;
  const double head_dim = static_cast<double>(architecture.head_dim);
  const double theta = rope.scaling == RopeScaling::kDynamic
                           ? dynamic_theta(rope, head_dim, max_model_len)
                           : rope.theta;
  std::vector<float> frequencies(static_cast<size_t>(architecture.head_dim / 2));
  for (size_t j = 0; j < frequencies.size(); ++j) {
    const double index = static_cast<double>(j);
    double frequency = std::pow(theta, -2.0 * index / head_dim);
    if (rope.scaling == RopeScaling::kLinear) frequency /= rope.factor;
    if (rope.scaling == RopeScaling::kLlama3) frequency = llama3_frequency(rope, frequency);
    if (rope.scaling == RopeScaling::kYarn) {
      frequency = yarn_frequency(rope, head_dim, index, frequency);
    }
    if (!rope.divisors.empty()) frequency /= rope.divisors[j];
    frequencies[j] = static_cast<float>(frequency);
  }
  return frequencies;
}

float rope_attention_factor(const Architecture& architecture) {
  return static_cast<float>(architecture.rope.attention_factor);
}

JsonValue to_json(const RopeDescription& rope) {
  std::string_view scaling;
  for (const ScalingName& row : kScalingNames) {
    if (row.scaling == rope.scaling) scaling = row.name;
  }
  JsonArray divisors(rope.divisors.begin(), rope.divisors.end());
  return JsonObject{
      {"theta", rope.theta},
      {"scaling", std::string(scaling)},
      {"factor", rope.factor},
      {"low_freq_factor", rope.low_freq_factor},
      {"high_freq_factor", rope.high_freq_factor},
      {"original_max_positions", rope.original_max_positions},
      {"beta_fast", rope.beta_fast},
      {"beta_slow", rope.beta_slow},
      {"attention_factor", rope.attention_factor},
      {"truncate", rope.truncate},
      {"divisors", std::move(divisors)},
  };
}

RopeDescription rope_from_json(const JsonFields& fields, int64_t head_dim) {
  RopeDescription rope{
      .theta = positive(fields, {"theta"}),
      .scaling = scaling_named(fields, "scaling"),
      .factor = positive(fields, {"factor"}),
      .low_freq_factor = fields.number({"low_freq_factor"}),
      .high_freq_factor = fields.number({"high_freq_factor"}),
      .original_max_positions =
          fields.integer({"original_max_positions"}, {0, kPositionBounds.max}),
      .beta_fast = positive(fields, {"beta_fast"}),
      .beta_slow = positive(fields, {"beta_slow"}),
      .attention_factor = positive(fields, {"attention_factor"}),
      .truncate = fields.boolean("truncate"),
      .divisors = {},
  };
  check_attention_factor(fields, rope.attention_factor);
  for (const JsonValue& divisor : fields.array("divisors")) {
    if (!divisor.is_number() || !(divisor.number() > 0.0)) {
      throw fields.wrong("divisors", divisor, "numbers above 0");
    }
    rope.divisors.push_back(divisor.number());
  }
  if (!rope.divisors.empty() && rope.divisors.size() != static_cast<size_t>(head_dim / 2)) {
    throw std::runtime_error(format("{}: divisors has {} numbers; it must have {}, one per pair",
                                    fields.source(), rope.divisors.size(), head_dim / 2));
  }
  return rope;
}

}  // namespace tidemill
