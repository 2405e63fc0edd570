#!/usr/bin/env bash
# From a fresh Debian 12 to a streamed answer: installs what the build needs, builds, fetches a small
# model, serves it on port 8080 and asks it one question. Run it again whenever you like: what is
# done is kept.
#
#   scripts/quickstart.sh                 SmolLM2-135M-Instruct (98 MB)
#   scripts/quickstart.sh MODEL           a local folder or GGUF file instead
#   scripts/quickstart.sh [MODEL] --once  stop after the answer
set -euo pipefail
called_from=$PWD
cd "$(dirname "$0")/.."
. scripts/install.sh

model=
once=no
for argument in "$@"; do
  case $argument in
    --once) once=yes ;;
    -*) die "$argument is not an option; there is only --once." ;;
    *) model=$argument ;;
  esac
done
if [ -n "$model" ]; then
  model=$(realpath -e "$called_from/$model" 2>/dev/null || realpath -e "$model" 2>/dev/null) ||
    die "$model is not here. Name a local folder or a GGUF file; hub ids come with a later release."
fi
port=${PORT:-8080}
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
  die "port $port is in use: stop what listens there, or choose another one (PORT=8081 $0)."
fi

install_packages curl

say "building (some minutes the first time)"
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release >build.log 2>&1 ||
  { tail -n 30 build.log; die "the build could not be configured; the whole log is in build.log"; }
cmake --build build || die "the build failed; the messages are above."
rm -f build.log

flags=()
if [ -z "$model" ]; then
  say "fetching SmolLM2-135M-Instruct"
  model=$(python3 scripts/fetch_smollm2.py .cache/models) || die "the model could not be fetched."
  flags=(--activations int16)  # so small a model feels each rounding (docs/settings.md)
fi

say "serving $model on port $port"
build/tidemill serve "$model" "${flags[@]}" --port "$port" --cache-dir .cache/engines \
  --log-level warning &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

ready=no
for _ in $(seq 1200); do
  kill -0 "$server" 2>/dev/null || die "the server ended before it was ready; its message is above."
  curl -fs -o /dev/null "http://127.0.0.1:$port/health" && ready=yes && break
  sleep 0.25
done
[ "$ready" = yes ] || die "the server was not ready in five minutes."

question='What is the capital of France?'
say "you: $question"
curl -sN "http://127.0.0.1:$port/v1/chat/completions" -H 'Content-Type: application/json' \
  -d "{\"messages\":[{\"role\":\"user\",\"content\":\"$question\"}],\"max_tokens\":64,\"temperature\":0,\"stream\":true}" |
  python3 -c '
import json, sys
answered = False
for line in sys.stdin:
    if not line.startswith("data: {"):
        if line.startswith("{"): sys.exit("the server says: " + line.strip())
        continue
    event = json.loads(line[6:])
    if "error" in event: sys.exit("the server says: " + event["error"]["message"])
    for choice in event["choices"]:
        text = choice["delta"].get("content") or ""
        answered = answered or bool(text)
        print(text, end="", flush=True)
print()
sys.exit(0 if answered else "no answer came")
'

cat <<TEXT

== talk to it
curl http://127.0.0.1:$port/v1/chat/completions -H 'Content-Type: application/json' -d '{"messages": [{"role": "user", "content": "Hello!"}]}'
curl http://127.0.0.1:$port/invocations -H 'Content-Type: application/json' -d '{"inputs": "The capital of France is", "parameters": {"max_new_tokens": 20}}'
build/tidemill chat $model${flags[*]:+ ${flags[*]}} --cache-dir .cache/engines
TEXT
[ "$once" = yes ] && exit 0
echo "
Serving until you press Ctrl-C."
wait "$server"
