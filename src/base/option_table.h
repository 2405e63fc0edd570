// The machinery behind a table of settings: where a value goes, what it may be, and how its text is
// read. Knows no setting by name; the product's table is src/settings/options.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tidemill {

// A time that is spelled in seconds outside and kept in milliseconds inside.
struct SecondsSlot {
  int64_t* milliseconds;
};

// A member of a settings struct.
using Slot = std::variant<std::string*, bool*, int32_t*, int64_t*, uint16_t*, double*, SecondsSlot,
                          std::vector<std::string>*>;

// What a value may be. Built by the functions below.
struct Allowed {
  double min = 0.0;
  double max = 0.0;                            // numbers: inclusive; equal bounds of 0: no bound
  std::span<const std::string_view> one_of{};  // texts: the choices; empty: any
};

constexpr Allowed any() { return {}; }
constexpr Allowed between(double min, double max) { return {.min = min, .max = max}; }
constexpr Allowed one_of(std::span<const std::string_view> choices) { return {.one_of = choices}; }

// Reads `text` (trimmed) into the slot. On failure the slot is unchanged and the answer says what
// was given and what is allowed: "is abc; it must be an integer from 1 to 1024".
std::optional<std::string> assign(const Slot& slot, const Allowed& allowed, std::string_view text);

// For help and the reference page: the value as it would be spelled, and what is allowed.
std::string show(const Slot& slot);
std::string describe(const Slot& slot, const Allowed& allowed);

// The name closest to `given` when it is close enough to be a typing error.
std::optional<std::string_view> nearest_name(std::string_view given,
                                             std::span<const std::string_view> names);

std::string_view trimmed(std::string_view text);
// ASCII capitals, as names in the environment are spelled.
std::string upper(std::string_view text);

// The words of a list that blanks separate.
std::vector<std::string_view> words_of(std::string_view list);
bool contains_word(std::string_view list, std::string_view word);

}  // namespace tidemill
