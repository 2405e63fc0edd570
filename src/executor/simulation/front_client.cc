#include "executor/simulation/front_client.h"

#include <algorithm>
#include <iterator>

#include "executor/byte_tokenizer.h"

namespace tidemill {
namespace {

bool holds(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

ExpectedChoice expected_choice(const FrontClient& client, const std::vector<TokenId>& prompt,
                               int32_t choice, int64_t room, bool has_text) {
  const GenerationFields& fields = client.fields;
  std::vector<TokenId> ends;
  if (!fields.ignore_end) ends.push_back(kScriptEndId);
  std::vector<TokenId> forbidden = ends;
  std::vector<TokenId> stops;
  for (const int64_t id : fields.stop_token_ids) stops.push_back(static_cast<TokenId>(id));
  forbidden.insert(forbidden.end(), stops.begin(), stops.end());
  const int64_t least = std::min(fields.min_new_tokens, room);
  std::vector<TokenId> allowed;
  if (fields.allowed_token_ids) {
    allowed.assign(fields.allowed_token_ids->begin(), fields.allowed_token_ids->end());
  }
  std::vector<TokenId> bias_ids;
  std::vector<float> bias;
  for (const auto& [id, added] : fields.logit_bias) {
    bias_ids.push_back(static_cast<TokenId>(id));
    bias.push_back(static_cast<float>(added));
  }
  const bool penalises_prompt = fields.repetition_penalty != 1.0;
  const bool penalises_output = penalises_prompt || fields.presence_penalty != 0.0;
  History history = history_of_scope(client.salt());
  for (const TokenId token : prompt) history = extend(history, token);
  ExpectedChoice expected;
  double sum_logprobs = 0;
  for (int64_t i = 0; i < room; ++i) {
    const bool may_end = i >= least;
    LogitChanges changes{.allowed = allowed, .bias_ids = bias_ids, .bias = bias};
    if (!may_end) changes.forbidden = forbidden;
    if (penalises_prompt) changes.prompt = prompt;
    if (penalises_output) changes.output = expected.tokens;
    const TokenId last = expected.tokens.empty() ? prompt.back() : expected.tokens.back();
    const TokenId token =
        chosen_behind(client.repeats_itself ? history_of_round(history, last) : history,
                      {.seed = *fields.seed}, choice, changes);
    sum_logprobs += double{logprob_behind(history, token)};
    history = extend(history, token);
    expected.tokens.push_back(token);
    expected.mean_logprob = sum_logprobs / static_cast<double>(expected.tokens.size());
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

int64_t num_running(const GenerationFields& fields, int64_t room) {
  if (room > 0) return fields.best_of.value_or(fields.num_choices);
  return fields.num_prompt_logprobs >= 0 ? 1 : 0;
}

void FrontClient::expect(const std::vector<int64_t>& rooms, bool has_text) {
  for (size_t p = 0; p < rooms.size(); ++p) {
    std::vector<ExpectedChoice> all;
    for (int32_t choice = 0; choice < num_sequences(); ++choice) {
      all.push_back(expected_choice(*this, prompt(p), choice, rooms[p], has_text));
      all_tokens += static_cast<int64_t>(all.back().tokens.size());
    }
    if (num_sequences() > fields.num_choices) {  // the best are shown; the first of equal ones
      std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
        return a.mean_logprob > b.mean_logprob;
      });
    }
    all.resize(static_cast<size_t>(fields.num_choices));
    std::move(all.begin(), all.end(), std::back_inserter(expected));
  }
  tokens.resize(expected.size());
  texts.resize(expected.size());
  finished.resize(expected.size());
  begun.resize(rooms.size() * static_cast<size_t>(num_sequences()));
}

bool FrontClient::has_prompt_scores(size_t index) const {
  const std::vector<TokenText> scores = stream->prompt_logprobs(static_cast<int64_t>(index));
  if (!scores_prompts()) return scores.empty();
  const std::vector<TokenId>& ids = prompt(index);
  if (scores.size() != ids.size()) return false;
  History history = history_of_scope(salt());
  for (size_t i = 0; i < ids.size(); ++i) {
    const size_t num_best = i == 0 ? 0 : static_cast<size_t>(fields.num_prompt_logprobs);
    const float logprob = i == 0 ? 0.0f : logprob_behind(history, ids[i]);
    if (scores[i].id != ids[i] || scores[i].logprob != logprob ||
        scores[i].top.size() != num_best) {
      return false;
    }
    history = extend(history, ids[i]);
  }
  return true;
}

bool FrontClient::take(const TextEvent& event, bool has_text) {
  const auto choice = static_cast<size_t>(event.choice);
  const ExpectedChoice& of = expected[choice];
  if (finished[choice]) return false;
  const bool is_first = tokens[choice].empty();
  for (const TokenText& token : event.tokens) tokens[choice].push_back(token.id);
  texts[choice] += event.text;
  if (tokens[choice].size() > of.tokens.size() ||
      !std::equal(tokens[choice].begin(), tokens[choice].end(), of.tokens.begin()) ||
      (has_text && of.text.compare(0, texts[choice].size(), texts[choice]) != 0)) {
    return false;
  }
  // They come with the first event of a prompt's first choice, and stay.
  const auto choices = static_cast<size_t>(fields.num_choices);
  if (choice % choices == 0 && (is_first || event.finish) && !has_prompt_scores(choice / choices)) {
    return false;
  }
  if (!event.finish) return true;
  finished[choice] = true;
  return event.finish->reason == of.reason && tokens[choice].size() == of.tokens.size() &&
         (!has_text || texts[choice] == of.text) &&
         event.finish->completion_tokens == static_cast<int64_t>(of.tokens.size());
}

bool FrontClient::receive(const ResponseStream::Poll& poll, bool has_text) {
  if (num_sequences() > fields.num_choices && !poll.ended && !poll.events.empty()) return false;
  for (const TextEvent& event : poll.events) {
    if (!take(event, has_text)) return false;
  }
  return !poll.ended || poll.error || stream->completion_tokens() == all_tokens;
}

bool FrontClient::all_finished() const {
  return std::all_of(finished.begin(), finished.end(), [](bool done) { return done; });
}

}  // namespace tidemill
