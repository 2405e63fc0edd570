// safetensors and their index: every tensor lies inside its file, tensors share no byte, their
// numbers can be read, and a file made of them again says the same.
#include "base/fuzz_target.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/test_files.h"

namespace tidemill {
namespace {

bool is_read(StoredType type) {
  return type == StoredType::kF32 || type == StoredType::kF16 || type == StoredType::kBf16 ||
         type == StoredType::kF64;
}

void check_tensor(const StoredTensor& tensor, const SourceFile& file, uint64_t* end) {
  CHECK(tensor.offset >= *end && tensor.offset <= file.size() &&
            tensor.bytes <= file.size() - tensor.offset,
        "{} bytes at {} of {}", tensor.bytes, tensor.offset, file.size());
  *end = tensor.offset + tensor.bytes;
  CHECK(!tensor.name.empty() && tensor.name.find('\0') == std::string::npos, "an odd name");
  uint64_t count = 1;
  for (const int64_t size : tensor.shape) count *= static_cast<uint64_t>(size);
  if (!is_read(tensor.type) || count == 0 || tensor.shape.size() > 2) return;
  const int64_t rows = tensor.shape.size() == 2 ? tensor.shape[0] : 1;
  std::vector<float> numbers(count);  // no more of them than the file has bytes
  read_rows(tensor, 0, rows, numbers.data());
}

std::string spelled(const std::vector<StoredTensor>& tensors) {
  JsonValue header = JsonObject{};
  std::string data;
  for (const StoredTensor& tensor : tensors) {
    const auto begin = static_cast<int64_t>(data.size());
    data += text_of(tensor);
    header.set(tensor.name,
               JsonObject{{"dtype", std::string(name_of(tensor.type))},
                          {"shape", JsonArray(tensor.shape.begin(), tensor.shape.end())},
                          {"data_offsets", JsonArray{begin, static_cast<int64_t>(data.size())}}});
  }
  return safetensors_file(to_json(header), data);
}

void read_as_file(std::string_view input) {
  const SourceFile file(bytes_of(input), "x.safetensors");
  const std::vector<StoredTensor> tensors = read_safetensors(file);
  uint64_t end = 0;
  for (const StoredTensor& tensor : tensors) check_tensor(tensor, file, &end);
  const SourceFile copy(bytes_of(spelled(tensors)), "copy");
  const std::vector<StoredTensor> same = read_safetensors(copy);
  CHECK(same.size() == tensors.size(), "{} of {} tensors", same.size(), tensors.size());
  for (size_t i = 0; i < same.size(); ++i) {
    CHECK(same[i].name == tensors[i].name && same[i].shape == tensors[i].shape &&
              same[i].type == tensors[i].type && text_of(same[i]) == text_of(tensors[i]),
          "tensor {} reads differently", i);
  }
}

void read_as_index(std::string_view input) {
  const ShardIndex index = read_shard_index(input, "index");
  for (const std::string& name : index.files) {
    CHECK(name.find('/') == std::string::npos && name.find('\0') == std::string::npos &&
              name.find('\\') == std::string::npos && name.ends_with(".safetensors"),
          "a name that leads out: {}", name);
  }
}

std::string refusal_in(void (*read)(std::string_view), std::string_view input) {
  return refusal_of([&] { read(input); });
}

}  // namespace

void fuzz_one(std::string_view input) {
  if (input.starts_with('{')) refusal_in(read_as_index, input);
  refusal_in(read_as_file, input);
}

std::vector<std::string> fuzz_seeds() {
  return {safetensors_file("{}", ""),
          safetensors_file(R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}  )", "wxyz"),
          safetensors_file(R"({"b":{"shape":[1,2],"data_offsets":[1,9],"dtype":"F32"},)"
                           R"("__metadata__":{"format":"pt"},)"
                           R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})",
                           "123456789"),
          safetensors_file(R"({"a":{"dtype":"BF16","shape":[0,7],"data_offsets":[0,0]}})", ""),
          R"({"metadata":{"total_size":8},"weight_map":{"a":"model-00001-of-00001.safetensors"}})",
          R"({"weight_map":{"a":"../b.safetensors"}})"};
}

}  // namespace tidemill
