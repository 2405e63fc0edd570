"""/openapi.json against the server: whatever its schemas allow, no 500 and no status that it does
not name."""
import pathlib
import subprocess
import sys

import httpx
import pytest

from conftest import need

SCHEMATHESIS = pathlib.Path(sys.executable).parent / "schemathesis"
CHECKS = ("not_a_server_error,status_code_conformance,response_schema_conformance,"
          "content_type_conformance")


def fuzz(server, max_examples, seconds):
    done = subprocess.run(
        [need(SCHEMATHESIS), "run", server.url + "/openapi.json", "--checks", CHECKS,
         "--max-examples", str(max_examples), "--workers", "1", "--phases", "fuzzing",
         "--seed", "1"],
        capture_output=True, text=True, timeout=seconds, cwd=server.log.parent)
    assert done.returncode == 0, done.stdout[-6000:]


def test_generated_requests_get_documented_answers(script_server):
    fuzz(script_server, max_examples=10, seconds=240)
    assert httpx.get(script_server.url + "/health").status_code == 200


@pytest.mark.long
def test_generated_requests_get_documented_answers_for_ten_minutes(script_server):
    fuzz(script_server, max_examples=2000, seconds=1800)
