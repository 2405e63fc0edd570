// tidemill generate: continues a prompt and streams it to standard output, or continues every
// prompt of a JSONL file together and prints one JSON line each, in their order.
//
// A line of the file is {"prompt": TEXT}, {"ids": [..]} or {"messages": [..]}, with
// "max_new_tokens" where it differs. An answer is {"index", "text", "ids", "finish_reason",
// "prompt_tokens"} and, with --logprobs, "logprobs".
#include <unistd.h>

#include <cstdio>
#include <deque>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include "base/check.h"
#include "base/json.h"
#include "loaded_model.h"
#include "progress_bar.h"
#include "sampling_arguments.h"
#include "verbs.h"

namespace tidemill {
namespace {

constexpr size_t kMaxInFlight = 256;  // prompts of a file that are submitted ahead of their answers

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

// A line of the file, as fields on top of the command line's.
GenerationFields fields_of_line(const JsonValue& line, GenerationFields fields, size_t number) {
  fields.prompts.clear();
  if (const JsonValue* text = line.find("prompt"); text != nullptr && text->is_string()) {
    fields.prompts.push_back(TextPrompt{.text = text->string()});
  } else if (const JsonValue* ids = line.find("ids"); ids != nullptr && ids->is_array()) {
    TokenPrompt prompt;
    for (const JsonValue& id : ids->array()) {
      if (!id.is_integer())
        throw std::runtime_error(
            format("line {}: ids holds {}; it must hold integers.", number, id.kind_name()));
      prompt.ids.push_back(static_cast<TokenId>(id.integer()));
    }
    fields.prompts.push_back(std::move(prompt));
  } else if (const JsonValue* messages = line.find("messages")) {
    fields.prompts.push_back(ChatPrompt{.messages = *messages});
  } else {
    throw std::runtime_error(
        format("line {}: needs prompt (a string), ids (integers) or messages (a list).", number));
  }
  if (const JsonValue* tokens = line.find("max_new_tokens");
      tokens != nullptr && tokens->is_integer()) {
    fields.max_new_tokens = tokens->integer();
  }
  return fields;
}

ResponseStream submit(LoadedModel& model, GenerationFields fields) {
  const auto request =
      GenerationRequest::make(std::move(fields), FieldNames{}, model.facts().limits);
  if (!request) throw std::runtime_error(request.error().message);
  auto stream = model.executor().submit(*request);
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
  ResponseStream stream = submit(model, std::move(fields));
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

void generate_file(LoadedModel& model, const GenerationFields& fields,
                   const VerbArguments& arguments) {
  std::ifstream file(arguments.file);
  if (!file) throw std::runtime_error(format("{} cannot be read.", arguments.file));
  std::deque<ResponseStream> streams;
  size_t printed = 0;
  const auto print_oldest = [&] {
    const Answer answer = read_answer(streams.front(), [](const std::string&) {});
    print_json(printed++, answer, streams.front(), arguments.num_logprobs >= 0);
    streams.pop_front();
  };
  std::string text;
  for (size_t number = 1; std::getline(file, text); ++number) {
    if (text.empty()) continue;
    const auto line = parse_json(text);
    if (!line) {
      throw std::runtime_error(format("{}:{}: {}", arguments.file, number, line.error().message));
    }
    if (streams.size() == kMaxInFlight) print_oldest();
    streams.push_back(submit(model, fields_of_line(*line, fields, number)));
  }
  while (!streams.empty()) print_oldest();
}

}  // namespace

int generate(const SettingsReport& report) {
  const VerbArguments& arguments = report.settings.verb;
  if (arguments.prompt.empty() == arguments.file.empty()) {
    throw std::runtime_error("generate needs --prompt TEXT or --file PROMPTS.jsonl, not both.");
  }
  WorkerPool workers(report.settings.workers);
  MetricsRegistry metrics;
  ProgressBar bar(stderr);
  const auto model = LoadedModel::load(report.settings, workers, metrics, bar.callback());
  bar.finish();
  const GenerationFields fields = generation_fields(arguments);
  if (arguments.file.empty()) {
    generate_one(*model, fields, arguments);
  } else {
    generate_file(*model, fields, arguments);
  }
  return 0;
}

}  // namespace tidemill
