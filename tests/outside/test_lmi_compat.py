"""The bytes of LMI 0.25.0, chunk by chunk: the conformance vectors of the serving contract.

A script's tokens are bytes, so each letter is an event, and a character of two bytes is two: an
empty one, and the whole character.
"""
import json

import pytest

from conftest import write_script

OK = 'a"\n'  # three events of one byte each, two of which JSON escapes
RULES = [
    {"when": "letters", "reply": "abcdefghij"},
    {"when": "escapes", "reply": OK},
    {"when": "nothing", "reply": ""},
    {"when": "unicode", "reply": "é😀\x01"},
    {"when": "breaks", "reply": "abcdef", "fail_at": 2},
    {"when": "never begins", "reply": "abcdef", "fail_at": 0},
]
COMPAT = ["--lmi_compat", "0.25.0"]
TAIL = b'{\n  "error": "",\n  "code": 424\n}'


def request(body, method=b"POST", path=b"/invocations", content_type=b"application/json"):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return (method + b" " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Type: " + content_type
            + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def read_answer(connection):
    """The head, and the chunks of its body as they were framed."""
    received = b""

    def need(condition):
        nonlocal received
        while not condition():
            more = connection.recv(65536)
            assert more, received
            received += more

    need(lambda: b"\r\n\r\n" in received)
    head, received = received.split(b"\r\n\r\n", 1)
    fields = head.lower()
    if b"transfer-encoding: chunked" not in fields:
        length = int(fields.split(b"content-length: ")[1].split(b"\r\n")[0])
        need(lambda: len(received) >= length)
        return head, [received]
    chunks = []
    while True:
        need(lambda: b"\r\n" in received)
        size, received = received.split(b"\r\n", 1)
        size = int(size, 16)
        need(lambda: len(received) >= size + 2)
        chunk, received = received[:size], received[size:]
        assert received.startswith(b"\r\n")
        received = received[2:]
        if size == 0:
            assert received == b""
            return head, chunks
        chunks.append(chunk)


def ask(server, inputs, new_tokens=30, **members):
    body = {"inputs": inputs, "parameters": {"max_new_tokens": new_tokens}, **members}
    with server.connect() as connection:
        connection.sendall(request(body))
        head, chunks = read_answer(connection)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    return chunks


def ask_raw(server, data):
    with server.connect() as connection:
        connection.sendall(data)
        return read_answer(connection)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """servers(FORMATTER, BUFFER): one server for each, started when first asked for."""
    from conftest import Server
    folder = tmp_path_factory.mktemp("compat")
    model = write_script(folder / "script.json", RULES)
    started = {}

    def get(formatter="json", buffer=None):
        key = (formatter, buffer)
        if key not in started:
            environment = {} if buffer is None else {"SERVING_ROLLING_BATCH_BUFFER": buffer}
            started[key] = Server(model, *COMPAT, "--output_formatter", formatter,
                                  environment=environment,
                                  log=folder / f"{formatter}{buffer}.log").wait_until_ready()
        return started[key]

    yield get
    for server in started.values():
        assert server.stop() == 0, server.log.read_text(errors="replace")


def test_vector_escapes_json(servers):
    assert ask(servers(), "escapes", 3) == [b'{"generated_text": "a', b'\\"\\n"}']


def test_vector_escapes_jsonlines(servers):
    assert ask(servers("jsonlines"), "escapes", 3) == [
        b'{"outputs": ["a"]}\n', b'{"outputs": ["\\""]}\n{"outputs": ["\\n"]}\n']


def test_vector_one_event(servers):
    assert ask(servers(), "letters", 1) == [b'{"generated_text": "a"}']


def test_vector_end_of_sequence_at_once(servers):
    assert ask(servers(), "nothing") == [b'{"generated_text": ""}']


def test_vector_five_events(servers):
    assert ask(servers(), "letters", 5) == [b'{"generated_text": "a', b'bcde"}']


def test_vector_six_events(servers):
    assert ask(servers(), "letters", 6) == [b'{"generated_text": "a', b"bcde", b'f"}']


def test_the_end_of_sequence_is_an_event(servers):
    assert ask(servers(), "letters") == [b'{"generated_text": "a', b"bcde", b"fghi", b'j"}']


def test_vector_unicode_is_raw(servers):
    # é is bytes 1 and 2, the emoji 3 to 6, the control 7, the end of sequence 8.
    assert ask(servers(), "unicode") == [
        b'{"generated_text": "', "é".encode(), '😀\\u0001"}'.encode()]


def test_vector_step_exception_loses_what_was_buffered(servers):
    assert ask(servers(), "breaks") == [b'{"generated_text": "a', TAIL]


def test_vector_body_that_is_no_json(servers):
    for content_type in (b"application/json", b"application/x-www-form-urlencoded"):
        head, chunks = ask_raw(servers(), request(b"{bad", content_type=content_type))
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Type: application/json\r\n" in head
        assert len(chunks) == 1
        assert chunks[0].startswith(b'{\n  "error": "') and chunks[0].endswith(
            b'",\n  "code": 424\n}')
        assert list(json.loads(chunks[0])) == ["error", "code"]


def test_an_exception_before_the_first_event_is_behind_200_too(servers):
    assert ask(servers(), "never begins") == [TAIL]


def test_a_parameter_that_cannot_be_is_told_behind_200(servers):
    body = {"inputs": "letters", "parameters": {"top_p": 7}}
    head, chunks = ask_raw(servers("jsonlines"), request(body))
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: application/jsonlines\r\n" in head
    assert json.loads(b"".join(chunks))["code"] == 424


def test_none_has_no_content_type(servers):
    head, chunks = ask_raw(servers("none"), request(
        {"inputs": "letters", "parameters": {"max_new_tokens": 6}}))
    assert b"content-type" not in head.lower()
    assert chunks == [b"a", b"bcde", b"f"]


@pytest.mark.parametrize("buffer, chunks", [
    ("0", [b'{"generated_text": "a', b"b", b'c"}']),
    ("1", [b'{"generated_text": "a', b"b", b'c"}']),
    ("2", [b'{"generated_text": "a', b'bc"}']),
])
def test_the_buffer_comes_from_the_environment(servers, buffer, chunks):
    assert ask(servers("json", buffer), "letters", 3) == chunks


def test_stream_and_details_change_nothing(servers):
    for stream in (True, False):
        assert ask(servers(), "letters", 1, stream=stream) == [b'{"generated_text": "a"}']
    body = {"inputs": ["letters"], "parameters": {"max_new_tokens": 1, "details": True}}
    assert ask_raw(servers(), request(body))[1] == [b'{"generated_text": "a"}']


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"PATCH", b"ANYTHING"])
def test_any_method_invokes(servers, method):
    body = {"inputs": "letters", "parameters": {"max_new_tokens": 1}}
    head, chunks = ask_raw(servers(), request(body, method=method))
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert chunks == [b'{"generated_text": "a"}']


def test_errors_of_the_front_have_three_members(servers):
    head, chunks = ask_raw(servers(), request({}, path=b"/predictions/foo"))
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"".join(chunks) == (
        b'{\n  "code": 404,\n  "type": "ModelNotFoundException",\n'
        b'  "message": "Model or workflow not found: foo"\n}\n')
    head, chunks = ask_raw(servers(), request({}, path=b"/nowhere"))
    assert list(json.loads(b"".join(chunks))) == ["code", "type", "message"]


def test_the_connection_stays_open_behind_an_error(servers):
    with servers().connect() as connection:
        for _ in range(2):
            connection.sendall(request({"inputs": "never begins"}))
            assert read_answer(connection)[1] == [TAIL]
        connection.sendall(request({"inputs": "letters", "parameters": {"max_new_tokens": 1}}))
        assert read_answer(connection)[1] == [b'{"generated_text": "a"}']
