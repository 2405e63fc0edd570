"""A real model, from its file to its text."""
import itertools
import json
import pathlib
import re
import subprocess

import httpx
import pytest

from conftest import BINARY, MODELS, SHARED, need

pytestmark = pytest.mark.real_model


def run(*arguments):
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True,
                          timeout=3000)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def server(smollm2, engines, tmp_path_factory):
    from conftest import Server
    server = Server(str(smollm2), "--cache-dir", str(engines), "--dtype", "fp32",
                    log=tmp_path_factory.mktemp("smollm2") / "server.log")
    yield server.wait_until_ready()
    assert server.stop() == 0


def greedy(server, ids, count, **more):
    body = {"prompt": ids, "max_tokens": count, "temperature": 0, "logprobs": 0,
            "ignore_eos": True, **more}
    answer = httpx.post(server.url + "/v1/completions", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def test_text_is_what_the_reference_writes(server):
    reference = json.loads(need(SHARED / "reference/smollm2/greedy.json").read_text())
    for entry in reference[:6]:
        choice = greedy(server, entry["ids"], 64, skip_special_tokens=False)
        assert choice["text"] == entry["greedy_text"], entry["name"]
        for ours, theirs in zip(choice["logprobs"]["token_logprobs"], entry["logprobs"]):
            assert abs(ours - theirs) < 1e-3


def test_plain_loops_write_what_the_reference_writes(serve, smollm2, engines):
    """The variant that all others are compared with is itself compared with transformers."""
    reference = json.loads(need(SHARED / "reference/smollm2/greedy.json").read_text())
    server = serve(str(smollm2), "--cache-dir", str(engines), "--dtype", "fp32",
                   "--isa", "reference")
    for entry in sorted(reference, key=lambda entry: len(entry["ids"]))[:2]:
        choice = greedy(server, entry["ids"], 8, skip_special_tokens=False)
        assert entry["greedy_text"].startswith(choice["text"])
        logprobs = choice["logprobs"]["token_logprobs"]
        assert len(logprobs) == 8
        assert all(abs(a - b) < 1e-3 for a, b in zip(logprobs, entry["logprobs"]))


def test_text_of_the_stored_integers_is_the_references_where_that_was_clear(serve, smollm2, engines):
    """As the file is served without a flag: rounded activations may decide a narrow choice otherwise,
    at most where the reference's best two logits are nearer than 0.4."""
    reference = json.loads(need(SHARED / "reference/smollm2/greedy.json").read_text())
    server = serve(str(smollm2), "--cache-dir", str(engines))
    compared = 0
    for entry in reference:
        clear = len(list(itertools.takewhile(lambda margin: margin > 0.4, entry["margins"])))
        if clear == 0:
            continue
        choice = greedy(server, entry["ids"], clear, skip_special_tokens=False)
        assert entry["greedy_text"].startswith(choice["text"]), entry["name"]
        for ours, theirs in zip(choice["logprobs"]["token_logprobs"], entry["logprobs"]):
            assert abs(ours - theirs) < 0.3
        compared += clear
    assert compared > 100


def test_chat_knows_the_capital_of_france(server):
    body = {"messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0, "max_tokens": 20}
    answer = httpx.post(server.url + "/v1/chat/completions", json=body, timeout=60)
    assert "Paris" in answer.json()["choices"][0]["message"]["content"]


def test_equal_seeds_give_equal_text_whatever_the_neighbours(server):
    body = {"prompt": "Once upon a time", "max_tokens": 24, "seed": 7, "temperature": 1.0}
    alone = httpx.post(server.url + "/v1/completions", json=body, timeout=60).json()
    prompts = ["Once upon a time"] + [f"Number {i} is" for i in range(7)]
    among = httpx.post(server.url + "/v1/completions", json={**body, "prompt": prompts},
                       timeout=120).json()
    assert among["choices"][0]["text"] == alone["choices"][0]["text"]
    other = httpx.post(server.url + "/v1/completions", json={**body, "seed": 8}, timeout=60).json()
    assert other["choices"][0]["text"] != alone["choices"][0]["text"]


@pytest.mark.parametrize("flags, format", [
    ([], "int4_g32_offset"), (["--dtype", "bf16"], "bf16"), (["--dtype", "fp32"], "f32"),
    (["--quantize", "int8_g32"], "int8_g32"),
])
def test_a_gguf_file_keeps_its_integers_unless_something_else_is_asked_for(smollm2, flags, format):
    sheet = run("inspect", smollm2, *flags)
    assert re.search(r"compiles to +(\S+)", sheet)[1] == format


@pytest.mark.parametrize("flags", [["--dtype", "bf16"], [], ["--activations", "int16"]],
                         ids=lambda flags: " ".join(flags) or "as stored")
def test_eval_agrees_with_the_reference(smollm2, engines, flags):
    """bf16, and the file's own integers, have the same tolerance; with activations of 8 bits one of a
    hundred log-probabilities may be twice as far."""
    need(SHARED / "reference/smollm2/greedy.json")
    out = run("eval", smollm2, "--reference", SHARED / "reference/smollm2", "--cache-dir", engines,
              *flags)
    assert "within the tolerances" in out


def test_perplexity_of_the_first_windows(smollm2, engines):
    folder = need(SHARED / "reference/smollm2")
    expected = json.loads((folder / "perplexity.json").read_text())["runs"]["f32"]
    out = json.loads(run("eval", smollm2, "--file", folder / "perplexity-text.txt", "--windows", 2,
                         "--dtype", "fp32", "--cache-dir", engines, "--json"))
    assert abs(out["sum_logprob"] - sum(expected["sum_logprob_per_window"][:2])) < 0.05


def peak_bytes(process):
    """The most that the process ever had in memory, but for the files of program and libraries."""
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", proc_file(process, "status"))[1])
    path = ""
    for line in proc_file(process, "smaps").splitlines():
        if mapping := re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)", line):
            path = mapping[1]
        elif path == str(BINARY) or re.search(r"\.so(\.|$)", path):
            if resident := re.match(r"Rss:\s+(\d+) kB", line):
                peak -= int(resident[1])
    return peak * 1024


def proc_file(process, name):
    return pathlib.Path(f"/proc/{process.pid}/{name}").read_text()


@pytest.mark.parametrize("flags", [["--dtype", "bf16"], ["--quantize", "int4"]], ids=" ".join)
def test_a_process_takes_what_was_planned_and_a_twentieth_more(serve, smollm2, engines, flags):
    """With a pool of keys and values that has been full, from an engine that is in the cache."""
    tokens, each = 4096, 500
    common = [smollm2, "--cache-dir", engines, *flags]
    run("generate", *common, "--prompt", "x", "--max-new-tokens", 1)
    server = serve(*map(str, common), "--kv-cache-bytes", str(tokens * 23040),
                   "--max-model-len", "1024", "--max-rolling-batch-size", "4")
    for i in range(2 * tokens // each):  # all are different: no prefix is found in the cache
        greedy(server, [1000 + i] * each, 4)
    planned = server.metric("tidemill:memory_bytes")
    peak = peak_bytes(server.process)
    assert 0.8 < peak / planned < 1.05, f"{peak} bytes, planned {planned}"


# The integers are the reference's weights; what differs is how activations are rounded.
STORED = {"int8": ("f32-a8-g32", 0.005), "int16": ("f32", 0.001)}


def test_perplexity_with_keys_and_values_of_int8(smollm2, engines):
    text = need(SHARED / "reference/smollm2") / "perplexity-text.txt"
    bf16, int8 = (
        json.loads(run("eval", smollm2, "--file", text, "--windows", 2, "--dtype", "bf16",
                       "--kv-cache-dtype", kv, "--cache-dir", engines, "--json"))["perplexity"]
        for kv in ("auto", "int8"))
    assert int8 != bf16
    assert abs(int8 / bf16 - 1) < 0.005


@pytest.mark.parametrize("activations", STORED)
def test_perplexity_of_the_stored_integers(smollm2, engines, activations):
    form, tolerance = STORED[activations]
    folder = need(SHARED / "reference/smollm2")
    expected = json.loads((folder / "perplexity.json").read_text())["runs"][form]
    out = json.loads(run("eval", smollm2, "--file", folder / "perplexity-text.txt", "--windows", 2,
                         "--activations", activations, "--cache-dir", engines, "--json"))
    tokens = 2 * 1023
    difference = out["sum_logprob"] - sum(expected["sum_logprob_per_window"][:2])
    assert abs(difference) / tokens < tolerance


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("source", ["SmolLM2-135M-Instruct.Q4_1.gguf", "hf-f32"])
def test_perplexity_of_the_whole_text(engines, source, dtype):
    folder = need(SHARED / "reference/smollm2")
    expected = json.loads((folder / "perplexity.json").read_text())["runs"]["f32"]
    out = json.loads(run("eval", need(MODELS / source), "--file", folder / "perplexity-text.txt",
                         "--dtype", dtype, "--cache-dir", engines, "--json"))
    if dtype == "fp32":
        assert abs(out["sum_logprob"] - expected["sum_logprob"]) < 0.5
    else:
        assert abs(out["perplexity"] / expected["perplexity"] - 1) < 0.002


@pytest.mark.long
@pytest.mark.parametrize("activations", STORED)
def test_perplexity_of_the_stored_integers_over_the_whole_text(smollm2, engines, activations):
    form, tolerance = STORED[activations]
    folder = need(SHARED / "reference/smollm2")
    expected = json.loads((folder / "perplexity.json").read_text())["runs"][form]
    out = json.loads(run("eval", smollm2, "--file", folder / "perplexity-text.txt",
                         "--activations", activations, "--cache-dir", engines, "--json"))
    assert abs(out["perplexity"] / expected["perplexity"] - 1) < tolerance


@pytest.mark.long
@pytest.mark.parametrize("isa", ["reference", "avx2", "avx512", "amx"])
def test_every_variant_agrees_with_the_reference(smollm2, engines, isa):
    need(SHARED / "reference/smollm2/greedy.json")
    done = subprocess.run([BINARY, "inspect", "--isa", isa], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"{isa} does not run here")
    out = run("eval", smollm2, "--reference", SHARED / "reference/smollm2", "--dtype", "fp32",
              "--isa", isa, "--cache-dir", engines)
    assert "within the tolerances" in out
