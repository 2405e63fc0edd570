#include "model/load.h"

#include <cstring>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/check.h"

namespace tidemill {
namespace {

// Finds tensors of the mapped file by our names. What the architecture does not have is null.
class Binder {
 public:
  Binder(const Manifest& manifest, std::span<const std::byte> file, const ModelOptions& options)
      : file_(file), input_parts_(options.activation_bits / 8) {
    for (const EngineTensor& tensor : manifest.tensors) tensors_.emplace(tensor.name, &tensor);
  }

  PackedWeight weight(const std::string& name) const {
    const EngineTensor& tensor = *tensors_.at(name);
    return {.format = tensor.format,
            .n = tensor.n,
            .k = tensor.k,
            .data = reinterpret_cast<const unsigned char*>(file_.data()) + tensor.offset,
            .input_parts = input_parts_};
  }
  const float* vector(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return nullptr;
    return reinterpret_cast<const float*>(file_.data() + found->second->offset);
  }

 private:
  std::span<const std::byte> file_;
  const int32_t input_parts_;
  std::unordered_map<std::string, const EngineTensor*> tensors_;
};

LayerWeights bind_layer(const Binder& binder, int64_t index) {
  const std::string prefix = format("layers.{}.", index);
  return {
      .attention_norm = binder.vector(prefix + "attention_norm"),
      .qkv = binder.weight(prefix + "qkv"),
      .qkv_bias = binder.vector(prefix + "qkv_bias"),
      .q_norm = binder.vector(prefix + "q_norm"),
      .k_norm = binder.vector(prefix + "k_norm"),
      .output = binder.weight(prefix + "output"),
      .output_bias = binder.vector(prefix + "output_bias"),
      .mlp_norm = binder.vector(prefix + "mlp_norm"),
      .gate_up = binder.weight(prefix + "gate_up"),
      .gate_up_bias = binder.vector(prefix + "gate_up_bias"),
      .down = binder.weight(prefix + "down"),
      .down_bias = binder.vector(prefix + "down_bias"),
  };
}

}  // namespace

Model::Model(const std::filesystem::path& engine_dir, const ModelOptions& options)
    : manifest_(read_manifest(engine_dir)),
      options_(options),
      file_(engine_dir / kWeightsFileName) {
  check_layout(manifest_, engine_dir);
  compute_types_ = tidemill::compute_types(manifest_.tensors, options);
  bind(file_.bytes());
}

void Model::bind(std::span<const std::byte> weights) {
  const Binder binder(manifest_, weights, options_);
  std::vector<LayerWeights> layers;
  for (int64_t i = 0; i < architecture().num_layers; ++i) layers.push_back(bind_layer(binder, i));
  layers_ = std::move(layers);
  embedding_ = binder.weight("embedding");
  head_ = architecture().tied_head ? embedding_ : binder.weight("head");
  head_.input_parts = kHeadInputParts;
  final_norm_ = binder.vector("final_norm");
}

void Model::copy_weights(const Kernels& kernels, WorkerPool& workers) {
  const std::span<const std::byte> from = file_.bytes();
  CHECK(static_cast<int64_t>(from.size()) == weight_bytes(), "{} bytes of {}", from.size(),
        weight_bytes());
  Buffer copy = kernels.allocate(from.size());
  auto* to = static_cast<std::byte*>(copy.data());
  workers.run([&](Lane& lane) {
    for (const EngineTensor& tensor : manifest_.tensors) {
      // A product shares out panels the same way: what is touched first here is near who reads it.
      const Range share = lane.share(tensor.bytes, kWeightAlignment);
      const auto begin = static_cast<size_t>(tensor.offset + share.begin);
      const auto count = static_cast<size_t>(share.size());
      std::memcpy(to + begin, from.data() + begin, count);
      file_.set_aside(begin, count);
    }
  });
  if (file_.has_failed()) {
    throw std::runtime_error(
        "the file of the weights cannot be read (I/O error): it was made shorter, or its disk "
        "fails. Compile the checkpoint again.");
  }
  bind({to, from.size()});
  copy_ = std::move(copy);
  file_ = MappedFile();
}

}  // namespace tidemill
