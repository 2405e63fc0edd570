// What stands for a network in simulations: keys, values and choices are functions of everything a
// sequence has said so far, so that whoever reads another one's memory says something else.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/token_id.h"

namespace tidemill {

// Of tokens 0 .. i, and of the scope in which their blocks may be shared.
using History = uint64_t;

constexpr History extend(History history, TokenId token) {
  history = (history ^ static_cast<uint64_t>(token + 1)) * 0x9e3779b97f4a7c15u;
  return history ^ (history >> 29);
}

constexpr History history_of_scope(std::string_view scope) {
  History history = 1;
  for (const char c : scope) history = extend(history, c);
  return history;
}

// Few different tokens, so that prefixes and ends meet by chance.
inline constexpr TokenId kSimulatedTokens = 5;

constexpr TokenId token_behind(History history) {
  return static_cast<TokenId>((history >> 7) % kSimulatedTokens);
}

// In texts that repeat themselves: behind `last` comes the next one of a round, but for now and
// then.
constexpr TokenId token_of_round(History history, TokenId last) {
  return (history >> 40) % 16 == 0 ? token_behind(history) : (last + 1) % kSimulatedTokens;
}

// The same for choices that are functions of a history: most look at the last token alone.
constexpr History history_of_round(History history, TokenId last) {
  return (history >> 40) % 16 == 0 ? history : extend(1, last);
}

}  // namespace tidemill
