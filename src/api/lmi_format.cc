#include "api/lmi_format.h"

#include <algorithm>
#include <numeric>

#include "api/answer_facts.h"
#include "api/error.h"
#include "api/token_pieces.h"
#include "base/check.h"

namespace tidemill {
namespace {

class LmiFormat : public ResponseFormat {
 public:
  explicit LmiFormat(const LmiShape& shape) : shape_(shape) {}

  void begin(const ResponseStream& stream) override {
    const int64_t num_prompts = stream.num_choices() / shape_.num_sequences;
    texts_.assign(static_cast<size_t>(num_prompts), "");
    pieces_.assign(texts_.size(), TokenPieces(shape_.skip_special_tokens, 0));
    for (int64_t prompt = 0; prompt < num_prompts; ++prompt) {
      prompts_.push_back(shape_.full_text || shape_.details ? stream.prompt_text(prompt) : "");
    }
    stream_ = &stream;
  }

  std::string_view content_type() const override { return lmi_content_type(shape_.framing); }

  std::string chunk(std::span<const TextEvent> events) override {
    std::string bytes;
    for (const TextEvent& event : events) {
      bytes += shape_.framing == LmiFraming::kNone ? plain(event) : records_of(event);
    }
    return bytes;
  }

  std::string end(const ResponseStream&) override { return ""; }

  std::string stream_error(const Error& error) override {
    return lmi_error_record(shape_.framing, error, shape_.options);
  }

  std::string whole(std::span<const TextEvent> events, const ResponseStream& stream) override {
    const auto choices = collect(events, stream.num_choices());
    if (shape_.framing == LmiFraming::kNone) return generated(best_of(choices, 0)[0]->text, 0);
    std::string json;
    JsonWriter out(&json);
    const bool list = shape_.list || shape_.options.tgi_compat;
    if (list) out.begin_array();
    for (size_t prompt = 0; prompt < texts_.size(); ++prompt) {
      write_answer(out, best_of(choices, prompt), prompt);
    }
    if (list) out.end_array();
    return spaced(json);
  }

 private:
  using Choices = std::vector<const WholeChoice*>;

  // The sequences of one prompt, the one that the model finds likeliest first.
  Choices best_of(const std::vector<WholeChoice>& choices, size_t prompt) const {
    const auto count = static_cast<size_t>(shape_.num_sequences);
    Choices sequences;
    for (size_t i = 0; i < count; ++i) sequences.push_back(&choices[prompt * count + i]);
    std::stable_sort(sequences.begin(), sequences.end(),
                     [](const WholeChoice* a, const WholeChoice* b) {
                       return mean_logprob(*a) > mean_logprob(*b);
                     });
    return sequences;
  }

  static double mean_logprob(const WholeChoice& choice) {
    if (choice.tokens.empty()) return 0.0;
    const double sum =
        std::accumulate(choice.tokens.begin(), choice.tokens.end(), 0.0,
                        [](double total, const TokenText& token) { return total + token.logprob; });
    return sum / static_cast<double>(choice.tokens.size());
  }

  std::string generated(const std::string& text, size_t prompt) const {
    return shape_.full_text ? prompts_[prompt] + text : text;
  }

  std::string_view logprob_name() const {
    return shape_.options.tgi_compat ? "logprob" : "log_prob";
  }

  void write_token(JsonWriter& out, TokenId id, std::string_view text, std::optional<float> logprob,
                   bool special) const {
    out.begin_object().key("id").value(int64_t{id}).key("text").value(text).key(logprob_name());
    logprob ? out.value(std::max(*logprob, kLeastLogprob)) : out.null();
    if (shape_.options.tgi_compat) {
      out.key("special").value(special);
    } else if (special) {
      out.key("special_token").value(true);
    }
    out.end_object();
  }

  void write_token(JsonWriter& out, const TokenPiece& piece) const {
    write_token(out, piece.token.id, piece.visible, piece.token.logprob, piece.token.special);
  }

  void write_top(JsonWriter& out, const TokenText& token) const {
    out.begin_array();
    for (const TokenText::Alternative& other : token.top) {
      write_token(out, other.id, other.text, other.logprob, false);
    }
    out.end_array();
  }

  void write_ending(JsonWriter& out, const Finish& finish) const {
    out.key("finish_reason").value(lmi_finish(finish.reason));
    out.key("generated_tokens").value(finish.completion_tokens);
  }

  // The first token of a prompt has nothing in front of it, and so no probability.
  void write_prefill(JsonWriter& out, size_t prompt) const {
    out.key("prefill").begin_array();
    bool first = true;
    for (const TokenText& token : stream_->prompt_logprobs(static_cast<int64_t>(prompt))) {
      write_token(out, token.id, token.text, first ? std::nullopt : std::optional(token.logprob),
                  token.special);
      first = false;
    }
    out.end_array();
  }

  void write_tokens(JsonWriter& out, const WholeChoice& choice) const {
    TokenPieces splitter(shape_.skip_special_tokens, 0);
    const auto pieces = splitter.push(choice.text, choice.tokens, true);
    out.key("tokens").begin_array();
    for (const TokenPiece& piece : pieces) write_token(out, piece);
    out.end_array();
  }

  void write_top_tokens(JsonWriter& out, const WholeChoice& choice) const {
    if (!shape_.top_tokens) return;
    out.key("top_tokens").begin_array();
    for (const TokenText& token : choice.tokens) write_top(out, token);
    out.end_array();
  }

  void write_answer(JsonWriter& out, const Choices& sequences, size_t prompt) const {
    const WholeChoice& best = *sequences.front();
    out.begin_object().key("generated_text").value(generated(best.text, prompt));
    if (shape_.details) {
      out.key("details").begin_object();
      write_ending(out, best.finish);
      out.key("inputs").value(prompts_[prompt]);
      write_tokens(out, best);
      if (shape_.prefill) write_prefill(out, prompt);
      write_top_tokens(out, best);
      if (sequences.size() > 1) write_others(out, sequences, prompt);
      out.end_object();
    }
    out.end_object();
  }

  void write_others(JsonWriter& out, const Choices& sequences, size_t prompt) const {
    out.key("best_of_sequences").begin_array();
    for (size_t i = 1; i < sequences.size(); ++i) {
      const WholeChoice& other = *sequences[i];
      out.begin_object().key("generated_text").value(generated(other.text, prompt));
      write_ending(out, other.finish);
      write_tokens(out, other);
      write_top_tokens(out, other);
      out.end_object();
    }
    out.end_array();
  }

  // A record per token; the last one holds the whole text.
  std::string records_of(const TextEvent& event) {
    texts_[0] += event.text;
    std::string bytes;
    each_token(pieces_[0], event, [&](const TokenPiece* piece, const Finish* finish) {
      bytes += record(piece, finish);
    });
    return bytes;
  }

  std::string record(const TokenPiece* piece, const Finish* finish) const {
    std::string json;
    JsonWriter out(&json);
    out.begin_object();
    if (piece != nullptr) {
      out.key("token");
      write_token(out, *piece);
      if (shape_.top_tokens) {
        out.key("top_tokens");
        write_top(out, piece->token);
      }
    }
    if (finish != nullptr) {
      out.key("generated_text").value(generated(texts_[0], 0));
      if (shape_.details) {
        out.key("details").begin_object();
        write_ending(out, *finish);
        out.key("inputs").value(prompts_[0]);
        if (shape_.prefill) write_prefill(out, 0);
        out.end_object();
      }
    }
    out.end_object();
    return lmi_record(shape_.framing, spaced(json));
  }

  std::string plain(const TextEvent& event) {
    const bool first = texts_[0].empty() && shape_.full_text;
    texts_[0] += event.text;
    if (!first || event.text.empty()) return event.text;
    return prompts_[0] + event.text;
  }

  const LmiShape shape_;
  const ResponseStream* stream_ = nullptr;  // outlives the calls between begin() and its end
  std::vector<std::string> texts_;
  std::vector<std::string> prompts_;
  std::vector<TokenPieces> pieces_;
};

}  // namespace

std::string_view lmi_content_type(LmiFraming framing) {
  switch (framing) {
    case LmiFraming::kJson:
      return kJsonType;
    case LmiFraming::kJsonLines:
      return kJsonLinesType;
    case LmiFraming::kSse:
      return "text/event-stream";
    case LmiFraming::kNone:
      break;
  }
  return "text/plain";
}

std::string lmi_record(LmiFraming framing, std::string_view json) {
  return framing == LmiFraming::kSse ? sse(json) : std::string(json) + "\n";
}

std::string lmi_error_record(LmiFraming framing, const Error& error, const LmiOptions& options) {
  const ErrorAnswer answer = error_answer(error, Dialect::kLmi, "", RefusedBy::kModel, options);
  std::string json;
  JsonWriter out(&json);
  out.begin_object().key("finish_reason").value("error").key("error").value(error.message);
  out.key("code").value(answer.status).key("reason").value(answer.slug).end_object();
  // Text alone has no records: this one begins a line of its own.
  const char* before = framing == LmiFraming::kNone ? "\n" : "";
  return before + lmi_record(framing, spaced(json));
}

std::string_view lmi_finish(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kStopString:
      return "stop_sequence";
    default:
      return "eos_token";
  }
}

std::string spaced(std::string_view compact) {
  std::string out;
  out.reserve(compact.size() + compact.size() / 8);
  bool inside = false, escaped = false;
  for (const char c : compact) {
    out += c;
    if (inside) {
      inside = escaped || c != '"';
      escaped = !escaped && c == '\\';
    } else if (c == '"') {
      inside = true;
    } else if (c == ',' || c == ':') {
      out += ' ';
    }
  }
  return out;
}

std::unique_ptr<ResponseFormat> make_lmi_format(const LmiShape& shape) {
  return std::make_unique<LmiFormat>(shape);
}

}  // namespace tidemill
