"""Limits of robustness.md 1 as an operator sets them: the start-up line says them, and they hold."""
import httpx

from conftest import write_script


def chat(server, content):
    return httpx.post(server.url + "/v1/chat/completions", timeout=20,
                      json={"messages": [{"role": "user", "content": content}], "max_tokens": 1})


def test_C_1_what_a_chat_template_may_write_is_a_setting(serve, tmp_path):
    model = write_script(tmp_path / "m.json", [{"when": "*", "reply": "ok"}])
    longest = []
    for size in [200, 201]:
        server = serve(model, "--max-template-output-size", str(size))
        assert f" max_template_output_size {size}," in server.log.read_text()
        statuses = [chat(server, "x" * length).status_code for length in range(150, 202)]
        assert set(statuses) == {200, 400} and statuses == sorted(statuses)
        longest.append(149 + statuses.count(200))
    assert longest[1] == longest[0] + 1
    refused = chat(server, "x" * 201).json()["error"]
    assert refused["code"] == "template_error" and "more than 201 bytes" in refused["message"]


def test_C_1_steps_and_depth_of_a_chat_template_are_settings(serve, tmp_path):
    model = write_script(tmp_path / "m.json", [{"when": "*", "reply": "ok"}])
    server = serve(model, "--max-template-steps", "100", "--max-template-depth", "50")
    said = server.log.read_text()
    assert " max_template_steps 100, max_template_depth 50," in said
    assert chat(server, "x").status_code == 200
    many = {"messages": [{"role": "user", "content": "x"}] * 50, "max_tokens": 1}
    refused = httpx.post(server.url + "/v1/chat/completions", json=many, timeout=20)
    assert refused.status_code == 400
    assert "more than 100 steps" in refused.json()["error"]["message"]


def test_K_1_bytes_of_a_prompt_are_a_setting(serve, tmp_path):
    model = write_script(tmp_path / "m.json", [{"when": "*", "reply": "ok"}], max_model_len=100)
    server = serve(model, "--max-prompt-bytes-per-token", "3")
    assert " max_prompt_bytes_per_token 3," in server.log.read_text()
    for size in [299, 300, 301]:
        answer = httpx.post(server.url + "/v1/completions", timeout=20, json={
            "prompt": "x" * size, "truncate_prompt_tokens": 5, "max_tokens": 1})
        assert answer.status_code == (400 if size > 300 else 200), answer.text
    assert "the prompt has 301 bytes" in answer.json()["error"]["message"]
