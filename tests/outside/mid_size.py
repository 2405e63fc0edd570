"""A random llama of awkward sizes whose tokens are the words w0, w1, ..., in each form of file."""
import json

import gguf
import numpy
from safetensors.numpy import save_file

HIDDEN, LAYERS, HEADS, KV_HEADS, DIM, INNER, VOCAB, POSITIONS = 576, 4, 9, 3, 64, 1536, 2051, 4096

# Hugging Face's name and GGUF's, rows and columns.
MATRICES = {"self_attn.q_proj": ("attn_q", HEADS * DIM, HIDDEN),
            "self_attn.k_proj": ("attn_k", KV_HEADS * DIM, HIDDEN),
            "self_attn.v_proj": ("attn_v", KV_HEADS * DIM, HIDDEN),
            "self_attn.o_proj": ("attn_output", HIDDEN, HEADS * DIM),
            "mlp.gate_proj": ("ffn_gate", INNER, HIDDEN),
            "mlp.up_proj": ("ffn_up", INNER, HIDDEN),
            "mlp.down_proj": ("ffn_down", HIDDEN, INNER)}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def weights():
    """By Hugging Face's names."""
    generator = numpy.random.default_rng(3)

    def matrix(rows, columns):
        return generator.normal(0, columns ** -0.5, (rows, columns)).astype(numpy.float32)

    tensors = {"model.embed_tokens.weight": matrix(VOCAB, HIDDEN),
               "model.norm.weight": numpy.ones(HIDDEN, numpy.float32)}
    for i in range(LAYERS):
        for name in NORMS:
            tensors[f"model.layers.{i}.{name}.weight"] = numpy.ones(HIDDEN, numpy.float32)
        for name, (_, rows, columns) in MATRICES.items():
            tensors[f"model.layers.{i}.{name}.weight"] = matrix(rows, columns)
    return tensors


def tokenizer():
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None,
        "decoder": None, "model": {"type": "WordLevel", "unk_token": "w0",
                                   "vocab": {f"w{i}": i for i in range(VOCAB)}}})


def write_folder(folder, others=None, config=None):
    """`others`: matrices of somebody else's, by Hugging Face's names; `config`: such keys."""
    folder.mkdir()
    save_file(weights() | (others or {}), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "max_position_embeddings": POSITIONS,
        "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "hidden_act": "silu", **(config or {})}))
    (folder / "tokenizer.json").write_text(tokenizer())
    return folder


def interleaved(matrix):
    """Rows of q and k in the order of GGUF's llamas: of each head 0, half, 1, half + 1, ..."""
    heads = matrix.reshape(-1, 2, DIM // 2, HIDDEN)
    return numpy.ascontiguousarray(heads.swapaxes(1, 2)).reshape(matrix.shape)


def write_gguf(path, types, others, blocks=None):
    """`types`: of some matrices, by GGUF's names; `others`: of the rest. `blocks`: rows of bytes and
    their type, for whole names of tensors that are not ours."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_context_length(POSITIONS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_string("tokenizer.huggingface.json", tokenizer())
    tensors = weights()

    def add(name, values, type_name="F32"):
        if name in (blocks or {}):
            rows, form = blocks[name]
            writer.add_tensor(name, rows, raw_dtype=form)
            return
        form = gguf.GGMLQuantizationType[types.get(name.split(".")[-2], type_name)]
        writer.add_tensor(name, gguf.quants.quantize(values, form), raw_dtype=form)

    add("token_embd.weight", tensors["model.embed_tokens.weight"], others)
    add("output_norm.weight", tensors["model.norm.weight"])
    for i in range(LAYERS):
        for name, ours in NORMS.items():
            add(f"blk.{i}.{ours}.weight", tensors[f"model.layers.{i}.{name}.weight"])
        for name, (ours, _, _) in MATRICES.items():
            matrix = tensors[f"model.layers.{i}.{name}.weight"]
            matrix = interleaved(matrix) if ours in ("attn_q", "attn_k") else matrix
            add(f"blk.{i}.{ours}.weight", matrix, others)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
