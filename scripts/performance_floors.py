#!/usr/bin/env python3
"""Whether the program is clearly slower than it was, by shares of what the machine can do now.

  scripts/performance_floors.py --binary build/tidemill MODEL [bench's flags]
  scripts/performance_floors.py --binary build/tidemill MODEL --formats bf16,int8,int4
  scripts/performance_floors.py --document FILE.json            judges what was measured before
  ... --record                                                  prints floors for this machine

tests/floors.json holds floors by instruction set, processor vendor and format. Seconds are never
compared, only shares of a limit that was probed in the same seconds. A cell whose probes did not
agree, or whose cores somebody else used, is shown and not judged; so is all of a machine that has
no floors. --formats measures the model once in each of these formats, and fails when one fails;
some twenty-five seconds each. What is below its floor is measured once more, and fails when it is
below again. --save FILE keeps what was measured last; it goes with one format.
"""
import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLOORS = ROOT / "tests/floors.json"
SCHEMA = "tidemill-floors/1"
QUICK = ["--concurrency", "1,16", "--prompt-tokens", "64", "--decode-tokens", "72",
         "--cell-seconds", "4", "--kv-cache-bytes", "268435456", "--log-level", "warning"]
FORMATS = {  # what --formats may name, as bench's flags
    "bf16": ["--dtype", "bf16"],
    "int8": ["--dtype", "bf16", "--quantize", "w8a8"],
    "int4": ["--dtype", "bf16", "--quantize", "int4"],
}
LEAST_CPU_SHARE = 0.97  # below, somebody else had the cores
LEAST_STEADY_ROUNDS = 3
GENEROUS = 0.5  # a floor is so much of what was measured
RUN_SECONDS = 600


def measure(binary, model, flags):
    done = subprocess.run([binary, "bench", model, "--json", *QUICK, *flags], capture_output=True,
                          text=True, timeout=RUN_SECONDS)
    if done.returncode != 0:
        raise SystemExit(f"tidemill bench ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def machine_of(document):
    return f"{document['machine']['isa']}/{document['machine']['vendor']}"


def cell_name(cell):
    return f"{cell['phase']} {cell['concurrency']}"


def floors_for(floors, document):
    """Cell -> least share; empty where nobody has measured such a machine."""
    return floors["floors"].get(machine_of(document), {}).get(document["model"]["format"], {})


def why_not_judged(cell):
    steady = cell["rounds"] - cell["dropped_rounds"]
    if steady < LEAST_STEADY_ROUNDS or cell["dropped_rounds"] > steady:
        return f"{cell['dropped_rounds']} of {cell['rounds']} rounds had probes that differ"
    if cell["cpu_share"] < LEAST_CPU_SHARE:
        return f"its threads had {cell['cpu_share']:.2f} of their cores"
    if cell["share_of_arithmetic"] is None:
        return "arithmetic was not probed"
    return ""


def judge(document, floors):
    """(lines to show, names of cells that are below their floor)"""
    least = floors_for(floors, document)
    lines, below = [], []
    for cell in document["cells"]:
        name, share = cell_name(cell), cell["share"]["median"]
        floor, reason = least.get(name), why_not_judged(cell)
        if reason:
            verdict = f"recorded only: {reason}"
        elif floor is None:
            verdict = f"recorded only: no floor for {machine_of(document)}"
        elif share < floor:
            verdict = f"BELOW its floor of {floor:.2f}"
            below.append(name)
        else:
            verdict = f"above its floor of {floor:.2f}"
        lines.append(f"{name}: {share:.2f} of the limit, {verdict}")
    return lines, below


def recorded(document):
    cells = {cell_name(cell): round(GENEROUS * cell["share"]["median"], 2)
             for cell in document["cells"] if not why_not_judged(cell)}
    return {machine_of(document): {document["model"]["format"]: cells}}


def formats_of(text):
    names = text.split(",")
    if unknown := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)}: it must be some of {', '.join(FORMATS)}, separated by commas")
    return names


def merged(records):
    """Floors of several formats of one machine, as one table."""
    table = {}
    for record in records:
        for machine, formats in record.items():
            table.setdefault(machine, {}).update(formats)
    return table


def saving(get, path):
    """What gets the document and writes it there."""
    def got():
        document = get()
        path.write_text(json.dumps(document, indent=1) + "\n")
        return document
    return got


def run_until_judged(get, floors, may_repeat):
    """Names of cells that are below their floor; twice, where it may be measured once more."""
    below_before = None
    while True:
        document = get()
        lines, below = judge(document, floors)
        print(f"{document['model']['format']}:")
        print("\n".join(lines), flush=True)
        if below_before is not None:
            return [name for name in below if name in below_before]
        if not below or not may_repeat:
            return below
        below_before = below
        print("once more:")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--binary", default=ROOT / "build-test/tidemill")
    parser.add_argument("--document", type=pathlib.Path)
    parser.add_argument("--floors", type=pathlib.Path, default=FLOORS)
    parser.add_argument("--formats", type=formats_of, help="some of " + ", ".join(FORMATS))
    parser.add_argument("--save", type=pathlib.Path, help="write what was measured last there")
    parser.add_argument("--record", action="store_true")
    arguments, flags = parser.parse_known_args()
    if (arguments.document is None) == (arguments.model is None):
        parser.error("give MODEL or --document, one of them")
    if arguments.formats and arguments.document:
        parser.error("--formats says what to measure, and --document is measured already")
    if arguments.save and len(arguments.formats or []) > 1:
        parser.error("--save keeps one document, and --formats names "
                     f"{len(arguments.formats)}: give one format at a time")
    floors = json.loads(arguments.floors.read_text())
    if floors.get("schema") != SCHEMA:
        raise SystemExit(f"{arguments.floors}: schema is {floors.get('schema')}, not {SCHEMA}.")
    if arguments.document:
        sources = [lambda: json.loads(arguments.document.read_text())]
    else:
        sources = [lambda more=more: measure(arguments.binary, arguments.model, [*more, *flags])
                   for more in [FORMATS[name] for name in arguments.formats or []] or [[]]]
    if arguments.save:
        sources = [saving(get, arguments.save) for get in sources]
    if arguments.record:
        print(json.dumps(merged(recorded(get()) for get in sources), indent=2))
        return 0
    below = []
    for get in sources:
        below += run_until_judged(get, floors, arguments.model is not None)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
