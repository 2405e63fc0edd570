#include "verbs.h"

namespace tidemill {
namespace {

constexpr char kAnyModel[] = "Folder, GGUF file or engine directory";

constexpr Verb kVerbs[] = {
    {"serve", "Serve a model over HTTP.", kAnyModel, serve},
    {"compile", "Compile a checkpoint into an engine directory.", "Folder or GGUF file", compile},
    {"generate", "Continue a prompt, or every prompt of a JSONL file.", kAnyModel, generate},
    {"chat", "Talk to a model in the terminal.", kAnyModel, chat},
    {"bench",
     "Measure prefill and decode, beside the machine's bandwidth; with --url, a running server.",
     "Folder, GGUF file or engine directory; with --url, a name to send", bench},
    {"eval", "Perplexity of a text; logits against a stored reference.", kAnyModel, eval},
    {"inspect", "What this machine can run, and what a model holds.", kAnyModel, inspect},
};

}  // namespace

std::span<const Verb> all_verbs() { return kVerbs; }

}  // namespace tidemill
