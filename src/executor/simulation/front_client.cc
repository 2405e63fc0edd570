#include "executor/simulation/front_client.h"

#include <algorithm>

#include "executor/byte_tokenizer.h"

namespace tidemill {
namespace {

bool holds(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

ExpectedChoice expected_choice(const GenerationFields& fields, const std::vector<TokenId>& prompt,
                               int32_t choice, int64_t room, bool has_text) {
  std::vector<TokenId> ends;
  if (!fields.ignore_end) ends.push_back(kScriptEndId);
  std::vector<TokenId> forbidden = ends;
  std::vector<TokenId> stops;
  for (const int64_t id : fields.stop_token_ids) stops.push_back(static_cast<TokenId>(id));
  forbidden.insert(forbidden.end(), stops.begin(), stops.end());
  const int64_t least = std::min(fields.min_new_tokens, room);
  History history = history_of_scope("");
  for (const TokenId token : prompt) history = extend(history, token);
  ExpectedChoice expected;
  for (int64_t i = 0; i < room; ++i) {
    const bool may_end = i >= least;
    const TokenId token =
        chosen_behind(history, *fields.seed, choice, may_end ? std::vector<TokenId>() : forbidden);
    history = extend(history, token);
    expected.tokens.push_back(token);
    if (has_text && token < 256) expected.text += static_cast<char>(token);
    const bool ended = may_end && (holds(ends, token) || holds(stops, token));
    for (const std::string& stop : has_text ? fields.stop_strings : std::vector<std::string>()) {
      const size_t at = expected.text.find(stop);
      if (at == std::string::npos) continue;
      expected.text.resize(at);
      expected.reason = FinishReason::kStopString;
      return expected;
    }
    if (!ended) continue;
    expected.reason = holds(ends, token) ? FinishReason::kEndToken : FinishReason::kStopToken;
    break;
  }
  return expected;
}

}  // namespace

std::vector<ExpectedChoice> expected_choices(const GenerationFields& fields,
                                             const std::vector<int64_t>& rooms, bool has_text) {
  std::vector<ExpectedChoice> expected;
  for (size_t p = 0; p < rooms.size(); ++p) {
    for (int32_t choice = 0; choice < fields.num_choices; ++choice) {
      expected.push_back(expected_choice(fields, std::get<TokenPrompt>(fields.prompts[p]).ids,
                                         choice, rooms[p], has_text));
    }
  }
  return expected;
}

bool FrontClient::receive(const ResponseStream::Poll& poll, bool has_text) {
  for (const TextEvent& event : poll.events) {
    const auto choice = static_cast<size_t>(event.choice);
    const ExpectedChoice& of = expected[choice];
    if (finished[choice]) return false;
    for (const TokenText& token : event.tokens) tokens[choice].push_back(token.id);
    texts[choice] += event.text;
    if (tokens[choice].size() > of.tokens.size() ||
        !std::equal(tokens[choice].begin(), tokens[choice].end(), of.tokens.begin()) ||
        (has_text && of.text.compare(0, texts[choice].size(), texts[choice]) != 0)) {
      return false;
    }
    if (!event.finish) continue;
    finished[choice] = true;
    if (event.finish->reason != of.reason || tokens[choice].size() != of.tokens.size() ||
        (has_text && texts[choice] != of.text) ||
        event.finish->completion_tokens != static_cast<int64_t>(of.tokens.size())) {
      return false;
    }
  }
  return true;
}

bool FrontClient::all_finished() const {
  return std::all_of(finished.begin(), finished.end(), [](bool done) { return done; });
}

}  // namespace tidemill
