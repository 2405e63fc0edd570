"""Frameworks that people put between themselves and a server, unchanged."""
import os

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no download while importing
pytestmark = pytest.mark.filterwarnings("ignore")  # their own, by the dozen
MESSAGES = [{"role": "user", "content": "unicode"}]


@pytest.fixture(scope="module")
def litellm():
    import litellm as library
    return library


def test_litellm_chat(litellm, script_server):
    arguments = {"model": "openai/script", "api_base": script_server.url + "/v1",
                 "api_key": "none", "messages": MESSAGES, "num_retries": 0}
    whole = litellm.completion(**arguments)
    assert whole.choices[0].message.content == "é😀 ende"
    assert whole.choices[0].finish_reason == "stop"
    chunks = list(litellm.completion(**arguments, stream=True,
                                     stream_options={"include_usage": True}))
    rebuilt = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert rebuilt.choices[0].message.content == "é😀 ende"
    assert rebuilt.usage.completion_tokens == whole.usage.completion_tokens


def test_litellm_text_and_errors(litellm, script_server):
    arguments = {"model": "text-completion-openai/script", "api_base": script_server.url + "/v1",
                 "api_key": "none", "num_retries": 0}
    answer = litellm.text_completion(prompt="hello", max_tokens=5, **arguments)
    assert answer.choices[0].text == "Hello"
    assert answer.choices[0].finish_reason == "length"
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        litellm.text_completion(prompt="hello", temperature=3, **arguments)
    with pytest.raises(litellm.NotFoundError):
        litellm.text_completion(prompt="hello", **{**arguments,
                                                   "model": "text-completion-openai/nobody"})


def test_langchain_chat(script_server):
    from langchain_openai import ChatOpenAI
    chat = ChatOpenAI(model="script", base_url=script_server.url + "/v1", api_key="none",
                      max_retries=0, temperature=0, max_tokens=50)
    answer = chat.invoke("unicode")
    assert answer.content == "é😀 ende"
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.usage_metadata["output_tokens"] > 0
    assert "".join(piece.content for piece in chat.stream("unicode")) == "é😀 ende"
    assert [a.content for a in chat.batch(["hello", "unicode"])] == ["Hello, world!", "é😀 ende"]


def test_langchain_completion(script_server):
    from langchain_openai import OpenAI
    model = OpenAI(model="script", base_url=script_server.url + "/v1", api_key="none",
                   max_retries=0, max_tokens=5)
    assert model.invoke("hello") == "Hello"
    assert "".join(model.stream("hello")) == "Hello"


def test_a_published_parser_reads_the_metrics(script_server):
    """Every family has HELP and TYPE, and its samples fit its type."""
    httpx.post(script_server.url + "/v1/completions", json={"prompt": "hello"})
    text = httpx.get(script_server.url + "/metrics").text
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert all(f.documentation and f.type != "unknown" for f in families.values()), families
    latency = families["vllm:e2e_request_latency_seconds"]
    assert latency.type == "histogram"
    buckets = [s.value for s in latency.samples if s.name.endswith("_bucket")]
    count = next(s.value for s in latency.samples if s.name.endswith("_count"))
    assert buckets == sorted(buckets) and buckets[-1] == count > 0
    assert families["vllm:request_success"].type == "counter"
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
