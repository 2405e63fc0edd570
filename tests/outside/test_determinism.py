"""One arithmetic: a request's text and the bits of its log-probabilities are the same whatever runs
beside it and however its prompt was computed."""
import concurrent.futures
import itertools
import json
import random
import subprocess

import httpx
import pytest

from conftest import BINARY
from mid_size import DIM, KV_HEADS, LAYERS, VOCAB, write_folder, write_gguf

PROMPT, NEW = 1300, 64
# Keys and values of 32 tokens: bytes of a head's numbers and of their scale.
KV_BLOCK_BYTES = {numbers: LAYERS * KV_HEADS * head_bytes * 2 * 32 for numbers, head_bytes in
                  {"bf16": DIM * 2, "fp32": DIM * 4, "int8": DIM + 2}.items()}

# A file and flags. Of the GGUF files one holds int4 with offsets, the other a bit of everything: int8
# with and without offsets, int4 without, and layers of integers that end in floats.
FORMS = {
    "bf16": ("folder", "--dtype", "bf16"),
    "fp32": ("folder", "--dtype", "fp32"),
    "int8": ("folder", "--quantize", "int8"),
    "int4, int16": ("folder", "--quantize", "int4", "--activations", "int16"),
    "Q4_1": ("Q4_1.gguf",),
    "bf16, int8 KV": ("folder", "--dtype", "bf16", "--kv-cache-dtype", "int8"),
    "Q4_1, int8 KV": ("Q4_1.gguf", "--kv-cache-dtype", "int8"),
    "w8a8": ("folder", "--quantize", "w8a8"),
    "int4": ("folder", "--quantize", "int4"),
    "int8, int16": ("folder", "--quantize", "int8", "--activations", "int16"),
    "Q4_1, int16": ("Q4_1.gguf", "--activations", "int16"),
    "mixed": ("mixed.gguf",),
    "window": ("window", "--dtype", "bf16"),
    "window, int8 KV": ("window", "--quantize", "int8", "--kv-cache-dtype", "int8"),
}
WINDOW = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 100}
# One of each kind, and one of them alone under sanitizers: these tests take the same way with each,
# and test_every_variant_keeps_its_bits has every form there, too.
ONE_OF_EACH_KIND = [pytest.param(form, marks=() if form == "Q4_1" else pytest.mark.bits)
                    for form in ["bf16", "fp32", "int8", "int4, int16", "Q4_1", "bf16, int8 KV"]]
# It preempts nobody: its blocks are freed. Under sanitizers the unit tests have it.
WINDOWED = pytest.param("window", marks=pytest.mark.bits)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mid-size")
    write_folder(folder / "folder")
    write_folder(folder / "window", config=WINDOW)
    write_gguf(folder / "Q4_1.gguf", {}, "Q4_1")
    write_gguf(folder / "mixed.gguf", {"attn_q": "Q8_0", "attn_k": "Q5_1", "attn_v": "Q4_1",
                                       "attn_output": "Q5_0", "ffn_down": "F16"}, "Q4_0")
    return folder


@pytest.fixture(scope="module")
def arguments_of(models, engines):
    """What follows `serve` for a form."""
    def arguments(form):
        file, *flags = FORMS[form]
        return [str(models / file), "--cache-dir", str(engines), *flags]
    return arguments


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
def expected(arguments_of, tmp_path_factory):
    """Each of three prompts alone, whole prefill, nothing cached: what all must equal, by form."""
    from conftest import Server
    results = {}

    def of(form):
        if form not in results:
            server = Server(*arguments_of(form), "--max-rolling-batch-prefill-tokens", "2048",
                            "--enable-prefix-caching", "false",
                            log=tmp_path_factory.mktemp("alone") / "server.log").wait_until_ready()
            results[form] = [ask(server, [prompt(seed)])[0] for seed in range(3)]
            server.stop()
        return results[form]
    return of


@pytest.mark.parametrize("form", [*ONE_OF_EACH_KIND, WINDOWED])
@pytest.mark.parametrize("arguments", [
    ["--max-rolling-batch-prefill-tokens", "96"],
    ["--threads", "1"],
    ["--threads", "2"],
    ["--threads", "3"],
    ["--pin-threads", "false"],
], ids=lambda a: " ".join(a) if isinstance(a, list) else a)
def test_chunks_and_threads_change_no_bit(serve, arguments_of, expected, form, arguments):
    server = serve(*arguments_of(form), *arguments)
    assert ask(server, [prompt(0)])[0] == expected(form)[0]


@pytest.mark.parametrize("form", [*ONE_OF_EACH_KIND, WINDOWED])
def test_prefix_hits_and_neighbours_change_no_bit(serve, arguments_of, expected, form):
    server = serve(*arguments_of(form), "--max-rolling-batch-size", "64")
    assert ask(server, [prompt(0)])[0] == expected(form)[0]
    hits = server.metric("vllm:prefix_cache_hits_total")
    assert ask(server, [prompt(0)])[0] == expected(form)[0]
    assert server.metric("vllm:prefix_cache_hits_total") - hits == PROMPT // 32 * 32
    # 63 others of many lengths beside it, all in one batch.
    requests = [[prompt(seed, 1 + seed * 5) for seed in range(1 + 21 * i, 22 + 21 * i)]
                for i in range(3)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        others = [pool.submit(ask, server, prompts, 40) for prompts in requests]
        assert ask(server, [prompt(0)])[0] == expected(form)[0]
        for other in others:
            other.result()


@pytest.mark.parametrize("form", ONE_OF_EACH_KIND)
def test_Q_7_preemption_changes_no_bit(serve, arguments_of, expected, form):
    # Three sequences of 1364 tokens need 43 blocks each. With one block less, the newest gives way
    # behind its first tokens and is computed again. Its prompt must be there before the others end.
    numbers = "fp32" if form == "fp32" else "int8" if "KV" in form else "bf16"
    server = serve(*arguments_of(form), *room_of_128_blocks(numbers), "--enable-prefix-caching",
                   "false")
    assert ask(server, [prompt(seed) for seed in range(3)]) == expected(form)
    assert server.metric("vllm:num_preemptions_total") > 0


def room_of_128_blocks(numbers):
    return ["--max-model-len", "1600", "--kv-cache-bytes", str(128 * KV_BLOCK_BYTES[numbers]),
            "--mixed-step-tokens", "512"]


@pytest.mark.bits
@pytest.mark.parametrize("prefix_caching", ["false", "true"])
def test_behind_a_window_nobody_gives_way(serve, arguments_of, expected, prefix_caching):
    """The same three in the same room: their early blocks are free while they go on."""
    server = serve(*arguments_of("window"), *room_of_128_blocks("bf16"),
                   "--enable-prefix-caching", prefix_caching)
    assert ask(server, [prompt(seed) for seed in range(3)]) == expected("window")
    assert server.metric("vllm:num_preemptions_total") == 0


def test_another_arithmetic_is_noticed(serve, arguments_of):
    """The negative control: another variant adds in another order, and these tests would see it. As
    long as both write the same; a choice may be so narrow that they part."""
    has_avx512 = subprocess.run([BINARY, "inspect", "--isa", "avx512"],
                                capture_output=True).returncode == 0
    prompts = [prompt(seed, 300) for seed in range(4)]
    server = serve(*arguments_of("bf16"), "--isa", "avx2" if has_avx512 else "reference")
    others = ask(server, prompts, 8)
    ours = ask(serve(*arguments_of("bf16")), prompts, 8)
    assert others != ours
    compared = 0
    for (text, logprobs), (our_text, our_logprobs) in zip(others, ours):
        words = zip(text.split(), our_text.split(), logprobs, our_logprobs)
        for _, _, a, b in itertools.takewhile(lambda word: word[0] == word[1], words):
            assert abs(a - b) < 0.1
            compared += 1
    assert compared >= 16


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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("isa", [pytest.param("reference", marks=pytest.mark.long), "avx2",
                                 "avx512", "amx"])
def test_every_variant_keeps_its_bits(serve, arguments_of, isa, form):
    """Chunked, with neighbours, with a prefix hit, as a stream, with other threads, in another
    process: the bits of one whole prefill alone. Of each variant that this machine can run."""
    if subprocess.run([BINARY, "inspect", "--isa", isa], capture_output=True).returncode != 0:
        pytest.skip(f"the processor has no {isa}")
    common = [*arguments_of(form), "--isa", isa]
    samplings = [{"temperature": 0}, {"temperature": 1, "seed": 7}]
    alone = serve(*common, "--enable-prefix-caching", "false", "--threads", "1")
    wanted = [ask_once(alone, sampling, stream=False) for sampling in samplings]
    assert alone.stop() == 0
    server = serve(*common, "--max-rolling-batch-prefill-tokens", "96", "--threads", "2")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        others = [pool.submit(ask, server, [prompt(seed, 3 + 5 * seed), prompt(seed + 10, 7)], 16)
                  for seed in range(1, 4)]
        assert [ask_once(server, each, stream=False) for each in samplings] == wanted
        for other in others:
            other.result()
    hits = server.metric("vllm:prefix_cache_hits_total")
    assert [ask_once(server, each, stream=True) for each in samplings] == wanted
    assert server.metric("vllm:prefix_cache_hits_total") > hits


def test_a_fresh_engine_and_a_cached_one_give_the_same_bits(serve, models, expected, tmp_path):
    for _ in range(2):
        server = serve(str(models / "folder"), "--cache-dir", str(tmp_path / "cache"))
        assert ask(server, [prompt(0)])[0] == expected("bf16")[0]
        assert server.stop() == 0
