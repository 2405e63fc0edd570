#include "draft_model.h"

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "base/check.h"
#include "base/log.h"
#include "loaded_model.h"
#include "model/kv_cache.h"
#include "text/text_library.h"
#include "text/tokenizer.h"

namespace tidemill {
namespace {

// Of one family, sizes differ in a few tokens that nobody uses, and in how their number is padded.
constexpr int32_t kMostOthers = 100;  // one of so many

void require_same_size(const std::string& model, int64_t size, const std::string& draft,
                       int64_t draft_size) {
  if (size == draft_size) return;
  throw std::runtime_error(
      format("speculative_draft_model is {}, which has {} tokens; {} has {}. A draft model must "
             "have the same ones: name a smaller model of the same family.",
             draft, draft_size, model, size));
}

DecoderLimits draft_limits(const Architecture& architecture, const MemoryWishes& wishes) {
  return {.max_model_len = std::min(wishes.limits.max_model_len, architecture.max_positions),
          .max_step_tokens = wishes.limits.max_step_tokens,
          .max_score_rows = std::min(wishes.max_sequences, wishes.limits.max_step_tokens)};
}

// Where it fails the settings' own names say of what.
OpenedEngine open_draft(const Settings& settings, WorkerPool& workers, const Progress& progress) {
  try {
    return open_engine(settings.model.draft_model, draft_options(settings), workers, progress);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(format("speculative_draft_model{}: {}",
                                    settings.model.draft_quantize.empty()
                                        ? ""
                                        : ", with speculative_draft_quantize as its quantize",
                                    error.what()));
  }
}

void require_room_for_drafts(const Settings& settings, const Architecture& architecture) {
  const std::string& draft = settings.model.draft_model;
  if (settings.executor.scheduler.speculative == "off") {
    throw std::runtime_error(format(
        "speculative_draft_model is {}, and speculative is off. Leave one of them out.", draft));
  }
  const OpenOptions options = draft_options(settings);
  std::error_code ignored;
  if (std::filesystem::equivalent(draft, settings.model.model_id, ignored) &&
      options.quantize == settings.model.quantize && options.dtype == settings.model.dtype) {
    throw std::runtime_error(format(
        "speculative_draft_model is {}, which is the model itself, rounded alike: that gains "
        "nothing. Name a smaller one, or set speculative_draft_quantize.",
        draft));
  }
  if (architecture.sliding_window == 0) return;
  throw std::runtime_error(
      format("speculative_draft_model is {}, and the model has a sliding window of {} tokens, "
             "which goes without a draft model only. Leave speculative_draft_model out.",
             draft, architecture.sliding_window));
}

}  // namespace

OpenOptions draft_options(const Settings& settings) {
  OpenOptions options = engine_options(settings.model);
  const std::string& quantize = settings.model.draft_quantize;
  if (is_engine_dir(settings.model.draft_model)) {
    options.dtype = options.quantize = "";  // it is what it is, and must be what is asked for
  }
  if (quantize.empty()) return options;
  options.quantize = quantize;
  if (quantize != "none") options.dtype = "";  // the model's, which may be one of no integers
  return options;
}

CompanionMemory companion_memory(const Architecture& architecture, const ComputeTypes& types,
                                 int64_t weight_bytes, const MemoryWishes& wishes) {
  return {.weight_bytes = weight_bytes,
          .workspace_bytes =
              Decoder::workspace_bytes(architecture, types, draft_limits(architecture, wishes)),
          .bytes_per_block = kv_bytes_per_block(architecture, types.cache())};
}

void require_same_tokens(const std::string& model, const TextFiles& text, int64_t vocab_size,
                         const std::string& draft, const TextFiles& draft_text,
                         int64_t draft_vocab_size) {
  if (!kHasTextLibrary || !text.tokenizer_json || !draft_text.tokenizer_json) {
    return require_same_size(model, vocab_size, draft, draft_vocab_size);
  }
  if (*text.tokenizer_json == *draft_text.tokenizer_json) return;
  const Tokenizer ours(*text.tokenizer_json);
  const Tokenizer theirs(*draft_text.tokenizer_json);
  const int32_t size = std::min(ours.vocab_size(), theirs.vocab_size());
  int32_t num_others = 0;
  std::optional<TokenId> first;
  for (TokenId id = 0; id < size; ++id) {
    if (ours.token_bytes(id) == theirs.token_bytes(id)) continue;
    ++num_others;
    if (!first) first = id;
  }
  if (num_others <= size / kMostOthers) return;
  throw std::runtime_error(
      format("speculative_draft_model is {}, whose tokens are not those of {}: {} of {} differ, "
             "the first of them {} (\"{}\", and \"{}\" in the model). Name a smaller model of the "
             "same family.",
             draft, model, num_others, size, *first, theirs.token_bytes(*first).value_or(""),
             ours.token_bytes(*first).value_or("")));
}

std::unique_ptr<DraftModel> DraftModel::load(const Settings& settings, const Model& model,
                                             const TextFiles& text, const MemoryWishes& wishes,
                                             WorkerPool& workers, const Progress& progress) {
  const std::string& name = settings.model.draft_model;
  if (name.empty()) return nullptr;
  require_room_for_drafts(settings, model.architecture());
  auto draft = std::make_unique<DraftModel>();
  const OpenedEngine opened = open_draft(settings, workers, progress);
  draft->in_memory_ = opened.in_memory != nullptr;
  draft->model_ = std::make_unique<Model>(opened.dir, model_options(settings.model));
  draft->wishes_ = wishes;
  const Architecture& architecture = draft->model_->architecture();
  require_same_tokens(settings.model.model_id, text, model.architecture().vocab_size, name,
                      read_text_files(opened.dir), architecture.vocab_size);
  if (draft->max_model_len() < wishes.limits.max_model_len) {
    log_warning(
        "the draft model was made for {} positions: behind them, up to max_model_len = {}, it "
        "makes no drafts",
        architecture.max_positions, wishes.limits.max_model_len);
  }
  return draft;
}

CompanionMemory DraftModel::memory() const {
  return companion_memory(model_->architecture(), model_->compute_types(), model_->weight_bytes(),
                          wishes_);
}

int64_t DraftModel::max_model_len() const {
  return draft_limits(model_->architecture(), wishes_).max_model_len;
}

std::unique_ptr<DraftNetwork> DraftModel::network(const Kernels& kernels, WorkerPool& workers,
                                                  int64_t num_blocks, int64_t vocab_size) const {
  return std::make_unique<DraftNetwork>(kernels, workers, *model_,
                                        draft_limits(model_->architecture(), wishes_), num_blocks,
                                        vocab_size);
}

}  // namespace tidemill
