"""/invocations and its siblings as clients call them: forms of bodies, formatters, errors."""
import json

import httpx
import pytest

from conftest import write_script

RULES = [
    {"when": "breaks later", "reply": "abcdef", "fail_at": 3, "delay_ms": 30},
    {"when": "breaks", "reply": "abcdef", "fail_at": 0},
    {"when": "hi", "reply": "ho"},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from conftest import Server
    folder = tmp_path_factory.mktemp("lmi")
    server = Server(write_script(folder / "script.json", RULES), "--model_name", "m",
                    log=folder / "server.log").wait_until_ready()
    yield server
    assert server.stop() == 0


def post(server, path="/invocations", **keywords):
    return httpx.post(server.url + path, timeout=20, **keywords)


ONE = '{"generated_text": "ho"}'
LIST = '[{"generated_text": "ho"}]'


@pytest.mark.parametrize("content_type, body, answer", [
    ("application/json", '{"inputs":"hi"}', ONE),
    ("application/json", '{"inputs":["hi"]}', LIST),
    (None, '{"inputs":"hi"}', ONE),
    ("application/x-www-form-urlencoded", '{"inputs":"hi"}', ONE),  # curl -d
    ("application/x-www-form-urlencoded", "inputs=hi", ONE),
    ("application/x-www-form-urlencoded", "data=%7B%22inputs%22%3A%22hi%22%7D", ONE),
    ("text/plain", "hi", LIST),
    ("text/csv", "inputs\nhi\nhi\n", '[{"generated_text": "ho"}, {"generated_text": "ho"}]'),
    ("application/octet-stream", '{"inputs":"hi"}', ONE),
])
def test_forms_of_bodies(server, content_type, body, answer):
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = post(server, content=body.encode(), headers=headers)
    assert (response.status_code, response.text) == (200, answer)
    assert response.headers["content-type"] == "application/json"


def test_multipart_bodies(server):
    answer = post(server, files={"inputs": (None, "hi"), "model_name": (None, "m"),
                                 "parameters": (None, '{"max_new_tokens": 1}')})
    assert (answer.status_code, answer.text) == (200, '{"generated_text": "h"}')
    answer = post(server, files={"data": ("a.csv", "inputs\nhi\n", "text/csv")})
    assert (answer.status_code, answer.text) == (200, LIST)
    answer = post(server, files={"model_name": (None, "foo"), "inputs": (None, "hi")})
    assert (answer.status_code, answer.json()["type"]) == (404, "ModelNotFoundException")


def test_query_parameters_are_parts(server):
    answer = post(server, "/invocations?inputs=hi&model_name=m")
    assert (answer.status_code, answer.text) == (200, ONE)
    answer = post(server, "/invocations?colour=red", json={"inputs": "hi"})
    assert answer.headers["x-ignored-parameters"] == "colour"


@pytest.mark.parametrize("content_type", ["image/png", "audio/wav", "tensor/npz",
                                          "tensor/ndlist", "application/x-npy"])
def test_what_is_no_text_is_refused_by_name(server, content_type):
    answer = post(server, content=b"x", headers={"Content-Type": content_type})
    assert answer.status_code == 415
    assert content_type in answer.json()["message"]


@pytest.mark.parametrize("path, headers, status", [
    ("/invocations", {}, 200),
    ("/predictions/m", {}, 200),
    ("/models/m/invoke", {"X-Amzn-SageMaker-Target-Model": "m.tar.gz"}, 200),
    ("/invocations?model_name=m", {"model_name": "foo"}, 200),
    ("/invocations", {"model_name": "foo"}, 404),
    ("/invocations", {"X-Amzn-SageMaker-Custom-Attributes": "a=b; model_name=foo"}, 404),
    ("/invocations", {"X-Amzn-SageMaker-Custom-Attributes": "model_name=m"}, 200),
    ("/predictions/foo", {}, 404),
    ("/predictions/m/2", {}, 404),
    ("/invocations?model_version=2", {}, 404),
    ("/invocations", {"handler": "other"}, 400),
    ("/invocations", {"X-Amzn-SageMaker-Custom-Attributes": "handler=x"}, 400),
])
def test_which_model_is_meant(server, path, headers, status):
    answer = post(server, path, json={"inputs": "hi"}, headers=headers)
    assert answer.status_code == status, answer.text


def test_event_streams(server):
    answer = post(server, json={"inputs": "hi", "parameters": {
        "output_formatter": "sse", "details": True, "max_new_tokens": 2}})
    assert answer.headers["content-type"] == "text/event-stream"
    first, last, rest = answer.text.split("\n\n")
    assert rest == "" and first == 'data: {"token": {"id": 104, "text": "h", "log_prob": -0.5}}'
    assert json.loads(last.removeprefix("data: "))["details"] == {
        "finish_reason": "length", "generated_tokens": 2, "inputs": "hi"}


def test_text_alone(server):
    answer = post(server, json={"inputs": "hi", "parameters": {"output_formatter": "none"}})
    assert (answer.headers["content-type"], answer.text) == ("text/plain", "ho")


def test_chats(server):
    messages = {"messages": [{"role": "user", "content": "hi"}]}
    whole = post(server, json=messages)
    assert whole.text.startswith('{"id": "chatcmpl-')
    choice = whole.json()["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "ho"}
    assert choice["finish_reason"] == "eos_token"
    stream = post(server, json={**messages, "stream": True})
    assert stream.headers["content-type"] == "application/jsonlines"
    lines = [json.loads(line) for line in stream.text.splitlines()]
    assert "".join(line["choices"][0]["delta"]["content"] for line in lines) == "ho"
    assert lines[0]["choices"][0]["delta"]["role"] == "assistant"


def test_errors_have_their_members_in_order(server):
    answer = post(server, json={"inputs": "hi", "parameters": {"top_p": 7}})
    assert answer.status_code == 424
    assert list(answer.json()) == ["code", "type", "message", "error", "reason", "param",
                                   "request_id"]
    assert answer.json()["param"] == "parameters.top_p"
    assert answer.text.startswith('{\n  "code": 424,\n  "type": "BadRequestException",\n')
    answer = post(server, json={"inputs": "breaks"})
    assert (answer.status_code, answer.json()["type"]) == (424, "TranslateException")
    assert post(server, content=b"{<bad>").status_code == 424
    assert post(server, content=b"x", headers={
        "Content-Type": "multipart/form-data; boundary=b"}).status_code == 400


@pytest.mark.parametrize("formatter, prefix", [("jsonlines", ""), ("sse", "data: ")])
def test_a_stream_that_breaks_ends_with_a_record(server, formatter, prefix):
    answer = post(server, json={"inputs": "breaks later", "parameters": {
        "output_formatter": formatter}})
    assert answer.status_code == 200
    last = json.loads(answer.text.strip().splitlines()[-1].removeprefix(prefix))
    assert (last["finish_reason"], last["code"]) == ("error", 424)


def test_the_operator_chooses_statuses(serve, tmp_path):
    model = write_script(tmp_path / "script.json", RULES)
    server = serve(model, "--model_name", "m", "--tgi_compat", "true",
                   environment={"SERVING_BAD_REQUEST_HTTP_CODE": "422"})
    assert post(server, content=b"{bad").status_code == 422
    assert post(server, content=b"%zz", headers={
        "Content-Type": "application/x-www-form-urlencoded"}).status_code == 422
    assert httpx.post(server.url + "/v1/completions", content=b"{bad").status_code == 400
    details = post(server, json={"inputs": "hi"}).json()[0]["details"]  # TGI's form
    assert details["tokens"][0] == {"id": 104, "text": "h", "logprob": -0.5, "special": False}


@pytest.mark.parametrize("codes, status", [({}, 503), ({"SERVING_TIMEOUT_HTTP_CODE": "400"}, 400)])
def test_timeouts_have_the_originals_words(serve, tmp_path, codes, status):
    model = write_script(tmp_path / "script.json", [
        {"when": "*", "reply": "tick ", "repeat": 400, "delay_ms": 20}])
    server = serve(model, "--request_timeout", "1", environment=codes)
    answer = post(server, json={"inputs": "x", "parameters": {"max_new_tokens": 2000}})
    assert answer.status_code == status
    assert answer.json()["type"] == "TranslateException"
    assert answer.json()["message"].startswith("Time out in: 1. ")
