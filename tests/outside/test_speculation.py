"""Drafts, from a sequence's own text and from a draft model: what a client receives is the same
with them and without."""
import concurrent.futures
import json

import httpx
import pytest

from conftest import ROOT, Server, need, write_script

ACCEPTED = "vllm:spec_decode_num_accepted_tokens_total"
PROPOSED = "vllm:spec_decode_num_draft_tokens_total"

CODE = """def save(path, values):
    with open(path, "w") as file:
        json.dump(values, file, indent=2)


def load(path):
    with open(path) as file:
        return json.load(file)
"""
BODIES = [
    # What repeats its prompt, and what does not; greedy, drawn, and with changed logits.
    {"prompt": f"# The same file twice.\n{CODE}\n# The same file twice.\n", "temperature": 0},
    {"prompt": f"# The same file twice.\n{CODE}\n# The same file twice.\n", "temperature": 0.4},
    {"prompt": "Once upon a time", "temperature": 0},
    {"prompt": "one two three one two three one two", "temperature": 0.9, "n": 2},
    {"prompt": "The list:\n- a red apple\n- a red apple\n- a red", "temperature": 0.7,
     "frequency_penalty": 0.2, "repetition_penalty": 1.05},
    {"prompt": "The list:\n- a red apple\n- a red apple\n- a red", "temperature": 0,
     "logit_bias": {"198": 2.0}, "stop": ["apple\n- a red apple\n-"]},
]


def ask(server, body):
    answer = httpx.post(server.url + "/v1/completions", timeout=300, json={
        "max_tokens": 80, "seed": 3, "logprobs": 1, **body})
    assert answer.status_code == 200, answer.text
    return [(choice["text"], choice["finish_reason"], choice["logprobs"])
            for choice in answer.json()["choices"]], answer.json()["usage"]["completion_tokens"]


def texts(server, body):
    """The text of a stream's events, joined, and how many tokens it had."""
    text, usage = "", None
    with httpx.stream("POST", server.url + "/v1/completions", timeout=300, json={
            "max_tokens": 80, "seed": 3, "stream": True,
            "stream_options": {"include_usage": True}, **body}) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                text += choice["text"]
    return text, usage["completion_tokens"]


@pytest.mark.real_model
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_a_real_model_writes_the_same_with_drafts(serve, smollm2, engines, quantize):
    arguments = [str(smollm2), "--cache-dir", str(engines), "--quantize", quantize]
    plain = serve(*arguments, "--speculative", "off")
    expected = [ask(plain, body) for body in BODIES]
    assert plain.metric(PROPOSED) == 0
    plain.stop()
    drafting = serve(*arguments, "--speculative", "ngram")
    for body, answer in zip(BODIES, expected):
        assert ask(drafting, body) == answer
        if "n" not in body:
            assert texts(drafting, body) == (answer[0][0][0], answer[1])
    assert drafting.metric(ACCEPTED) > 100
    assert drafting.metric(PROPOSED) > drafting.metric(ACCEPTED)
    # All at once, where drafts have fewer rows, and others beside them.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, drafting, body) for body in BODIES]
        assert [answer.result() for answer in answers] == expected


@pytest.mark.real_model
def test_a_real_model_writes_the_same_with_itself_as_draft_model(serve, smollm2, engines):
    arguments = [str(smollm2), "--cache-dir", str(engines), "--dtype", "bf16"]
    plain = serve(*arguments, "--speculative", "off")
    expected = [ask(plain, body) for body in BODIES]
    plain.stop()
    drafting = serve(*arguments, "--speculative-draft-model", str(smollm2),
                     "--speculative-draft-quantize", "int4")
    assert [ask(drafting, body) for body in BODIES] == expected
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda body: ask(drafting, body), BODIES)) == expected
    drafting.wait_until_quiet()
    assert drafting.metric(ACCEPTED) > 100
    assert drafting.metric(PROPOSED) < 3 * drafting.metric(ACCEPTED)


TINY = ROOT / "tests/data/tiny"


def tiny_answers(server):
    """Of prompts of token ids, greedy and drawn, alone and all at once."""
    bodies = [{"prompt": [(7 * i * i + n) % 431 for i in range(20 + 30 * n)], "max_tokens": 60,
               "ignore_eos": True, "seed": n, "temperature": [0, 0.8, 1.2][n % 3], "logprobs": 1}
              for n in range(6)]
    alone = [httpx.post(server.url + "/v1/completions", timeout=300, json=body).json()["choices"]
             for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda body: httpx.post(
            server.url + "/v1/completions", timeout=300, json=body).json()["choices"], bodies))
    return alone, together


@pytest.mark.parametrize("draft, knows_it", [("llama", True), ("qwen2", False)])
def test_a_draft_model_says_nothing_new(serve, engines, draft, knows_it):
    # Without a calibration, what is drafted is not the machine's business.
    arguments = [str(need(TINY / "llama")), "--cache-dir", str(engines), "--dtype", "fp32",
                 "--calibration", "off"]
    plain = serve(*arguments, "--speculative", "off")
    expected = tiny_answers(plain)
    plain.stop()
    drafting = serve(*arguments, "--speculative-draft-model", str(need(TINY / draft)),
                     "--speculative-draft-quantize", "w8a8")
    assert tiny_answers(drafting) == expected
    drafting.wait_until_quiet()
    proposed, accepted = drafting.metric(PROPOSED), drafting.metric(ACCEPTED)
    if knows_it:
        assert accepted > 150 and accepted > proposed / 2
    else:
        assert 0 < proposed and accepted < proposed / 2


def test_a_draft_model_is_found_beside_the_settings(serve, engines, tmp_path):
    (tmp_path / "target").symlink_to(need(TINY / "llama"))
    (tmp_path / "draft").symlink_to(need(TINY / "llama"))
    (tmp_path / "serving.properties").write_text(
        "option.model_id=target\noption.speculative_draft_model=draft\n"
        "option.speculative_draft_quantize=w8a8\noption.speculative_length=3\n"
        f"option.dtype=fp32\noption.calibration=off\ncache_dir={engines}\n")
    server = serve(str(tmp_path))
    answer = httpx.post(server.url + "/v1/completions", timeout=300, json={
        "prompt": [5, 6, 7], "max_tokens": 40, "ignore_eos": True, "temperature": 0}).json()
    assert answer["usage"]["completion_tokens"] == 40
    server.wait_until_quiet()
    assert server.metric(ACCEPTED) > 20
    # At most three drafts in a row.
    assert server.metric(PROPOSED) <= 3 * server.metric("vllm:spec_decode_num_drafts_total")


@pytest.mark.parametrize("model, more, message", [
    ("llama", ["--speculative", "off"], "speculative is off. Leave one of them out"),
    ("mistral", [], "sliding window of 32 tokens"),
    ("llama", ["--speculative-draft-model", "/nowhere"], "/nowhere: no such file"),
    ("llama", [], "is the model itself, rounded alike"),
    ("llama-bias", ["--kv-cache-bytes", "100000"], "kv_cache_bytes is 100000"),
    ("llama", ["--speculative-draft-quantize", "int3"], "int4_g128")])
def test_a_draft_model_that_cannot_be_had_is_refused_with_the_reason(
        serve, engines, model, more, message):
    arguments = [str(need(TINY / model)), "--cache-dir", str(engines),
                 "--speculative-draft-model", str(need(TINY / "llama"))]
    if more[:1] == ["--speculative-draft-model"]:
        arguments = arguments[:3]
    with pytest.raises(RuntimeError, match=message):
        serve(*arguments, *more)


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    model = write_script(folder / "rounds.json", [
        {"when": "*", "reply": "one two three four five six. ", "repeat": 20}], step_ms=2)
    server = Server(model, "--speculative", "ngram", "--speculative-length", "8",
                    log=folder / "server.log")
    yield server.wait_until_ready()
    assert server.stop() == 0


def test_a_stream_of_several_tokens_a_step_is_whole_and_counted(rounds):
    whole = "one two three four five six. " * 20
    for length in (1, 100, 333, 1000):
        text, count = texts(rounds, {"prompt": "x", "max_tokens": length})
        assert text == whole[:length]
        assert count == min(length, len(whole) + 1)
    rounds.wait_until_quiet()
    generated = rounds.metric("vllm:generation_tokens_total")
    assert rounds.metric(ACCEPTED) > generated / 2
    # Each step says one token of its own beside its drafts.
    assert rounds.metric("vllm:iteration_tokens_total_count") < generated / 2
    assert rounds.metric("vllm:spec_decode_num_drafts_total") < generated / 2


def test_a_stop_string_and_a_reader_who_leaves_end_it_in_the_middle(rounds):
    stop = "six. one two three four five six. one two three four five six. one two"
    text, _ = texts(rounds, {"prompt": "x", "max_tokens": 1000, "stop": [stop]})
    assert text == "one two three four five "
    for _ in range(5):
        with httpx.stream("POST", rounds.url + "/v1/completions", json={
                "prompt": "x", "max_tokens": 500, "stream": True}) as answer:
            next(answer.iter_lines())
    rounds.wait_until_quiet()


def test_settings_that_are_not_built_are_refused_with_the_way_out(serve, tmp_path):
    model = write_script(tmp_path / "m.json", [{"when": "*", "reply": "x"}])
    for name, value, way_out in [
            ("OPTION_SPECULATIVE_DRAFT_MODEL", "/models/draft", "a script has no draft model"),
            ("OPTION_SPECULATIVE_DRAFT_QUANTIZE", "int4", "there is no speculative_draft_model"),
            ("OPTION_DRAFT_MODEL_TP_SIZE", "2", "Use 1"),
            ("OPTION_SPECULATIVE_CONFIG", '{"method":"ngram"}', "speculative=ngram"),
            ("OPTION_SPECULATIVE", "medusa", "ngram"),
            ("OPTION_SPECULATIVE_LENGTH", "16", "15")]:
        with pytest.raises(RuntimeError, match=way_out):
            serve(model, environment={name: value})
