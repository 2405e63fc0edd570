"""The clients that people have, unchanged."""
import json
import subprocess

import httpx
import huggingface_hub
import openai
import pytest


@pytest.fixture
def client(script_server):
    return openai.OpenAI(base_url=script_server.url + "/v1", api_key="none", max_retries=0)


def test_openai_chat(client):
    answer = client.chat.completions.create(
        model="script", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "Hello, world!"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 14
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 14


def test_openai_chat_stream_is_the_plain_answer(client):
    events = list(client.chat.completions.create(
        model="script", messages=[{"role": "user", "content": "unicode"}], stream=True,
        stream_options={"include_usage": True}))
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text == "é😀 ende"
    assert events[0].choices[0].delta.role == "assistant"
    assert events[-1].choices == [] and events[-1].usage.completion_tokens > 0
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "stop"


def test_openai_completions(client):
    answer = client.completions.create(
        model="script", prompt=["hello 1", "hello 2"], n=2, max_tokens=5, logprobs=1)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    assert {c.text for c in answer.choices} == {"Hello"}
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs.text_offset == [0, 1, 2, 3, 4]
    assert len(answer.choices[0].logprobs.token_logprobs) == 5


def test_K_3_openai_stop_strings_never_show(client):
    for stop in (",", "o, w", ["zzz", "wor"]):
        plain = client.completions.create(model="script", prompt="hello", stop=stop)
        stream = client.completions.create(model="script", prompt="hello", stop=stop, stream=True)
        text = "".join(e.choices[0].text for e in stream)
        assert text == plain.choices[0].text
        first = stop[1] if isinstance(stop, list) else stop
        assert text == "Hello, world!"[:"Hello, world!".index(first)]
        assert plain.choices[0].finish_reason == "stop"


def test_openai_token_prompts_are_used_as_they_are(client):
    answer = client.completions.create(model="script", prompt=[104, 101, 108, 108, 111], echo=True)
    assert answer.choices[0].text == "helloHello, world!"
    assert answer.usage.prompt_tokens == 5


def test_openai_usage_counts_what_best_of_left_out(client):
    one = client.completions.create(model="script", prompt="hello")
    best = client.completions.create(model="script", prompt="hello", best_of=3)
    two = client.completions.create(model="script", prompt=["hello"] * 2, n=2, best_of=3)
    assert len(best.choices) == 1 and len(two.choices) == 4
    assert best.usage.completion_tokens == 3 * one.usage.completion_tokens > 0
    assert two.usage.completion_tokens == 6 * one.usage.completion_tokens
    assert best.usage.prompt_tokens == one.usage.prompt_tokens == 5
    assert best.usage.total_tokens == 5 + best.usage.completion_tokens


def test_openai_errors_have_their_classes(client):
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("nobody")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.completions.create(model="script", prompt="x", temperature=3)
    assert bad.value.param == "temperature" and "3" in bad.value.message
    with pytest.raises(openai.BadRequestError) as tools:
        client.chat.completions.create(
            model="script", messages=[{"role": "user", "content": "x"}],
            tools=[{"type": "function", "function": {"name": "f"}}])
    assert tools.value.code == "unsupported_parameter" and tools.value.param == "tools"
    with pytest.raises(openai.InternalServerError) as broken:
        client.completions.create(model="script", prompt="broken")
    assert broken.value.code == "numerical_error"


def test_openai_models(client):
    assert [m.id for m in client.models.list()] == ["script"]
    assert client.models.retrieve("script").max_model_len == 4096


def test_huggingface_chat_client(script_server):
    client = huggingface_hub.InferenceClient(base_url=script_server.url)
    messages = [{"role": "user", "content": "hello"}]
    assert client.chat_completion(messages).choices[0].message.content == "Hello, world!"
    pieces = client.chat_completion(messages, stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == "Hello, world!"


def test_raw_event_stream(script_server):
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
    with httpx.stream("POST", script_server.url + "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        raw = answer.read()
    assert raw.endswith(b"data: [DONE]\n\n")
    events = raw.decode().split("\n\n")[:-2]
    assert all(e.startswith("data: {") and "\n" not in e for e in events)
    deltas = [json.loads(e[6:])["choices"][0] for e in events]
    assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
    assert deltas[-1]["delta"] == {} and deltas[-1]["finish_reason"] == "stop"
    assert "".join(d["delta"].get("content", "") for d in deltas) == "Hello, world!"


def test_error_inside_a_stream_is_a_record_and_a_proper_end(script_server):
    body = {"prompt": "breaks later", "stream": True}
    answer = httpx.post(script_server.url + "/v1/completions", json=body)
    assert answer.status_code == 200
    events = answer.text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[-2][6:])["error"]["code"] == "numerical_error"


def test_curl_invocations_without_content_type(script_server):
    out = subprocess.run(["curl", "-s", script_server.url + "/invocations", "-d",
                          '{"inputs": "hello", "parameters": {"max_new_tokens": 5}}'],
                         capture_output=True, check=True).stdout
    assert out == b'{"generated_text": "Hello"}'


def test_invocations_list_is_answered_in_order(script_server):
    answer = httpx.post(script_server.url + "/predictions/script",
                        json={"inputs": ["unicode", "hello"]})
    assert [a["generated_text"] for a in answer.json()] == ["é😀 ende", "Hello, world!"]
    one = httpx.post(script_server.url + "/invocations", json={"inputs": ["hello"]})
    assert one.json() == [{"generated_text": "Hello, world!"}]


def test_invocations_jsonlines_stream(script_server):
    body = {"inputs": "unicode", "stream": True, "parameters": {"details": True}}
    answer = httpx.post(script_server.url + "/invocations", json=body)
    assert answer.headers["content-type"] == "application/jsonlines"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["generated_text"] == "é😀 ende"
    assert lines[-1]["details"]["finish_reason"] == "eos_token"
    assert lines[-1]["details"]["generated_tokens"] == len(lines)
    assert all(set(line["token"]) >= {"id", "text", "log_prob"} for line in lines)


def test_invocations_error_form(script_server):
    answer = httpx.post(script_server.url + "/invocations",
                        json={"inputs": "x", "parameters": {"top_p": 7}})
    assert answer.status_code == 424
    body = answer.json()
    assert list(body) == ["code", "type", "message", "error", "reason", "param", "request_id"]
    assert body["param"] == "parameters.top_p" and body["reason"] == "invalid_parameter"
    assert answer.headers["x-request-id"] == body["request_id"]


def test_sagemakers_attributes_choose_the_model(script_server):
    for attributes, status in [("model_name=script", 200), ("a=b; model_name = nobody", 404)]:
        answer = httpx.post(script_server.url + "/invocations", json={"inputs": "hello"}, headers={
            "X-Amzn-SageMaker-Custom-Attributes": attributes})
        assert answer.status_code == status
    assert answer.json()["message"] == "Model or workflow not found: nobody"
    adapter = httpx.post(script_server.url + "/invocations", json={"inputs": "hello"}, headers={
        "X-Amzn-SageMaker-Adapter-Identifier": "tuned"})
    assert adapter.status_code == 400
    assert adapter.json()["param"] == "x-amzn-sagemaker-adapter-identifier"


def test_request_id_is_echoed_and_unknown_fields_are_named(script_server):
    answer = httpx.post(script_server.url + "/v1/completions", headers={"x-request-id": "mine-7"},
                        json={"prompt": "hello", "colour": "blue"})
    assert answer.headers["x-request-id"] == "mine-7"
    assert answer.headers["x-ignored-parameters"] == "colour"
    assert float(answer.headers["x-total-time"]) >= 0


def test_versions_of_models_are_refused(script_server):
    answer = httpx.post(script_server.url + "/invocations?model_version=2", json={"inputs": "x"})
    assert answer.status_code == 404 and "version 2" in answer.json()["message"]
    path = httpx.post(script_server.url + "/predictions/script/2", json={"inputs": "x"})
    assert path.status_code == 404
