#include "scheduler/simulation/client.h"

#include <algorithm>

#include "scheduler/prefix_cache.h"

namespace tidemill {
namespace {

// Prompts of a family begin alike, up to where the draw lets them part.
TokenId token_of_family(int64_t family, int64_t position) {
  return static_cast<TokenId>((family + position / 48) % kSimulatedTokens);
}

int64_t smallest_pool(const SchedulerOptions& options) {
  int64_t blocks = options.groups.front().num_blocks;
  for (const KvGroupOptions& group : options.groups) blocks = std::min(blocks, group.num_blocks);
  return blocks;
}

int64_t prompt_length(SimulationRandom& random, const SchedulerOptions& options, int64_t room) {
  constexpr int64_t kBlock = kBlockTokens;
  switch (random.up_to(7)) {
    case 0:
    case 5:
    case 6:
      return random.one_of({int64_t{1}, int64_t{2}, kBlock - 1, kBlock, kBlock + 1});
    case 1:
      return kBlock * random.between(1, 4) + random.between(-1, 1);
    case 2:
      return options.max_step_tokens + random.between(-1, 1);
    case 3:
      return options.min_chunk_tokens + random.between(-1, 1);
    case 4:
      return room - random.up_to(2);  // with one token more to say: the model's length
    default:
      return random.between(1, random.one_in(8) ? 2000 : 200);
  }
}

}  // namespace

SimulatedClient::SimulatedClient(NewSequence asked, bool repeats)
    : request(std::move(asked)), tokens(request.prompt), repeats_itself(repeats) {
  num_prompt_tokens = static_cast<int32_t>(tokens.size());
  histories.reserve(static_cast<size_t>(longest()));
  History history = history_of_scope(request.prefix_scope);
  for (const TokenId token : tokens) histories.push_back(history = extend(history, token));
}

int32_t SimulatedClient::num_to_score(int32_t begin, int32_t end) const {
  if (!request.score_prompt) return 0;
  return std::max(0, std::min(end, num_prompt_tokens - 1) - std::max(begin, num_scored));
}

bool SimulatedClient::receive(TokenId token, std::optional<EndReason>& end) {
  const bool right = token == next_token();
  const bool may_end = num_received() >= request.min_new_tokens;
  const auto holds = [token](const std::vector<TokenId>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  tokens.push_back(token);
  histories.push_back(extend(histories.back(), token));
  if (may_end && holds(request.end_ids)) {
    end = EndReason::kEndToken;
  } else if (may_end && holds(request.stop_ids)) {
    end = EndReason::kStopToken;
  } else if (num_received() == request.max_new_tokens) {
    end = EndReason::kLength;
  }
  return right;
}

NewSequence random_request(SimulationRandom& random, const SchedulerOptions& options,
                           SequenceId id) {
  const int64_t longest = smallest_pool(options) * kBlockTokens;
  const int64_t most_new = random.one_in(8) ? 200 : 40;
  NewSequence request{.id = id};
  // Sometimes no room is left, or the answer is one token too long for ever.
  const int64_t most = std::max<int64_t>(1, longest - !random.one_in(16));
  const int64_t length = std::clamp(prompt_length(random, options, longest), int64_t{1}, most);
  const int64_t family = random.up_to(3);
  request.prompt.resize(static_cast<size_t>(length));
  for (int64_t i = 0; i < length; ++i) {
    request.prompt[static_cast<size_t>(i)] = token_of_family(family, i);
  }
  if (random.one_in(2)) {
    request.prompt[static_cast<size_t>(random.up_to(length - 1))] =
        static_cast<TokenId>(random.up_to(kSimulatedTokens - 1));
  }
  request.max_new_tokens = static_cast<int32_t>(
      random.one_in(4) ? std::min<int64_t>(400, longest - length + random.one_in(8))
                       : random.between(1, std::min(most_new, longest - length)));
  request.max_new_tokens = std::max(request.max_new_tokens, 1);
  request.min_new_tokens = static_cast<int32_t>(random.up_to(3));
  if (random.one_in(2)) {
    request.end_ids = {static_cast<TokenId>(random.up_to(kSimulatedTokens - 1))};
  }
  if (random.one_in(4)) {
    request.stop_ids = {static_cast<TokenId>(random.up_to(kSimulatedTokens - 1))};
  }
  if (random.one_in(4)) request.prefix_scope = random.one_in(2) ? "other" : "third";
  if (random.one_in(3)) request.priority = static_cast<int32_t>(random.between(-1, 1));
  request.score_prompt = random.one_in(8);
  if (request.score_prompt && random.one_in(2)) request.max_new_tokens = 0;
  return request;
}

}  // namespace tidemill
