"""Clients that leave, send garbage, or want too much: each costs only itself."""
import json
import random
import signal
import socket
import threading
import time

import httpx
import pytest

from conftest import write_script


def ask(server, text="hello"):
    answer = httpx.post(server.url + "/v1/completions", json={"prompt": text}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def raw(server, data, wait=5.0):
    """Sends bytes; what comes back until the server closes or `wait` passes."""
    with server.connect() as connection:
        connection.settimeout(wait)
        received = b""
        try:
            connection.sendall(data)
            while chunk := connection.recv(65536):
                received += chunk
        except (TimeoutError, ConnectionError):
            pass
        return received


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


GOOD_HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
GOOD_BODY = b'{"prompt":"hello"}'


@pytest.mark.parametrize("head, status", [
    (b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    (b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
    (b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\nx", 400),
    (b"GET /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"GET /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 501),
    (b"GET /health HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\n\r\n", 400),
    (b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET  /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 17000 + b"\r\n\r\n", 431),
    (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
    (b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"z" * 70000, 431),
    (b"DELETE /health HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (b"GET /v1/completions HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (b"GET /nobody HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    (b"GET /v1/../health HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    (b"GET /health%00 HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    (GOOD_HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415),
    (GOOD_HEAD + b"Content-Length: 99999999999\r\n\r\n", 413),
    (GOOD_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (GOOD_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"e" * 300 + b"\r\nx\r\n0\r\n\r\n", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0),
    (b"\x16\x03\x01\x02\x00\x01\x00", 0),
], ids=lambda value: str(value[:60]) if isinstance(value, bytes) else None)
def test_H_1_H_2_H_5_H_8_malformed_heads(script_server, head, status):
    answer = raw(script_server, head)
    assert status_of(answer) == status, answer[:200]
    if status:
        assert b"Connection: close" in answer
        json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert ask(script_server) == "Hello, world!"


def test_H_7_pipelined_requests_are_answered_in_order(script_server):
    request = GOOD_HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD_BODY) + GOOD_BODY
    last = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = raw(script_server, request + request + last)
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.index(b"text_completion") < answer.index(b'"object":"list"')


def test_H_11_expect_continue(script_server):
    with script_server.connect() as connection:
        connection.sendall(GOOD_HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
                           % len(GOOD_BODY))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(GOOD_BODY)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_chunked_bodies_and_http_1_0(script_server):
    chunked = GOOD_HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD_BODY) + b"0\r\n\r\n"
    assert status_of(raw(script_server, chunked + body)) == 200
    stream = b'{"prompt":"hello","stream":true}'
    old = b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(stream) + stream
    answer = raw(script_server, old)
    assert b"chunked" not in answer and answer.endswith(b"data: [DONE]\n\n")


BODIES = [
    b"", b" ", b"{", b"[]", b"5", b"null", b'"x"', b"{}", b'{"prompt":5}', b'{"prompt":null}',
    b'{"prompt":[]}', b'{"prompt":[1,"a"]}', b'{"prompt":[-1]}', b'{"prompt":[99999999999]}',
    b'{"prompt":""}', b'{"prompt":"x","prompt":"y"}', b'{"prompt":"\xff"}',
    b'{"prompt":"\\ud800"}', b'{"prompt":"x","max_tokens":-1}', b'{"prompt":"x","max_tokens":1.5}',
    b'{"prompt":"x","max_tokens":"5"}', b'{"prompt":"x","max_tokens":99999}',
    b'{"prompt":"x","temperature":NaN}', b'{"prompt":"x","temperature":1e400}',
    b'{"prompt":"x","temperature":"hot"}', b'{"prompt":"x","top_p":-0.1}',
    b'{"prompt":"x","top_k":-5}', b'{"prompt":"x","n":0}', b'{"prompt":"x","n":100}',
    b'{"prompt":"x","stop":""}', b'{"prompt":"x","stop":[1]}', b'{"prompt":"x","logprobs":99}',
    b'{"prompt":"x","stream":"yes"}', b'{"prompt":"x","stream_options":{}}',
    b'{"prompt":"x","seed":1.5}', b'{"prompt":"x","suffix":"y"}', b'{"prompt":"x","model":7}',
    b'{"prompt":"x","model":"nobody"}', b'{"prompt":"x","guided_json":{}}',
    b'{"prompt":"x","best_of":9}', b'{"prompt":"x","echo":1,"logprobs":1}',
    b'{"prompt":"' + b"x" * 140000 + b'"}', b"[" * 100000, b'{"a":' * 70 + b"1" + b"}" * 70,
]
CHATS = [
    b"{}", b'{"messages":[]}', b'{"messages":"hi"}', b'{"messages":[1]}', b'{"messages":[{}]}',
    b'{"messages":[{"role":"king","content":"x"}]}', b'{"messages":[{"role":"user"}]}',
    b'{"messages":[{"role":"user","content":5}]}',
    b'{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}',
    b'{"messages":[{"role":"user","content":"x"}],"logprobs":1}',
    b'{"messages":[{"role":"user","content":"x"}],"top_logprobs":1}',
    b'{"messages":[{"role":"user","content":"x"}],"tools":[]}',
    b'{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"}}',
    b'{"messages":[{"role":"user","content":"x"}],"max_tokens":0}',
    b'{"messages":[{"role":"user","content":"x"}],"chat_template":"{{ 1 }}"}',
    b'{"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"messages":[]}}',
]
INVOCATIONS = [
    b"{}", b'{"inputs":5}', b'{"inputs":[]}', b'{"inputs":""}', b'{"inputs":["a",1]}',
    b'{"inputs":"x","parameters":[]}', b'{"inputs":"x","parameters":{"do_sample":1}}',
    b'{"inputs":"x","parameters":{"num_beams":4}}', b'{"inputs":"x","adapters":"a"}',
    b'{"inputs":"x","parameters":{"output_formatter":"3p"}}',
    b'{"inputs":["x","y"],"stream":true}', b'{"inputs":"x","parameters":{"max_new_tokens":-3}}',
]


@pytest.mark.parametrize("path, bodies, statuses", [
    ("/v1/completions", BODIES, {400, 404}),
    ("/v1/chat/completions", CHATS, {400}),
    ("/invocations", INVOCATIONS, {424}),
])
def test_J_1_J_2_J_3_P_1_P_2_C_2_malformed_bodies_are_refused(script_server, path, bodies, statuses):
    with httpx.Client(base_url=script_server.url) as client:
        for body in bodies:
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code in statuses, (body[:80], answer.status_code, answer.text)
            message = answer.json()["error"]
            assert message if path == "/invocations" else message["message"]
    assert ask(script_server) == "Hello, world!"


MESSAGES = [{"role": "user", "content": "hello"}]
ROUTES = [  # path, a good body (none: GET)
    ("/v1/completions", {"prompt": "hello", "max_tokens": 5}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 5}),
    ("/invocations", {"inputs": "hello", "parameters": {"max_new_tokens": 5}}),
    ("/predictions/script", {"inputs": ["hello", "x"], "parameters": {"details": True}}),
    ("/models/script/invoke", {"inputs": "hello", "stream": True}),
    ("/ping", None), ("/health", None), ("/v1/models", None), ("/v1/models/script", None),
    ("/metrics", None),
]
FIELDS = ["prompt", "messages", "inputs", "parameters", "model", "stream", "stream_options", "n",
          "stop", "seed", "temperature", "top_p", "top_k", "logprobs", "top_logprobs", "max_tokens",
          "max_new_tokens", "echo", "tools", "chat_template_kwargs", "output_formatter", "details",
          "stop_token_ids", "best_of", "logit_bias", "suffix", "nobody knows"]
VALUES = ["null", "true", "-1", "0", "1.5", "1e400", "9223372036854775808", "NaN", '""', '"x"',
          '"\\ud800"', "[]", "{}", "[[]]", "[null]", '[1,"a"]', '{"a":{"b":[]}}', "[" * 70 + "]" * 70,
          '"' + "y" * 70000 + '"', "[" + "0," * 9000 + "0]", '["hello"]', "[-1]", "[99999999999]"]
ENDS_WELL = {200, 400, 404, 405, 413, 414, 415, 424, 431, 501, 505}


def request_of(path, body, head=b""):
    method = b"GET" if body is None else b"POST"
    length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
    return (method + b" " + path.encode() + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\n" + head + length + b"\r\n" + (body or b""))


def damaged(generator, data):
    data = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        kind = generator.random()
        at = generator.randrange(len(data))
        if kind < 0.5:
            data[at] = generator.randrange(256)
        elif kind < 0.75 and len(data) > 20:
            del data[at:at + generator.randint(1, 8)]
        else:
            data[at:at] = generator.randbytes(generator.randint(1, 8))
    return bytes(data)


def damaged_head(generator, path, body):
    """Any byte of the head may be another one; its body is as it was."""
    head, _, rest = request_of(path, body and json.dumps(body).encode()).partition(b"\r\n\r\n")
    return damaged(generator, head + b"\r\n\r\n") + rest


def damaged_json(generator, path, body):
    return request_of(path, damaged(generator, json.dumps(body or {}).encode()))


def damaged_fields(generator, path, body):
    """One field, at the top or inside parameters, has a value that nobody expects."""
    text = json.dumps(body or {})
    at = generator.choice([i for i, c in enumerate(text) if c == "{"]) + 1
    member = '"%s":%s' % (generator.choice(FIELDS), generator.choice(VALUES))
    return request_of(path, (text[:at] + member + ("" if text[at] == "}" else ",")
                             + text[at:]).encode())


def damaged_sizes(generator, path, body):
    text = json.dumps(body or {}).encode()
    return generator.choice([
        lambda: request_of(path + "?" + "q" * generator.choice([100, 8000, 9000, 40000]), text),
        lambda: request_of(path, text, b"X: y\r\n" * generator.choice([90, 100, 2000])),
        lambda: request_of(path, text, b"X: " + b"z" * generator.choice([16000, 17000]) + b"\r\n"),
        lambda: request_of(path, text + b" " * generator.choice([1, 70000, 300000])),
        lambda: request_of(path, b"[" * generator.choice([64, 65, 100000])),
        lambda: request_of(path, b"[" + b"0," * generator.choice([99990, 100010]) + b"0]"),
        lambda: chunked(path, text, generator.choice([b"", b";" + b"e" * 255, b";" + b"e" * 300])),
        lambda: chunked(path, text, b"", b"X: " + b"t" * generator.choice([10, 9000, 70000])),
        lambda: request_of(path, text).replace(
            b"Length: %d" % len(text), b"Length: %d" % generator.choice([0, 1, 10**6, 10**11])),
    ])()


def chunked(path, body, extension=b"", trailer=b""):
    chunks = b"%x%s\r\n%s\r\n0\r\n" % (len(body), extension, body)
    trailer = trailer and trailer + b"\r\n"
    return (b"POST " + path.encode() + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + chunks + trailer + b"\r\n")


def is_incomplete(data):
    """May the server still wait for the rest of it?"""
    head, end, body = data.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2].strip() for line in head.split(b"\r\n")
               if line.lower().startswith(b"content-length:")]
    return not end or any(n.isdigit() and int(n) > len(body) for n in lengths)


def first_answer(connection):
    """One whole answer; b"" when the server closes without one."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            assert received == b"", received
            return b""
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n")
               if line.lower().startswith(b"content-length:")]
    while len(body) < lengths[0] if lengths else not body.endswith(b"0\r\n\r\n"):
        chunk = connection.recv(65536)
        assert chunk, (head, body[-200:])
        body += chunk
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize("damage", [damaged_head, damaged_json, damaged_fields, damaged_sizes])
def test_500_damaged_requests_end_well(script_server, damage):
    """125 of each kind: one whole answer, never a 500, never a hang; the next one is served."""
    generator = random.Random(5)
    statuses = set()
    for i in range(125):
        path, body = ROUTES[i % len(ROUTES)]
        data = damage(generator, path, body)
        with script_server.connect() as connection:
            connection.settimeout(9)  # less than what the server waits for a head
            connection.sendall(data)
            may_wait = is_incomplete(data)
            if may_wait:
                connection.shutdown(socket.SHUT_WR)  # then it must not wait
            try:
                answer = first_answer(connection)
            except ConnectionError:
                answer = b""
        status = status_of(answer)
        statuses.add(status)
        silent = may_wait or data.startswith(b"\x16")  # a TLS hello is not answered
        assert status in ENDS_WELL or (status == 0 and silent), (data[:300], answer[:300])
        if status >= 400 and b"HEAD " not in data[:5]:
            json.loads(answer.split(b"\r\n\r\n", 1)[1])
        if i % 25 == 24:
            assert ask(script_server) == "Hello, world!"
    assert 400 in statuses  # the damage is real
    script_server.wait_until_quiet()


def test_Q_4_half_of_64_streams_leave_and_nothing_is_held(serve, tmp_path):
    server = serve(write_script(tmp_path / "m.json", [  # 64 ms for a step of them all
        {"when": "slow", "reply": "tick ", "repeat": 400, "delay_ms": 1}]))
    before = server.metric("tidemill:requests_cancelled_total")
    texts = {}

    def read(i):
        body = {"prompt": f"slow {i}", "stream": True, "max_tokens": 120}
        with httpx.stream("POST", server.url + "/v1/completions", json=body,
                          timeout=60) as answer:
            text = ""
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["text"]
                if i % 2 == 0 and len(text) > 10 + i:
                    return  # leaves
            texts[i] = text

    threads = [threading.Thread(target=read, args=(i,)) for i in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {i: "tick " * 24 for i in range(1, 64, 2)}
    server.wait_until_quiet()
    assert server.metric("tidemill:requests_cancelled_total") - before == 32


def test_Q_4_a_client_that_leaves_without_stream_is_noticed(script_server):
    before = script_server.metric("tidemill:requests_cancelled_total")
    body = b'{"prompt":"slow","max_tokens":1000}'
    connection = script_server.connect()
    connection.sendall(GOOD_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    time.sleep(0.2)
    connection.close()
    script_server.wait_until_quiet(5)
    assert script_server.metric("tidemill:requests_cancelled_total") == before + 1


def cancelled_at(server, stage):
    return sum(float(line.rsplit(" ", 1)[1])
               for line in httpx.get(server.url + "/metrics").text.splitlines()
               if line.startswith("tidemill:requests_cancelled_total")
               and f'stage="{stage}"' in line)


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_Q_3_a_client_that_leaves_the_queue_is_never_prefilled(serve, tmp_path):
    model = write_script(tmp_path / "slow.json", [{"reply": "x", "repeat": 3000, "delay_ms": 5}])
    server = serve(model, "--max-rolling-batch-size", "1")
    body = {"prompt": "x", "max_tokens": 3000, "stream": True}
    with httpx.stream("POST", server.url + "/v1/completions", json=body, timeout=30) as running:
        lines = running.iter_lines()
        next(lines)
        text = json.dumps(body).encode()
        queued = server.connect()
        queued.sendall(GOOD_HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text)
        wait_for(lambda: server.metric("vllm:num_requests_waiting") == 1)
        queued.close()
        wait_for(lambda: cancelled_at(server, "queued") == 1)
        wait_for(lambda: server.metric("vllm:num_requests_waiting") == 0)  # a turn later
        assert server.metric("vllm:num_requests_running") == 1  # the other goes on
        assert server.metric("vllm:time_to_first_token_seconds_count") == 1
    server.wait_until_quiet()


def test_Q_4_a_client_that_leaves_while_its_prompt_is_computed_is_noticed(serve, tmp_path):
    model = write_script(tmp_path / "slow.json", [{"reply": "x"}], step_ms=50)
    server = serve(model, "--max-rolling-batch-prefill-tokens", "32")
    text = json.dumps({"prompt": "p" * 3000, "max_tokens": 5}).encode()  # 94 steps
    connection = server.connect()
    connection.sendall(GOOD_HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text)
    wait_for(lambda: server.metric("vllm:num_requests_running") == 1)
    connection.close()
    wait_for(lambda: cancelled_at(server, "prefill") == 1, 2)
    server.wait_until_quiet()
    assert server.metric("vllm:generation_tokens_total") == 0


def test_Q_1_a_full_queue_is_told_at_once(serve, tmp_path):
    model = write_script(tmp_path / "slow.json", [{"reply": "x", "repeat": 3000, "delay_ms": 5}])
    server = serve(model, "--max-rolling-batch-size", "1", "--job-queue-size", "1")
    body = {"prompt": "x", "max_tokens": 2000, "stream": True}
    with httpx.Client(base_url=server.url, timeout=30) as client:
        streams = []
        for _ in range(2):
            request = client.build_request("POST", "/v1/completions", json=body)
            streams.append(client.send(request, stream=True))
        time.sleep(0.2)
        refused = httpx.post(server.url + "/v1/completions", json=body)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert refused.json()["error"]["code"] == "queue_full"
        djl = httpx.post(server.url + "/invocations", json={"inputs": "x"})
        assert djl.status_code == 503 and djl.json()["type"] == "WlmCapacityException"
        assert djl.json()["message"].startswith("Worker queue capacity exceeded for model: ")
        assert httpx.get(server.url + "/ping").status_code == 200
        for stream in streams:
            stream.close()
    server.wait_until_quiet()


def test_S_2_sigterm_finishes_what_runs_and_refuses_the_new(serve, tmp_path):
    model = write_script(tmp_path / "slow.json",
                         [{"when": "slow", "reply": "x", "repeat": 300, "delay_ms": 10}])
    server = serve(model)
    answers = []

    def long_request():
        answers.append(httpx.post(server.url + "/v1/completions", timeout=30,
                                  json={"prompt": "slow", "max_tokens": 1000}))

    thread = threading.Thread(target=long_request)
    thread.start()
    wait_for(lambda: server.metric("vllm:num_requests_running") == 1)
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: httpx.get(server.url + "/ping").status_code == 503)
    assert httpx.get(server.url + "/health/live").status_code == 200
    late = httpx.post(server.url + "/v1/completions", json={"prompt": "x"})
    assert late.status_code == 503 and late.json()["error"]["code"] == "draining"
    thread.join()
    assert answers[0].json()["choices"][0]["text"] == "x" * 300
    assert server.process.wait(10) == 0


def test_S_2_what_does_not_end_while_draining_gets_its_error(serve, tmp_path):
    model = write_script(tmp_path / "slow.json", [{"reply": "x", "repeat": 3000, "delay_ms": 10}])
    server = serve(model, "--drain-time", "0.3")
    body = {"prompt": "slow", "max_tokens": 3000, "stream": True}
    with httpx.stream("POST", server.url + "/v1/completions", json=body, timeout=30) as answer:
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if len(lines) == 5:
                server.process.send_signal(signal.SIGTERM)
    assert lines[-2] == "data: [DONE]"
    record = json.loads(lines[-4].removeprefix("data: "))["error"]
    assert record["code"] == "draining" and record["type"] == "server_error"
    assert server.process.wait(10) == 0


@pytest.mark.timed
def test_S_2_a_step_that_does_not_come_back_delays_the_end_by_three_seconds_at_most(
        serve, tmp_path):
    model = write_script(tmp_path / "stalls.json", [
        {"when": "stall", "reply": "x", "delay_ms": 60000}, {"when": "*", "reply": "quick"}])
    server = serve(model, "--drain-time", "1")
    answers = []

    def ask(prompt):
        answers.append(httpx.post(server.url + "/v1/completions", timeout=30,
                                  json={"prompt": prompt, "max_tokens": 5}))

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in ("stall", "waits")]
    for thread in threads:
        thread.start()
        time.sleep(0.5)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [503, 503]
    assert {answer.json()["error"]["code"] for answer in answers} == {"draining"}
    assert server.process.wait(10) == 1
    assert 1 < time.monotonic() - begun < 4.5
    assert "a step has not come back" in server.log.read_text()


@pytest.mark.timed
def test_S_1_idle_server_ends_within_a_second(serve, tmp_path):
    server = serve(write_script(tmp_path / "s.json", []))
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 1.5
