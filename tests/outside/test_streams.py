"""Event streams as clients see them."""
import json
import random
import time

import httpx
import pytest

from conftest import Server, write_script
from epilogue import Epilogue, process_state


def pieces(server, path, body):
    """(seconds since the request, bytes) of an answer as it arrives."""
    begun = time.monotonic()
    with httpx.stream("POST", server.url + path, json=body, timeout=60) as answer:
        yield time.monotonic() - begun, answer.status_code
        for piece in answer.iter_raw():
            yield time.monotonic() - begun, piece


# ---- heads and comments

@pytest.fixture(scope="module")
def late_server(tmp_path_factory):
    """Prompts take 0.6 s for every 64 tokens."""
    folder = tmp_path_factory.mktemp("late")
    model = write_script(folder / "m.json", [
        {"when": "fails", "reply": "abc", "fail_at": 0}, {"when": "*", "reply": "abc"}], step_ms=600)
    server = Server(model, "--sse-ping-interval", "1", "--max-rolling-batch-prefill-tokens", "64",
                    log=folder / "server.log")
    yield server.wait_until_ready()
    assert server.stop() == 0, server.log.read_text(errors="replace")


def prompt_of(steps, word="tide"):
    return word + "." * (64 * steps - 8 - len(word))


def test_ER_6_a_head_comes_with_the_first_token(late_server):
    arrived = list(pieces(late_server, "/v1/completions",
                          {"prompt": prompt_of(1), "stream": True, "max_tokens": 2}))
    assert arrived[0][1] == 200
    assert 0.5 < arrived[0][0] < 1.0
    assert b'"a"' in arrived[1][1] and arrived[1][0] - arrived[0][0] < 0.2


@pytest.mark.parametrize("path, body", [
    ("/v1/completions", {"prompt": prompt_of(5), "stream": True, "max_tokens": 2}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt_of(5)}],
                              "stream": True, "max_tokens": 2})])
def test_SS_4_ER_6_a_long_prefill_sends_its_head_after_a_second_and_comments(late_server, path, body):
    arrived = list(pieces(late_server, path, body))
    assert arrived[0][1] == 200
    assert 0.9 < arrived[0][0] < 1.6
    pings = [when for when, piece in arrived[1:] if piece == b": ping\n\n"]
    first = next(when for when, piece in arrived[1:] if b"data:" in piece)
    assert len(pings) >= 1
    assert all(when < first for when in pings) and 1.8 < pings[0] < 2.8
    assert b"".join(piece for _, piece in arrived[1:]).endswith(b"data: [DONE]\n\n")


def test_SS_4_json_lines_know_no_comments(late_server):
    arrived = list(pieces(late_server, "/invocations", {
        "inputs": prompt_of(5, "lines"), "stream": True, "parameters": {"max_new_tokens": 2}}))
    assert arrived[0][1] == 200 and 0.9 < arrived[0][0] < 1.6
    for line in b"".join(piece for _, piece in arrived[1:]).splitlines():
        json.loads(line)


def test_SS_4_zero_means_no_comments(serve, tmp_path):
    model = write_script(tmp_path / "m.json", [{"when": "*", "reply": "ab", "delay_ms": 2500}])
    server = serve(model, "--sse-ping-interval", "0")
    arrived = list(pieces(server, "/v1/completions", {"prompt": "x", "stream": True}))
    assert not any(b"ping" in piece for _, piece in arrived[1:])


def test_ER_6_ER_7_an_error_has_its_status_until_the_head_is_out(late_server):
    early = httpx.post(late_server.url + "/v1/completions", timeout=60,
                       json={"prompt": prompt_of(1, "fails"), "stream": True})
    assert early.status_code == 500
    assert early.json()["error"]["code"] == "numerical_error"
    late = httpx.post(late_server.url + "/v1/completions", timeout=60,
                      json={"prompt": prompt_of(3, "fails"), "stream": True})
    assert late.status_code == 200
    events = [line[6:] for line in late.text.splitlines() if line.startswith("data: ")]
    assert json.loads(events[0])["error"]["code"] == "numerical_error"
    assert events[1:] == ["[DONE]"]


# ---- writes

@pytest.mark.parametrize("choices", [1, 4])
def test_SS_5_a_step_is_one_write_and_waits_for_no_other(serve, tmp_path, choices):
    tokens = 30
    model = write_script(tmp_path / "m.json", [{"when": "*", "reply": "tide "}], step_ms=30)
    server = serve(model)
    before = server.metric("tidemill:stream_writes_total")
    times = [when for when, piece in pieces(server, "/v1/completions", {
        "prompt": "x", "stream": True, "n": choices, "max_tokens": tokens, "ignore_eos": True})]
    writes = server.metric("tidemill:stream_writes_total") - before
    steps = tokens + (choices > 1)  # the others begin when the prompt is computed
    assert writes <= steps
    # A machine that does other things may be late with one, and then two steps are one write.
    assert writes >= 0.7 * steps and len(times) - 1 >= 0.7 * steps


# ---- streamed and not

STOPS = ["tide", " m", "é", "漢", "😀 ", "runs", "zz", "ill ", "e漢", "e "]


def some_request(generator):
    """Fields that both forms of an answer understand."""
    return {"max_tokens": generator.choice([1, 2, 5, 17, 40, 80]),
            "temperature": generator.choice([0, 0.7]), "seed": 7,
            "n": generator.choice([1, 1, 1, 3]),
            "stop": generator.sample(STOPS, generator.choice([0, 0, 1, 2, 3])) or None,
            "include_stop_str_in_output": generator.random() < 0.3,
            "ignore_eos": generator.random() < 0.3,
            "skip_special_tokens": generator.random() < 0.7}


def events_of(text):
    events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def joined(events, text_of):
    """Text, finish reason and log-probabilities of every choice; and the usage."""
    choices, usage = {}, None
    for event in events:
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            known = choices.setdefault(choice["index"], ["", None, []])
            known[0] += text_of(choice) or ""
            known[1] = choice["finish_reason"] or known[1]
            known[2] += logprobs_of(choice)
    return choices, usage


def logprobs_of(choice):
    found = choice.get("logprobs")
    if not found:
        return []
    if "content" in found:
        return found["content"]
    return list(zip(found["tokens"], found["token_logprobs"], found["text_offset"]))


@pytest.fixture(scope="module")
def talking_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talk")
    model = write_script(folder / "m.json", [
        {"when": "bytes", "tokens": [97, 0xE6, 0xBC, 0xA2, 0xFF, 0xF0, 0x9F, 98, 0xE6, 258, 0xBC]},
        {"when": "tide", "reply": "the tide runs, the mill turns: é 漢字 😀 zz "},
    ])
    server = Server(model, "--max-rolling-batch-size", "8", log=folder / "server.log")
    yield server.wait_until_ready()
    assert server.stop() == 0, server.log.read_text(errors="replace")


def agree_on(server, generator, http):
    route = generator.choice(["completions", "chat/completions"])
    words = generator.choice(["tide", "bytes", f"made up {generator.random()}"])
    request = some_request(generator)
    if route == "completions":
        request |= {"prompt": words, "logprobs": generator.choice([None, 2])}
        text_of, whole_of = (lambda c: c["text"]), (lambda c: c["text"])
    else:
        request |= {"messages": [{"role": "user", "content": words}],
                    "logprobs": generator.random() < 0.3}
        text_of, whole_of = (lambda c: c["delta"].get("content")), (lambda c: c["message"]["content"])
    url = f"{server.url}/v1/{route}"
    plain = http.post(url, json=request)
    streamed = http.post(url, json=request | {"stream": True,
                                              "stream_options": {"include_usage": True}})
    assert plain.status_code == streamed.status_code == 200, (request, plain.text, streamed.text)
    choices, usage = joined(events_of(streamed.text), text_of)
    expected = {c["index"]: [whole_of(c), c["finish_reason"], logprobs_of(c)]
                for c in plain.json()["choices"]}
    assert choices == expected, request
    # The second finds the prompt of the first in the prefix cache.
    usages = [{k: v for k, v in u.items() if k.endswith("_tokens")}
              for u in (usage, plain.json()["usage"])]
    assert usages[0] == usages[1], request


def agree_on_invocations(server, generator, http):
    fields = some_request(generator)
    parameters = {"max_new_tokens": fields["max_tokens"], "details": True,
                  "ignore_eos_token": fields["ignore_eos"]}
    if fields["stop"]:
        parameters["stop_sequences"] = fields["stop"]
    request = {"inputs": generator.choice(["tide", "bytes", "made up"]), "parameters": parameters}
    plain = http.post(server.url + "/invocations", json=request)
    streamed = http.post(server.url + "/invocations", json=request | {"stream": True})
    assert plain.status_code == streamed.status_code == 200, (request, plain.text, streamed.text)
    lines = [json.loads(line) for line in streamed.text.splitlines()]
    whole = plain.json()
    assert "".join(line["token"]["text"] for line in lines) == whole["generated_text"], request
    assert lines[-1]["generated_text"] == whole["generated_text"]
    assert lines[-1]["details"]["finish_reason"] == whole["details"]["finish_reason"]
    assert lines[-1]["details"]["generated_tokens"] == whole["details"]["generated_tokens"]


def test_SS_7_joined_events_are_the_plain_answer(talking_server):
    generator = random.Random(23)
    with httpx.Client(timeout=60) as http:
        for _ in range(250):
            agree_on(talking_server, generator, http)


def test_SS_7_joined_lines_are_the_plain_answer(talking_server):
    generator = random.Random(29)
    with httpx.Client(timeout=60) as http:
        for _ in range(100):
            agree_on_invocations(talking_server, generator, http)


# ---- slow readers

@pytest.mark.measured
def test_Q_6_who_does_not_read_pauses_alone_and_is_cancelled(serve, tmp_path):
    model = write_script(tmp_path / "m.json", [
        {"when": "flood", "reply": "all the water of the river "},
        {"when": "good", "reply": "tick "}, {"when": "*", "reply": "warm"}],
        step_ms=1, num_blocks=4096, max_model_len=65536)
    server = serve(model, "--stall-timeout", "15")
    num_good = 500

    def good():
        """Seconds, and the tokens that all steps had meanwhile."""
        before = server.metric("vllm:iteration_tokens_total_sum")
        begun = time.monotonic()
        answer = httpx.post(server.url + "/v1/completions", timeout=60, json={
            "prompt": "good", "max_tokens": num_good, "ignore_eos": True})
        seconds = time.monotonic() - begun
        assert answer.status_code == 200
        return seconds, server.metric("vllm:iteration_tokens_total_sum") - before

    good()
    check = Epilogue(server)
    alone = min(good() for _ in range(3))
    flood = json.dumps({"prompt": "flood", "max_tokens": 60000, "ignore_eos": True, "stream": True,
                        "logprobs": 20}).encode()
    connections = []
    for _ in range(3):
        connection = server.connect()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: "
                           b"application/json\r\nContent-Length: %d\r\n\r\n" % len(flood) + flood)
        connections.append(connection)

    def generated():
        return server.metric("vllm:generation_tokens_total")

    # Their sockets fill, their sequences pause and keep their places.
    deadline = time.monotonic() + 60
    last = -1
    while (now := generated()) != last or now < 10000:
        assert time.monotonic() < deadline
        last = now
        time.sleep(0.5)
    most = process_state(server)["resident"]
    beside = good()
    assert server.metric("tidemill:stream_stalls_total") == 0, "too slow a machine for this test"
    # Not one row of a step was theirs: a stream beside them is as quick as alone.
    assert beside[1] == alone[1] == num_good + len("good") - 1
    print(json.dumps({"alone_s": alone[0], "beside_s": beside[0],
                      "growth": most - check.before["resident"]}))
    while server.metric("tidemill:stream_stalls_total") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # What was cancelled was never all of it; a stream holds its bound and what was made from it.
    assert generated() < 60000
    assert most - check.before["resident"] < 3 * (16 << 20)
    for connection in connections:
        connection.close()
    check(sent=3 + 4)
