#include "executor/draft_network.h"

#include <algorithm>
#include <new>

namespace tidemill {

DraftNetwork::DraftNetwork(const Kernels& kernels, WorkerPool& workers, const Model& model,
                           const DecoderLimits& limits, int64_t num_blocks, int64_t vocab_size)
    : kernels_(kernels),
      workers_(workers),
      cache_(kernels, model.architecture(), model.compute_types().cache(), num_blocks),
      decoder_(kernels, model, cache_, communicator_, limits),
      model_(model),
      vocab_size_(std::min(vocab_size, model.architecture().vocab_size)),
      scratch_(static_cast<size_t>(workers.num_threads())) {}

// Everything about the passes but the tokens that they bring. Those behind the first have one token
// of each row that still drafts.
void DraftNetwork::lay_out(const DraftInput& input) {
  num_passes_ = 1;
  begins_.clear();
  size_t num_drafts = 0;
  for (const DraftInput::Row& row : input.rows) {
    begins_.push_back(num_drafts);
    num_drafts += static_cast<size_t>(row.num_drafts);
    num_passes_ = std::max(num_passes_, static_cast<size_t>(row.num_drafts));
  }
  drafts_.assign(num_drafts, 0);
  if (passes_.size() < num_passes_) passes_.resize(num_passes_);
  for (size_t p = 0; p < num_passes_; ++p) lay_out_pass(input, p);
  // The first has the input's tokens instead.
  ForwardInput& first = passes_[0].forward;
  first = input.forward;
  for (TokenId& id : first.token_ids) {
    if (id >= model_.architecture().vocab_size) id = 0;
  }
}

void DraftNetwork::lay_out_pass(const DraftInput& input, size_t p) {
  Pass& pass = passes_[p];
  ForwardInput& forward = pass.forward;
  pass.rows.clear();
  forward.groups.resize(input.forward.groups.size());
  for (size_t group = 0; group < forward.groups.size(); ++group) {
    forward.groups[group].table_begins.clear();
    forward.groups[group].block_ids = input.forward.groups[group].block_ids;
  }
  forward.positions.clear();
  forward.score_rows.clear();
  for (size_t r = 0; r < input.rows.size(); ++r) {
    const DraftInput::Row& row = input.rows[r];
    if (static_cast<size_t>(row.num_drafts) <= p) continue;
    forward.score_rows.push_back(static_cast<int32_t>(pass.rows.size()));
    // The one chosen in pass p stands at its position + p; this one reads the one before it.
    forward.positions.push_back(row.sampling.position + static_cast<int32_t>(p) - 1);
    for (size_t group = 0; group < forward.groups.size(); ++group) {
      const auto& begins = input.forward.groups[group].table_begins;
      forward.groups[group].table_begins.push_back(begins[static_cast<size_t>(row.first_token)]);
    }
    pass.rows.push_back(r);
  }
  forward.token_ids.assign(pass.rows.size(), 0);
}

// Of each row a draft, and the token of the next pass.
void DraftNetwork::choose(Lane& lane, const DraftInput& input, size_t pass) {
  const std::vector<size_t>& rows = passes_[pass].rows;
  const Range share = lane.share(static_cast<int64_t>(rows.size()));
  for (int64_t i = share.begin; i < share.end; ++i) {
    const size_t r = rows[static_cast<size_t>(i)];
    SamplingRow sampling = input.rows[r].sampling;
    sampling.position += static_cast<int32_t>(pass);
    TokenId token = 0;
    try {
      token = choose_token(kernels_, decoder_.logits_of(i), sampling,
                           scratch_[static_cast<size_t>(lane.worker())], input.changes(r))
                  .token;
      if (token >= vocab_size_) token = 0;  // no id of the other model's: as below
    } catch (const std::bad_alloc&) {
      // Any other token is one that is refused, and a section must not throw.
    }
    drafts_[begins_[r] + pass] = token;
    if (pass + 1 == num_passes_) continue;
    const std::vector<size_t>& next = passes_[pass + 1].rows;
    const auto at = std::lower_bound(next.begin(), next.end(), r);
    if (at == next.end() || *at != r) continue;
    passes_[pass + 1].forward.token_ids[static_cast<size_t>(at - next.begin())] = token;
  }
}

std::span<const TokenId> DraftNetwork::draft(const DraftInput& input) {
  lay_out(input);
  workers_.run_present([&](Lane& lane) {
    for (size_t pass = 0; pass < num_passes_; ++pass) {
      decoder_.forward(lane, passes_[pass].forward);
      choose(lane, input, pass);
      lane.meet();
    }
  });
  return drafts_;
}

}  // namespace tidemill
