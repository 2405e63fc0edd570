#!/usr/bin/env python3
"""What scripts/peers.sh measured, as a table of docs/performance.md.

    peers_table.py HEADING FILE.json...

Rounds of all files count alike: means over them, and in the last column the ratio of ours to the
best other of each round. The best of a row is bold. Also prints who else used the processor.
"""
import json
import sys

NAMES = {"tidemill": "tidemill", "openvino": "OpenVINO", "llamacpp": "llama.cpp", "vllm": "vLLM"}


def seconds(value):
    return f"{value / 1000:.2f} s" if value < 10000 else f"{value / 1000:.1f} s"


def milliseconds(value):
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


# heading, case, path in the report, whether more is better, how it is written
ROWS = [
    ("16 clients: tokens/s", "serve16", ("output_tokens_per_s",), True, "{:.0f}".format),
    ("latency p50", "serve16", ("latency_ms", "p50"), False, seconds),
    ("latency p95", "serve16", ("latency_ms", "p95"), False, seconds),
    ("first token p50", "serve16", ("ttft_ms", "p50"), False, seconds),
    ("gap p50", "serve16", ("itl_ms", "p50"), False, milliseconds),
    ("gap p99", "serve16", ("itl_ms", "p99"), False, milliseconds),
    ("prefill of 512, one client: tokens/s", "prefill512", ("prefill_tokens_per_s",), True, "{:.0f}".format),
    ("one client: tokens/s", "serve1", ("output_tokens_per_s",), True, "{:.1f}".format),
    ("one client: latency p50", "serve1", ("latency_ms", "p50"), False, seconds),
    ("one client: first token p50", "serve1", ("ttft_ms", "p50"), False, milliseconds),
    ("one client: gap p50", "serve1", ("itl_ms", "p50"), False, milliseconds),
    ("one client: gap p99", "serve1", ("itl_ms", "p99"), False, milliseconds),
    ("one sequence that decodes: tokens/s", "decode1", ("full_batch_tokens_per_s",), True, "{:.1f}".format),
    ("4 sequences that decode: tokens/s", "decode4", ("full_batch_tokens_per_s",), True, "{:.0f}".format),
    ("16 sequences that decode: tokens/s", "decode16", ("full_batch_tokens_per_s",), True, "{:.0f}".format),
    ("64 sequences that decode: tokens/s", "decode64", ("full_batch_tokens_per_s",), True, "{:.0f}".format),
]


def main():
    heading, *files = sys.argv[1:]
    documents = [json.load(open(file)) for file in files]
    servers = list(documents[0]["servers"])
    print(f"| {heading} | " + " | ".join(NAMES[s] for s in servers) + " | of the best other |")
    print("|---" * (len(servers) + 2) + "|")
    for label, case, path, more_is_better, written in ROWS:
        rounds = []
        for document in documents:
            for index in range(len(document["rounds"][servers[0]])):
                values = {}
                for server in servers:
                    value = document["rounds"][server][index].get(case)
                    for key in path:
                        value = (value or {}).get(key)
                    values[server] = value
                if all(values.values()):
                    rounds.append(values)
        if rounds:
            print_row(label, servers, rounds, more_is_better, written)
    starts = {s: [d["servers"][s]["start_to_first_token_s"] for d in documents] for s in servers}
    if all(all(values) for values in starts.values()):
        rounds = [{s: starts[s][i] for s in servers} for i in range(len(documents))]
        print_row("start to the first token", servers, rounds, False, "{:.1f} s".format)
    memory = {s: max(d["servers"][s]["peak_rss_mib"] for d in documents) for s in servers}
    print_row("peak memory", servers, [memory], False, "{:.0f} MiB".format)
    for server in servers:
        shares = [r[c]["shares"] for d in documents for r in d["rounds"][server] for c in r
                  if isinstance(r[c], dict) and "shares" in r[c]]
        print(f"{server}: others at most {max(s['others_cpu'] for s in shares):.3f}, "
              f"stolen at most {max(s['steal'] for s in shares):.3f}", file=sys.stderr)


def print_row(label, servers, rounds, more_is_better, written):
    best_of = max if more_is_better else min
    means = {s: sum(r[s] for r in rounds) / len(rounds) for s in servers}
    best = best_of(means.values())
    cells = [f"**{written(means[s])}**" if means[s] == best else written(means[s]) for s in servers]
    ratios = [r[servers[0]] / best_of(r[s] for s in servers[1:]) for r in rounds]
    print(f"| {label} | " + " | ".join(cells) + " | " + ", ".join(f"{x:.2f}" for x in ratios) + " |")


if __name__ == "__main__":
    main()
