// tidemill generate: continues a prompt and streams it to standard output, or continues every
// prompt of a JSONL file together and prints one JSON line each, in their order.
//
// A line of the file is {"prompt": TEXT}, {"ids": [..]} or {"messages": [..]}, with
// "max_new_tokens" where it differs. An answer is {"index", "text", "ids", "finish_reason",
// "prompt_tokens"} and, with --logprobs, "logprobs".
#include <cstdio>
#include <deque>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "base/text_file.h"
#include "loaded_model.h"
#include "progress_bar.h"
#include "sampling_arguments.h"
#include "verbs.h"

namespace tidemill {
namespace {

// Prompts of a file are submitted so many batches ahead of the oldest answer: one long answer does
// not empty the batch behind it.
constexpr size_t kBatchesAhead = 4;

struct Answer {
  std::string text;
  std::vector<TokenText> tokens;
  Finish finish;
};

const char* name_of(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

Prompt prompt_of_arguments(const VerbArguments& arguments) {
  if (!arguments.chat) return TextPrompt{.text = arguments.prompt};
  JsonArray messages;
  if (!arguments.system.empty()) messages.push_back(chat_message("system", arguments.system));
  messages.push_back(chat_message("user", arguments.prompt));
  return ChatPrompt{.messages = std::move(messages)};
}

TokenPrompt token_prompt(const JsonValue& ids) {
  TokenPrompt prompt;
  for (const JsonValue& id : ids.array()) {
    if (!id.is_integer()) {
      throw std::runtime_error(format("ids holds {}; it must hold integers.", id.kind_name()));
    }
    // What does not fit into an id is far beyond every vocabulary.
    if (!std::in_range<TokenId>(id.integer())) {
      throw std::runtime_error(format("ids holds {}, which no vocabulary has.", id.integer()));
    }
    prompt.ids.push_back(static_cast<TokenId>(id.integer()));
  }
  return prompt;
}

// A line of the file, as fields on top of the command line's.
GenerationFields fields_of_line(const JsonValue& line, GenerationFields fields) {
  if (const JsonValue* text = line.find("prompt"); text != nullptr && text->is_string()) {
    fields.prompts.push_back(TextPrompt{.text = text->string()});
  } else if (const JsonValue* ids = line.find("ids"); ids != nullptr && ids->is_array()) {
    fields.prompts.push_back(token_prompt(*ids));
  } else if (const JsonValue* messages = line.find("messages")) {
    fields.prompts.push_back(ChatPrompt{.messages = *messages});
  } else {
    throw std::runtime_error("needs prompt (a string), ids (integers) or messages (a list).");
  }
  if (const JsonValue* tokens = line.find("max_new_tokens")) {
    if (!tokens->is_integer()) throw std::runtime_error("max_new_tokens must be an integer.");
    fields.max_new_tokens = tokens->integer();
  }
  return fields;
}

GenerationRequest make_request(const LoadedModel& model, GenerationFields fields) {
  auto request = GenerationRequest::make(std::move(fields), FieldNames{}, model.facts().limits);
  if (!request) throw std::runtime_error(request.error().message);
  return std::move(*request);
}

ResponseStream submit(LoadedModel& model, const GenerationRequest& request) {
  auto stream = model.executor().submit(request);
  if (!stream) throw std::runtime_error(stream.error().message);
  return std::move(*stream);
}

// Reads a stream to its end; `print` hears every new piece of text.
template <typename Print>
Answer read_answer(ResponseStream& stream, Print print) {
  Answer answer;
  for (;;) {
    const ResponseStream::Poll poll = stream.wait();
    for (const TextEvent& event : poll.events) {
      print(event.text);
      answer.text += event.text;
      answer.tokens.insert(answer.tokens.end(), event.tokens.begin(), event.tokens.end());
      if (event.finish) answer.finish = *event.finish;
    }
    if (poll.error) throw std::runtime_error(poll.error->message);
    if (poll.ended) return answer;
  }
}

void print_json(size_t index, const Answer& answer, const ResponseStream& stream, bool logprobs) {
  std::string line;
  JsonWriter out(&line);
  out.begin_object().key("index").value(uint64_t{index}).key("text").value(answer.text);
  out.key("ids").begin_array();
  for (const TokenText& token : answer.tokens) out.value(int64_t{token.id});
  out.end_array().key("finish_reason").value(name_of(answer.finish.reason));
  out.key("prompt_tokens").value(stream.prompt_tokens().front());
  if (logprobs) {
    out.key("logprobs").begin_array();
    for (const TokenText& token : answer.tokens) out.value(token.logprob);
    out.end_array();
  }
  out.end_object();
  std::puts(line.c_str());
}

void generate_one(LoadedModel& model, GenerationFields fields, const VerbArguments& arguments) {
  fields.prompts.push_back(prompt_of_arguments(arguments));
  ResponseStream stream = submit(model, make_request(model, std::move(fields)));
  if (arguments.json) {
    const Answer answer = read_answer(stream, [](const std::string&) {});
    print_json(0, answer, stream, arguments.num_logprobs >= 0);
    return;
  }
  read_answer(stream, [](const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  });
  std::putchar('\n');
}

// A request of a file, and where it stands there.
struct FileRequest {
  size_t line = 0;
  GenerationRequest request;
};

// All of them: a mistake in the last line shows before the first is computed.
std::vector<FileRequest> read_requests(const LoadedModel& model, const GenerationFields& fields,
                                       const std::string& path) {
  std::istringstream file(read_text_file(path));
  std::vector<FileRequest> requests;
  std::string text;
  for (size_t number = 1; std::getline(file, text); ++number) {
    if (text.empty()) continue;
    try {
      const auto line = parse_json(text);
      if (!line) throw std::runtime_error(line.error().message);
      requests.push_back({number, make_request(model, fields_of_line(*line, fields))});
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(format("{}:{}: {}", path, number, error.what()));
    }
  }
  return requests;
}

void generate_file(LoadedModel& model, const GenerationFields& fields, const Settings& settings) {
  const VerbArguments& arguments = settings.verb;
  const auto most = static_cast<size_t>(settings.executor.scheduler.max_sequences) * kBatchesAhead;
  std::deque<ResponseStream> streams;
  size_t printed = 0;
  const auto print_oldest = [&] {
    const Answer answer = read_answer(streams.front(), [](const std::string&) {});
    print_json(printed++, answer, streams.front(), arguments.num_logprobs >= 0);
    streams.pop_front();
  };
  for (const FileRequest& item : read_requests(model, fields, arguments.file)) {
    if (streams.size() == most) print_oldest();
    try {
      streams.push_back(submit(model, item.request));
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(format("{}:{}: {}", arguments.file, item.line, error.what()));
    }
  }
  while (!streams.empty()) print_oldest();
}

}  // namespace

int generate(const SettingsReport& report) {
  const VerbArguments& arguments = report.settings.verb;
  if (arguments.prompt.empty() == arguments.file.empty()) {
    throw std::runtime_error("generate needs one of --prompt TEXT and --file PROMPTS.jsonl.");
  }
  WorkerPool workers(report.settings.workers);
  MetricsRegistry metrics;
  ProgressBar bar(stderr);
  Settings settings = report.settings;
  settings.executor.busy_log_ms = 0;  // its lines would stand between the answers
  const auto model = LoadedModel::load(settings, workers, metrics, bar.callback());
  bar.finish();
  const GenerationFields fields = generation_fields(arguments);
  if (arguments.file.empty()) {
    generate_one(*model, fields, arguments);
  } else {
    generate_file(*model, fields, report.settings);
  }
  return 0;
}

}  // namespace tidemill
