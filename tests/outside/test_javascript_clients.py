"""Clients in JavaScript, unchanged: each file of javascript/ is one, with its own assertions."""
import pathlib
import shutil
import subprocess

import pytest

FOLDER = pathlib.Path(__file__).parent / "javascript"


@pytest.fixture(scope="session")
def node():
    """The interpreter; the packages of package-lock.json beside the scripts."""
    if not (FOLDER / "node_modules").exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not here; scripts/test.sh installs it")
        install = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=FOLDER,
                                 capture_output=True, text=True)
        if install.returncode != 0:
            shutil.rmtree(FOLDER / "node_modules", ignore_errors=True)
            pytest.skip(f"npm cannot fetch the clients: {install.stderr[-200:]}")
    return shutil.which("node")


@pytest.mark.parametrize("client", ["openai", "vercel_ai", "eventsource_parser"])
def test_javascript_client(node, script_server, client):
    run = subprocess.run([node, FOLDER / f"{client}.mjs", script_server.url],
                         capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    script_server.wait_until_quiet()
