#include "verbs.h"

namespace tidemill {
namespace {

constexpr Verb kVerbs[] = {
    {"serve", "Serve a model over HTTP.", "Folder, GGUF file or engine directory", serve},
    {"compile", "Compile a checkpoint into an engine directory.", "Folder or GGUF file", compile},
    {"generate", "Continue a prompt, or every prompt of a JSONL file.", "Folder or GGUF file",
     generate},
    {"chat", "Talk to a model in the terminal.", "Folder or GGUF file", chat},
    {"bench", "Measure prefill and decode, beside the machine's bandwidth.", "Folder or GGUF file",
     bench},
    {"eval", "Perplexity of a text; logits against a stored reference.", "Folder or GGUF file",
     eval},
    {"inspect", "What this machine can run, and what a model holds.", "Folder, file or engine",
     inspect},
};

}  // namespace

std::span<const Verb> all_verbs() { return kVerbs; }

}  // namespace tidemill
