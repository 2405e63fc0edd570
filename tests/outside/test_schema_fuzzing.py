"""Requests made from /openapi.json itself, right and wrong: no 500, nothing that is not documented."""
import subprocess
import sys

import pytest

CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,"
          "response_schema_conformance")


def run_schemathesis(server, folder, *arguments, seconds):
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json",
         "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--no-color", "--no-shrink",
         "--request-timeout", "30", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=seconds)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    server.wait_until_quiet()


def test_the_schema_tells_the_truth(script_server, tmp_path):
    run_schemathesis(script_server, tmp_path, "--max-examples", "20", "--max-time", "60",
                     "--generation-deterministic", seconds=240)


@pytest.mark.long
def test_the_schema_tells_the_truth_for_ten_minutes(script_server, tmp_path):
    run_schemathesis(script_server, tmp_path, "--max-examples", "100000", "--max-time", "600",
                     "--generation-database", "none",
                     seconds=900)
