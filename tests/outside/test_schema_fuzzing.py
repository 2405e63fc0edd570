"""Requests made from /openapi.json itself, right and wrong: no 500, nothing that is not documented."""
import json
import subprocess
import sys

import httpx
import jsonschema
import pytest

CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,"
          "response_schema_conformance")
GENERATING = ["/v1/completions", "/v1/chat/completions", "/invocations"]


def run_schemathesis(server, folder, *arguments, seconds):
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json",
         "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--no-color", "--no-shrink",
         "--request-timeout", "30", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=seconds)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    server.wait_until_quiet()
    log = server.log.read_text(errors="replace")
    for route in GENERATING:  # not only refusals
        assert f"route={route} status=200" in log, route


def test_the_schema_tells_the_truth(script_server, tmp_path):
    run_schemathesis(script_server, tmp_path, "--max-examples", "20", "--max-time", "30",
                     "--generation-deterministic", seconds=240)


@pytest.mark.long
def test_the_schema_tells_the_truth_for_ten_minutes(script_server, tmp_path):
    run_schemathesis(script_server, tmp_path, "--max-examples", "100000", "--max-time", "600",
                     "--generation-database", "none",
                     seconds=900)


@pytest.mark.parametrize("body", [{"messages": 5}, {"messages": "hello"}, {"messages": {"a": 1}},
                                  {"messages": [5]}, {"messages": [{"role": "user"}]},
                                  {"inputs": {"a": 1}}, {"inputs": "x", "parameters": [1]}])
def test_a_body_of_another_shape_is_refused_and_ends_nothing(script_server, body):
    refused = httpx.post(script_server.url + "/invocations", json=body)
    assert refused.status_code == 424 and next(iter(body)) in refused.json()["message"] + " inputs x"
    assert httpx.get(script_server.url + "/ping").status_code == 200


@pytest.mark.parametrize("prompt, events", [("hello", 2), ("breaks later", 2)])
@pytest.mark.parametrize("route", GENERATING[:2])
def test_every_event_of_a_stream_is_as_documented(script_server, route, prompt, events):
    document = httpx.get(script_server.url + "/openapi.json").json()
    media = document["paths"][route]["post"]["responses"]["200"]["content"]["text/event-stream"]
    schema = {**media["schema"], "components": document["components"]}
    body = {"messages": [{"role": "user", "content": prompt}], "prompt": prompt, "stream": True,
            "stream_options": {"include_usage": True}}
    answer = httpx.post(script_server.url + route, json=body)
    records = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert records.pop() == "[DONE]" and len(records) >= events
    for record in records:
        jsonschema.Draft202012Validator(schema).validate(json.loads(record))
    assert ("error" in records[-1]) == (prompt == "breaks later")
