"""Texts scored as evaluators score them: echo, logprobs, and no token generated."""
import json

import httpx
import pytest

from conftest import ROOT, need

FOLDER = ROOT / "tests/data/tiny/llama"
CLOSE = 2e-4  # of a log-probability in fp32


@pytest.fixture(scope="module")
def tiny(engines, tmp_path_factory):
    from conftest import Server
    server = Server(str(need(FOLDER)), "--cache-dir", str(engines), "--dtype", "fp32",
                    log=tmp_path_factory.mktemp("tiny") / "server.log")
    yield server.wait_until_ready()
    server.stop()


def complete(server, **body):
    answer = httpx.post(server.url + "/v1/completions", json={"temperature": 0, **body}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def score(server, prompt, **more):
    return complete(server, prompt=prompt, max_tokens=0, echo=True, logprobs=1,
                    return_tokens_as_token_ids=True, **more)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_CM_4_CM_5_a_score_is_what_generating_the_same_tokens_tells(tiny, which):
    prompt = json.loads((FOLDER / "expected.json").read_text())["prompts"][which]
    ids, greedy = prompt["ids"], prompt["greedy_ids"]
    generated = complete(tiny, prompt=ids, max_tokens=len(greedy), logprobs=1, ignore_eos=True,
                         return_token_ids=True, return_tokens_as_token_ids=True)["choices"][0]
    assert generated["token_ids"] == greedy
    for attempt in range(2):  # the second finds the prompt in the cache
        answer = score(tiny, ids + greedy)
        choice, usage = answer["choices"][0], answer["usage"]
        assert choice["finish_reason"] == "length"
        assert usage["completion_tokens"] == 0 and usage["prompt_tokens"] == len(ids + greedy)
        lists = choice["logprobs"]
        assert {len(places) for places in lists.values()} == {len(ids + greedy)}
        assert lists["tokens"] == [f"token_id:{token}" for token in ids + greedy]
        assert lists["token_logprobs"][0] is None and lists["top_logprobs"][0] is None
        assert all(value < 0 for value in lists["token_logprobs"][1:])
        assert lists["token_logprobs"][len(ids):] == pytest.approx(
            generated["logprobs"]["token_logprobs"], abs=CLOSE)
        # A greedy token is the likeliest: evaluators compare it with the best one listed.
        for token, best in zip(lists["tokens"][len(ids):], lists["top_logprobs"][len(ids):]):
            assert max(best, key=best.get) == token


def test_CM_5_at_one_token_every_list_has_one_place_more(tiny):
    ids = [325, 3, 7]
    lists = complete(tiny, prompt=ids, max_tokens=1, echo=True, logprobs=1)["choices"][0]["logprobs"]
    assert {len(places) for places in lists.values()} == {len(ids) + 1}
    assert lists["token_logprobs"][:-1] == pytest.approx(
        score(tiny, ids)["choices"][0]["logprobs"]["token_logprobs"], abs=CLOSE)
