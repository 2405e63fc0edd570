// Hostile folders: names, configurations, tokenizers, templates.
#include "compiler/hostile_models.h"

namespace tidemill::hostile {
namespace {

std::vector<Row> name_rows() {
  const auto index = [](std::string name) {
    return [name = std::move(name)](Model& m) { m.index(name); };
  };
  return {
      {"M_6_IndexNamesAParent", index("../good.safetensors"), "must be a plain name"},
      {"M_6_IndexNamesAnAbsolutePath", index("/etc/passwd.safetensors"), "must be a plain name"},
      {"M_6_IndexNamesAFolder", index("a/good.safetensors"), "must be a plain name"},
      {"M_6_IndexNamesABackslash", index("..\\\\good.safetensors"), "must be a plain name"},
      {"M_6_IndexNameWithNul", index("good.safetensors\\u0000.png"), "must be a plain name"},
      {"M_6_IndexNamesNoSafetensors", index("/dev/zero"), "must be a plain name"},
      {"M_6_IndexNamesWhatIsNotThere", index("other.safetensors"), "which is not there"},
      {"M_6_IndexNamesALinkOutside",
       [](Model& m) {
         m.index("link.safetensors");
         fs::rename(m.folder / "good.safetensors", m.folder.parent_path() / "outside.safetensors");
         fs::create_symlink("../outside.safetensors", m.folder / "link.safetensors");
       },
       "is a link to a file outside"},
      {"M_6_IndexNamesAFolderInPlaceOfAFile",
       [](Model& m) {
         m.index("folder.safetensors");
         fs::create_directory(m.folder / "folder.safetensors");
       },
       "folder.safetensors"},
      {"M_1_IndexTwice",
       file("model.safetensors.index.json",
            R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})"),
       "stands twice"},
      {"M_1_IndexWithoutMap", file("model.safetensors.index.json", "{}"), "weight_map"},
      {"M_7_PicklesOnly", only_pickle("pytorch_model.bin"), "pickles"},
      {"M_7_HandlerScript", file("model.py", "import os"), "model.py"},
  };
}

std::vector<Row> config_rows() {
  const auto with_shape = [](const char* tensor, std::vector<int64_t> shape) {
    return [tensor, shape = std::move(shape)](Model& m) {
      m.made.add(tensor, shape);
      m.made.write(m.folder);
    };
  };
  return {
      {"M_3_ConfigIsNoJson", file("config.json", "{"), "config.json"},
      {"M_3_ConfigIsDeep", file("config.json", repeated("[", 1'000'000)), "config.json"},
      {"M_3_ConfigKeyTwice",
       file("config.json", R"({"architectures":["LlamaForCausalLM"],"architectures":[]})"),
       "stands twice"},
      {"M_3_ConfigAboveItsBound", file("config.json", std::string((4 << 20) + 1, ' ')),
       "are allowed"},
      {"M_3_UnknownFamily", config("architectures", R"(["EvilForCausalLM"])"), "EvilForCausalLM"},
      {"M_3_RemoteCodeFamily",
       [](Model& m) {
         m.config("architectures", R"(["EvilModel"])");
         m.config("auto_map", R"({"AutoModelForCausalLM":"evil.EvilModel"})");
       },
       "EvilModel"},
      {"M_3_LayersBeyondReason", config("num_hidden_layers", "2147483647"), "num_hidden_layers is"},
      {"M_3_NoLayers", config("num_hidden_layers", "0"), "num_hidden_layers is 0"},
      {"M_3_NegativeHeads", config("num_attention_heads", "-1"), "num_attention_heads is -1"},
      {"M_3_HeadsThatDoNotDivide", config("num_key_value_heads", "2"), "evenly"},
      {"M_3_OddHeadSize", config("head_dim", "7"), "must be even"},
      {"M_3_HiddenSizeOverflows", config("hidden_size", "9223372036854775807"), "hidden_size is"},
      {"M_3_VocabularyOf2To40", config("vocab_size", "1099511627776"), "vocab_size is"},
      {"M_3_PositionsOf2To62", config("max_position_embeddings", "4611686018427387904"),
       "max_position_embeddings is"},
      {"M_3_EpsilonOfZero", config("rms_norm_eps", "0"), "rms_norm_eps is 0"},
      {"M_3_ThetaOfZero", config("rope_theta", "0"), "rope_theta is 0"},
      {"M_3_ThetaBeyondDoubles", file("config.json", R"({"rope_theta":1e999})"), "too large"},
      {"M_3_FewerLayersInTheFileThanSaid", config("num_hidden_layers", "3"),
       "9 tensors are missing"},
      {"M_3_LargerVocabularyThanTheEmbedding", config("vocab_size", "1000"),
       "2 tensors do not fit"},
      {"M_3_OtherHiddenSize", config("hidden_size", "48"), "do not fit"},
      {"M_3_MisshapenTensor", with_shape("model.norm.weight", {25}),
       "model.norm.weight is [25] instead of [24]"},
      {"M_3_EmptyTensor", with_shape("model.norm.weight", {0}),
       "model.norm.weight is [0] instead of [24]"},
      {"M_5_EndTokenBeyondTheVocabulary", file("generation_config.json", R"({"eos_token_id":17})"),
       "eos_token_id is 17"},
  };
}

std::vector<Row> text_rows() {
  const std::string bpe = R"({"type":"BPE","vocab":{"a":0},"merges":[]})";
  const auto chat = [](std::string source) {
    return file("chat_template.jinja", std::move(source));
  };
  const std::string grow = "{% set ns = namespace(s='x') %}{% for i in range(1000) %}";
  return {
      {"M_5_TokenizerIsNoJson", file("tokenizer.json", "{"), "tokenizer.json"},
      {"M_5_TokenizerThatPanicsTheLibrary",
       file("tokenizer.json", R"({"decoder":{"type":"Metaspace","replacement":"_" "x"}})"),
       "tokenizer.json"},
      {"M_5_TokenizerIsDeep", tokenizer(bpe, R"(,"x":)" + repeated("[", 1'000'000)),
       "tokenizer.json"},
      {"M_5_TokenizerNestedIn2000Sequences",
       tokenizer(bpe, R"(,"normalizer":)" +
                          repeated(R"({"type":"Sequence","normalizers":[)", 2000) +
                          repeated("]}", 2000)),
       "tokenizer.json"},
      {"M_5_TokenizerOfAnUnknownModel", tokenizer(R"({"type":"Evil"})"), "tokenizer.json"},
      {"M_5_MergesOfTokensThatAreNone",
       tokenizer(R"({"type":"BPE","vocab":{"a":0},"merges":[["b","c"]]})"), "tokenizer.json"},
      {"M_5_VocabularyOfNegativeIds", tokenizer(R"({"type":"BPE","vocab":{"a":-1},"merges":[]})"),
       "tokenizer.json"},
      {"M_5_IdsBeyond32Bits", tokenizer(R"({"type":"BPE","vocab":{"a":4294967296},"merges":[]})"),
       "tokenizer.json"},
      {"M_5_UnknownTokenOutside",
       tokenizer(R"({"type":"Unigram","unk_id":7,"vocab":[["a",-1.0]]})"), "tokenizer.json"},
      {"M_5_AddedIdOf2To40",
       tokenizer(bpe, R"(,"added_tokens":[{"id":1099511627776,"content":"<x>","special":true,)"
                      R"("single_word":false,"lstrip":false,"rstrip":false,"normalized":false}])"),
       "tokenizer.json"},
      {"M_5_PatternThatIsNone",
       tokenizer(bpe, R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(((("},)"
                      R"("behavior":"Isolated","invert":false})"),
       "tokenizer.json"},
      {"C_1_TemplateThatDoesNotEnd", chat("{% for m in messages %}"), "chat template"},
      {"C_1_TemplateOfOnePercentSign", chat("{%}"), "chat template"},
      {"C_1_TemplateNested100000Deep", chat("{{ " + repeated("(", 100'000) + " }}"),
       "chat template"},
      {"C_1_TemplateOfEndlessSteps",
       chat("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
       "steps"},
      {"C_1_TemplateThatDoubles", chat(grow + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}"),
       "bytes of memory"},
      {"C_1_TemplateThatCallsItself", chat("{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}"),
       "recursion"},
      {"C_1_TemplateOfATerabyte", chat("{{ 'x' * 1000000000000 }}"), "chat template"},
      {"C_2_TemplateThatReadsAFile", chat("{% include '/etc/passwd' %}"), "chat template"},
      {"C_2_TemplateThatReachesForPython", chat("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
       "chat template"},
  };
}

class HostileFolder : public HostileModel {};
TEST_P(HostileFolder, IsRefusedInTimeAndSaysWhy) { expect_refusal(); }
INSTANTIATE_TEST_SUITE_P(Name, HostileFolder, testing::ValuesIn(name_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Config, HostileFolder, testing::ValuesIn(config_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Text, HostileFolder, testing::ValuesIn(text_rows()), kRowName);

}  // namespace
}  // namespace tidemill::hostile
