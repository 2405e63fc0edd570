#!/usr/bin/env python3
"""Tables and plots of docs/performance.md from documents of `tidemill bench --json`.

  scripts/performance_tables.py [--out docs/performance] FILE.json ...

Writes tables.md and one SVG for each plot into that folder; tables.md links the plots. Documents of
several models, formats and variants may be given together: each has a line of its own in a plot.
docs/benchmark.md describes the documents ("--grid" and "--kernels" are the ones to give).
"""
import argparse
import collections
import json
import math
import pathlib
import sys
import xml.sax.saxutils as escaping

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEMA = "tidemill-bench/1"
COLOURS = ["#1b6ca8", "#c4571b", "#2e8b57", "#8a3ea8", "#a8323e", "#5b5b5b"]
WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 36, 48  # of the plot's frame

Line = collections.namedtuple("Line", "name points dashed colour")


def read_document(path):
    document = json.loads(pathlib.Path(path).read_text())
    if document.get("schema") != SCHEMA:
        raise SystemExit(f"{path}: schema is {document.get('schema')}; this reads {SCHEMA}.")
    return document


def label_of(document):
    return f"{document['model']['name']} {document['model']['format']}, {document['machine']['isa']}"


def median(cell, name):
    return cell[name]["median"]


def limit_of(cell):
    """Tokens per second at most, by the probes beside the cell."""
    share = median(cell, "share")
    return median(cell, "tokens_per_second") / share if share > 0 else None


# Tables.

def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def shown(share):
    return f"**{share['median']:.2f}** ({share['min']:.2f}-{share['max']:.2f})"


def rounds_of(cell):
    return f"{cell['rounds']} / {cell['dropped_rounds']} / {cell['disturbed_rounds']}"


def arithmetic_of(cell):
    return f"{median(cell, 'share_of_arithmetic'):.2f}" if cell["share_of_arithmetic"] else ""


def probed(cell):
    """What the probes read, and multiplied for the layers' products."""
    rate = cell["probe"]["gflop_per_second"]["body"]
    text = f"{median(cell['probe'], 'gb_per_second'):.0f} GB/s"
    return text + (f", {rate / 1000:.2f} T/s" if rate else "")


def cell_rows(document, phase):
    rows = []
    for cell in document["cells"]:
        if cell["phase"] != phase:
            continue
        rows.append([str(cell["concurrency"]), str(cell["context"]),
                     f"{median(cell, 'tokens_per_second'):.0f}", f"{median(cell, 'call_ms'):.2f} ms",
                     probed(cell), f"{median(cell, 'share_of_memory'):.2f}", arithmetic_of(cell),
                     shown(cell["share"]), rounds_of(cell)])
    for cell in document["left_out"]:
        if cell["phase"] == phase:
            rows.append([str(cell["concurrency"]), str(cell["context"]),
                         f"left out: {cell['reason']}"] + [""] * 6)
    return rows


def kernel_rows(document):
    rows = []
    for line in document["kernels"]:
        name = line["kernel"] + (f" of {line['context']}" if "context" in line else "")
        digits = 1 if "share" in line else 2
        row = [f"`{name}`", line["format"], str(line["rows"]),
               f"{median(line, 'call_ms') * 1000:.{digits}f}"]
        if "share" in line:
            row += [f"{median(line, 'share_of_memory'):.2f}", arithmetic_of(line),
                    shown(line["share"])]
        else:
            row += ["", "", ""]
        rows.append(row + [rounds_of(line)])
    return rows


def rest_rows(document):
    rows = []
    for rest in document.get("rest_of_steps", []):
        parts = ", ".join(f"{part['times']} x `{part['kernel']}` {part['us']:.2f}"
                          for part in rest["parts"])
        rows.append([str(rest["sequences"]), str(rest["context"]), f"{rest['us']:.0f}",
                     f"{rest['limit_us']:.0f}", f"**{100 * rest['share']:.1f} %**", parts,
                     f"{rest['meetings']} x {rest['meeting_us']:.2f}"])
    return rows


REST_HEADS = ["sequences", "tokens", "µs", "limit of the step, µs", "of that limit",
              "parts, µs each", "meetings of the step, µs each"]
CELL_HEADS = ["sequences", "tokens", "tokens/s", "step", "probes", "of memory", "of arithmetic",
              "of the limit (least-most)", "rounds / dropped / disturbed"]
KERNEL_HEADS = ["kernel", "format", "rows", "µs", "of memory", "of arithmetic",
                "of the limit (least-most)", "rounds / dropped / disturbed"]


def tables_of(document):
    machine, program = document["machine"], document["program"]
    lines = [f"## {label_of(document)}", "",
             f"{machine['processor']} ({machine['vendor']}), {machine['threads']} threads; "
             f"{machine['variant']}; {program['name']} {program['version']}, {program['build']}; "
             f"{document['date']}.", ""]
    for phase in ("prefill", "decode"):
        if rows := cell_rows(document, phase):
            lines += [f"### {phase.capitalize()}", ""] + table(CELL_HEADS, rows)
    if rows := kernel_rows(document):
        lines += ["### Kernels", ""] + table(KERNEL_HEADS, rows)
    if rows := rest_rows(document):
        lines += ["### A decode step beside products and attention", ""] + table(REST_HEADS, rows)
    return lines


# Plots.

def ticks(low, high, logarithmic):
    if logarithmic:
        first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
        step = max(1, (last - first) // 8)
        return [2.0 ** power for power in range(first, last + 1, step)]
    step = 10 ** math.floor(math.log10(high / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if high / (step * factor) <= 6)
    return [step * i for i in range(math.ceil(high / step - 1e-9) + 1)]


def number(value):
    return f"{value:g}" if value < 10000 else f"{value / 1000:g}k"


class Plot:
    """Lines over a logarithmic x, as SVG text."""

    def __init__(self, title, x_title, y_title, lines, log_y=False):
        self.title, self.x_title, self.y_title, self.lines = title, x_title, y_title, lines
        xs = [x for line in lines for x, _ in line.points]
        ys = [y for line in lines for _, y in line.points]
        self.x_ticks = sorted(set(xs))
        self.y_ticks = ticks(min(ys), max(ys), log_y)
        self.log_y = log_y

    def place(self, x, y):
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        low, high = math.log(self.x_ticks[0]), math.log(self.x_ticks[-1])
        along = (math.log(x) - low) / (high - low) if high > low else 0.5
        scale = math.log if self.log_y else float
        bottom, top = scale(self.y_ticks[0]), scale(self.y_ticks[-1])
        return (LEFT + along * width,
                TOP + height * (1 - (scale(y) - bottom) / ((top - bottom) or 1)))

    def svg(self):
        out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
               f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
               f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
               text(LEFT, 20, self.title, size=14)]
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        for y in self.y_ticks:
            _, at = self.place(self.x_ticks[0], y)
            out.append(f'<path d="M{LEFT} {at:.1f}H{right}" stroke="#ddd"/>')
            out.append(text(LEFT - 6, at + 4, number(y), anchor="end"))
        for x in self.x_ticks:
            at, _ = self.place(x, self.y_ticks[0])
            out.append(f'<path d="M{at:.1f} {bottom}v5" stroke="black"/>')
            out.append(text(at, bottom + 18, number(x), anchor="middle"))
        out.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="black"/>')
        out.append(text((LEFT + right) / 2, HEIGHT - 10, self.x_title, anchor="middle"))
        out.append(f'<g transform="translate(16 {(TOP + bottom) / 2}) rotate(-90)">'
                   + text(0, 0, self.y_title, anchor="middle") + "</g>")
        for i, line in enumerate(self.lines):
            out += self.draw(line, TOP + 10 + 18 * i)
        return "\n".join(out + ["</svg>", ""])

    def draw(self, line, legend):
        places = [self.place(x, y) for x, y in sorted(line.points)]
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        out = [f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dash}/>']
        if not line.dashed:
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.colour}"/>'
                    for x, y in places]
        at = WIDTH - RIGHT + 12
        out.append(f'<path d="M{at} {legend}h22" stroke="{line.colour}" stroke-width="2"{dash}/>')
        out.append(text(at + 28, legend + 4, line.name, size=11))
        return out


def text(x, y, words, size=12, anchor="start"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">'
            f"{escaping.escape(words)}</text>")


def lines_of(name, cells, x, y, colour, limit=None):
    """The measured line, and where `limit` is a function the dashed one above it."""
    lines = [Line(name, [(cell[x], y(cell)) for cell in cells], False, colour)]
    if limit:
        points = [(cell[x], limit(cell)) for cell in cells if limit(cell)]
        if points:
            lines.append(Line("limit of " + name, points, True, colour))
    return lines


def cells_of(document, phase, **wanted):
    return [cell for cell in document["cells"] if cell["phase"] == phase
            and all(cell[key] == value for key, value in wanted.items())]


def speed(cell):
    return median(cell, "tokens_per_second")


def step_ms(cell):
    return median(cell, "call_ms")


def limit_ms(cell):
    return median(cell, "share") * step_ms(cell) or None


def plots_of(documents):
    """File name -> Plot, for what at least one document has two points of."""
    plots = {}

    def add(file, title, x_title, y_title, select, x, y, limit):
        lines = []
        for i, document in enumerate(documents):
            cells = select(document)
            if len({cell[x] for cell in cells}) > 1:
                lines += lines_of(label_of(document), cells, x, y, COLOURS[i % len(COLOURS)], limit)
        if lines:
            plots[file] = Plot(title, x_title, y_title, lines)

    contexts = sorted({cell["context"] for each in documents for cell in cells_of(each, "decode")})
    for context in contexts:
        add(f"decode-{context}.svg", f"Decode behind {context} tokens", "sequences", "tokens/s",
            lambda each, context=context: cells_of(each, "decode", context=context),
            "concurrency", speed, limit_of)
    add("prefill.svg", "Prefill of one prompt", "tokens", "tokens/s",
        lambda each: cells_of(each, "prefill", concurrency=1), "context", speed, limit_of)
    counts = sorted({c["concurrency"] for each in documents for c in cells_of(each, "decode")})
    for count in counts:
        add(f"step-{count}.svg", f"A decode step of {count} sequence{'s' * (count > 1)}",
            "tokens of context", "ms",
            lambda each, count=count: cells_of(each, "decode", concurrency=count),
            "context", step_ms, limit_ms)
    return plots


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("documents", nargs="+", type=pathlib.Path, help="of tidemill bench --json")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/performance")
    arguments = parser.parse_args()
    documents = [read_document(path) for path in arguments.documents]
    plots = plots_of([document for document in documents if document["cells"]])
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file, plot in plots.items():
        (arguments.out / file).write_text(plot.svg())
    lines = ["# Figures", "", "Printed by `scripts/performance_tables.py`; docs/performance.md says "
             "what they mean. A dashed line is the limit by the", "probes that were taken beside the "
             "points.", ""]
    lines += [f"![{plot.title}]({file})" for file, plot in plots.items()] + [""] * bool(plots)
    for document in documents:
        lines += tables_of(document)
    (arguments.out / "tables.md").write_text("\n".join(lines).rstrip() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
