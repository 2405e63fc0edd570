"""One arithmetic: a request's text and the bits of its log-probabilities are the same whatever runs
beside it and however its prompt was computed."""
import concurrent.futures
import json
import random
import subprocess

import httpx
import numpy
import pytest
from safetensors.numpy import save_file

from conftest import BINARY

HIDDEN, LAYERS, HEADS, KV_HEADS, DIM, INNER, VOCAB, POSITIONS = 576, 4, 9, 3, 64, 1536, 2051, 4096
PROMPT, NEW = 1300, 64
KV_BLOCK_BYTES = LAYERS * KV_HEADS * DIM * 2 * 2 * 32  # keys and values of 32 tokens in bf16


@pytest.fixture(scope="module")
def mid_size_model(tmp_path_factory):
    """A random llama of awkward sizes; its tokens are the words w0, w1, ..."""
    folder = tmp_path_factory.mktemp("mid-size")
    generator = numpy.random.default_rng(3)

    def weight(rows, columns):
        return generator.normal(0, columns ** -0.5, (rows, columns)).astype(numpy.float32)

    tensors = {"model.embed_tokens.weight": weight(VOCAB, HIDDEN),
               "model.norm.weight": numpy.ones(HIDDEN, numpy.float32)}
    for i in range(LAYERS):
        name = f"model.layers.{i}."
        tensors[name + "input_layernorm.weight"] = numpy.ones(HIDDEN, numpy.float32)
        tensors[name + "post_attention_layernorm.weight"] = numpy.ones(HIDDEN, numpy.float32)
        tensors[name + "self_attn.q_proj.weight"] = weight(HEADS * DIM, HIDDEN)
        tensors[name + "self_attn.k_proj.weight"] = weight(KV_HEADS * DIM, HIDDEN)
        tensors[name + "self_attn.v_proj.weight"] = weight(KV_HEADS * DIM, HIDDEN)
        tensors[name + "self_attn.o_proj.weight"] = weight(HIDDEN, HEADS * DIM)
        tensors[name + "mlp.gate_proj.weight"] = weight(INNER, HIDDEN)
        tensors[name + "mlp.up_proj.weight"] = weight(INNER, HIDDEN)
        tensors[name + "mlp.down_proj.weight"] = weight(HIDDEN, INNER)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "max_position_embeddings": POSITIONS,
        "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "hidden_act": "silu"}))
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None,
        "decoder": None, "model": {"type": "WordLevel", "unk_token": "w0",
                                   "vocab": {f"w{i}": i for i in range(VOCAB)}}}))
    return folder


def prompt(seed, length=PROMPT):
    generator = random.Random(seed)
    return [generator.randrange(VOCAB) for _ in range(length)]


def ask(server, prompts, count=NEW):
    """Per prompt: the text, and every token's log-probability as a float in shortest form."""
    body = {"prompt": prompts, "max_tokens": count, "temperature": 0, "ignore_eos": True,
            "logprobs": 0}
    answer = httpx.post(server.url + "/v1/completions", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    assert all(choice["text"].count("w") == count for choice in choices)
    return [(choice["text"], choice["logprobs"]["token_logprobs"]) for choice in choices]


@pytest.fixture(scope="module")
def expected(mid_size_model, engines, tmp_path_factory):
    """Each of three prompts alone, whole prefill, nothing cached: what all must equal, by dtype."""
    from conftest import Server
    results = {}
    for dtype in ("bf16", "fp32"):
        server = Server(str(mid_size_model), "--cache-dir", str(engines), "--dtype", dtype,
                        "--max-rolling-batch-prefill-tokens", "2048",
                        "--enable-prefix-caching", "false",
                        log=tmp_path_factory.mktemp("alone") / "server.log").wait_until_ready()
        results[dtype] = [ask(server, [prompt(seed)])[0] for seed in range(3)]
        server.stop()
    return results


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("arguments", [
    ["--max-rolling-batch-prefill-tokens", "96"],
    ["--threads", "1"],
    ["--threads", "2"],
    ["--threads", "3"],
    ["--pin-threads", "false"],
], ids=lambda a: " ".join(a) if isinstance(a, list) else a)
def test_chunks_and_threads_change_no_bit(serve, mid_size_model, engines, expected, dtype,
                                          arguments):
    server = serve(str(mid_size_model), "--cache-dir", str(engines), "--dtype", dtype, *arguments)
    assert ask(server, [prompt(0)])[0] == expected[dtype][0]


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_prefix_hits_and_neighbours_change_no_bit(serve, mid_size_model, engines, expected, dtype):
    server = serve(str(mid_size_model), "--cache-dir", str(engines), "--dtype", dtype,
                   "--max-rolling-batch-size", "64")
    assert ask(server, [prompt(0)])[0] == expected[dtype][0]
    hits = server.metric("vllm:prefix_cache_hits_total")
    assert ask(server, [prompt(0)])[0] == expected[dtype][0]
    assert server.metric("vllm:prefix_cache_hits_total") - hits == PROMPT // 32 * 32
    # 63 others of many lengths beside it, all in one batch.
    requests = [[prompt(seed, 1 + seed * 5) for seed in range(1 + 21 * i, 22 + 21 * i)]
                for i in range(3)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        others = [pool.submit(ask, server, prompts, 40) for prompts in requests]
        assert ask(server, [prompt(0)])[0] == expected[dtype][0]
        for other in others:
            other.result()


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_Q_7_preemption_changes_no_bit(serve, mid_size_model, engines, expected, dtype):
    # Three sequences of 1364 tokens need 43 blocks each. With one block less, the newest gives way
    # behind its first tokens and is computed again.
    block_bytes = KV_BLOCK_BYTES * (2 if dtype == "fp32" else 1)
    server = serve(str(mid_size_model), "--cache-dir", str(engines), "--dtype", dtype,
                   "--max-model-len", "1600", "--enable-prefix-caching", "false",
                   "--kv-cache-bytes", str(128 * block_bytes))
    assert ask(server, [prompt(seed) for seed in range(3)]) == expected[dtype]
    assert server.metric("vllm:num_preemptions_total") > 0


def test_another_arithmetic_is_noticed(serve, mid_size_model, engines):
    """The negative control: another variant adds in another order, and these tests would see it."""
    has_avx512 = subprocess.run([BINARY, "inspect", "--isa", "avx512"],
                                capture_output=True).returncode == 0
    server = serve(str(mid_size_model), "--cache-dir", str(engines),
                   "--isa", "avx2" if has_avx512 else "reference")
    others = ask(server, [prompt(0, 300)], 8)[0][1]
    usual = serve(str(mid_size_model), "--cache-dir", str(engines))
    ours = ask(usual, [prompt(0, 300)], 8)[0][1]
    assert others != ours
    assert max(abs(a - b) for a, b in zip(others, ours)) < 0.1


def ask_once(server, sampling, stream, length=130):
    """The text and the log-probabilities of one short answer, whole or as a stream."""
    body = {"prompt": prompt(0, length), "max_tokens": 16, "ignore_eos": True, "logprobs": 0,
            "stream": stream, **sampling}
    answer = httpx.post(server.url + "/v1/completions", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    if not stream:
        choice = answer.json()["choices"][0]
        return choice["text"], choice["logprobs"]["token_logprobs"]
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n")
              if line.startswith("data: {")]
    choices = [choice for event in events for choice in event["choices"]]
    return ("".join(choice["text"] for choice in choices),
            [value for choice in choices for value in (choice["logprobs"] or {}).get(
                "token_logprobs", [])])


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1, "seed": 7}],
                         ids=["greedy", "seeded"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("isa", [pytest.param("reference", marks=pytest.mark.long), "avx2",
                                 "avx512", "amx"])
def test_every_variant_keeps_its_bits(serve, mid_size_model, engines, isa, dtype, sampling):
    """Chunked, with neighbours, with a prefix hit, as a stream, with other threads, in another
    process: the bits of one whole prefill alone. Of each variant that this machine can run."""
    if subprocess.run([BINARY, "inspect", "--isa", isa], capture_output=True).returncode != 0:
        pytest.skip(f"the processor has no {isa}")
    common = [str(mid_size_model), "--cache-dir", str(engines), "--dtype", dtype, "--isa", isa]
    alone = serve(*common, "--enable-prefix-caching", "false", "--threads", "1")
    wanted = ask_once(alone, sampling, stream=False)
    assert alone.stop() == 0
    server = serve(*common, "--max-rolling-batch-prefill-tokens", "96", "--threads", "2")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        others = [pool.submit(ask, server, [prompt(seed, 3 + 5 * seed), prompt(seed + 10, 7)], 16)
                  for seed in range(1, 4)]
        assert ask_once(server, sampling, stream=False) == wanted
        for other in others:
            other.result()
    hits = server.metric("vllm:prefix_cache_hits_total")
    assert ask_once(server, sampling, stream=True) == wanted
    assert server.metric("vllm:prefix_cache_hits_total") > hits


def test_a_fresh_engine_and_a_cached_one_give_the_same_bits(serve, mid_size_model, engines,
                                                            expected, tmp_path):
    for _ in range(2):
        server = serve(str(mid_size_model), "--cache-dir", str(tmp_path / "cache"))
        assert ask(server, [prompt(0)])[0] == expected["bf16"][0]
        assert server.stop() == 0
