#!/usr/bin/env bash
# This program beside the servers people would pick instead, in alternating rounds (the design
# library's shared/peers has the harness, installs them and makes their models; not part of CI):
#
#   scripts/peers.sh smol|tiny int8|int4|bf16 ROUNDS [CASE...]    default: serve16 prefill512 decode1
#
# BINARY (build/tidemill), PEERS (../shared/peers), PEERS_DIR (/tmp/peers), OTHERS ("openvino
# llamacpp"; vllm takes two minutes to start), OUT (peers-MODEL-FORMAT.json), SCALE (2; 0.5 for decode4
# to decode64, whose batches are full for too short a time else): set them otherwise in the
# environment. scripts/peers_table.py turns what comes out into the tables of docs/performance.md.
# Leave the machine alone meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 3 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
model=$1 format=$2 rounds=$3
shift 3
peers=${PEERS:-../shared/peers}
export PEERS_DIR=${PEERS_DIR:-/tmp/peers}
models=$PEERS_DIR/models

case $model in
  smol) token_bytes=23040 ;;
  tiny) token_bytes=22528 ;;
  *) echo "peers.sh: $model is no model; there are smol and tiny." >&2; exit 2 ;;
esac
case $format in
  int8) ours="--quantize w8a8" gguf=Q8_0 openvino=int8 vllm=ct-$model-8 ;;
  int4) ours="--quantize int4" gguf=Q4_0 openvino=int4 vllm=ct-$model-4 ;;
  bf16) ours="" gguf=bf16 openvino=fp16 vllm=hf-$model ;;
  *) echo "peers.sh: $format is no format; there are int8, int4 and bf16." >&2; exit 2 ;;
esac

slots=16 slot_tokens=640
if [ "$*" = decode64 ]; then
  slots=64 slot_tokens=320  # of a prompt and, with SCALE=0.5, of an answer
elif [[ " $* " == *" decode64 "* ]]; then
  echo "peers.sh: decode64 has more slots than the others, and goes alone." >&2
  exit 2
fi

# Room for keys and values as llama.cpp has it, and a block more for each slot.
command="${BINARY:-build/tidemill} serve $models/hf-$model $ours --served-model-name model \
  --port 8080 --cache-dir .cache/engines --kv-cache-bytes $((slots * (slot_tokens + 32) * token_bytes)) \
  --max-rolling-batch-size $((slots > 32 ? slots : 32)) \
  --log-level warning"
servers=(--server tidemill http://127.0.0.1:8080 "$command")
for other in ${OTHERS:-openvino llamacpp}; do
  case $other in
    openvino) model_of=ov-$model-$openvino port=8002 ;;
    llamacpp) model_of=$model-$gguf.gguf port=8001 ;;
    vllm) model_of=$vllm port=8003 ;;
    *) echo "peers.sh: $other is no server; there are openvino, llamacpp and vllm." >&2; exit 2 ;;
  esac
  servers+=(--server "$other" "http://127.0.0.1:$port"
    "env SLOTS=$slots SLOT_TOKENS=$slot_tokens $peers/$other.sh $models/$model_of $port")
done
cases=()
for name in "${@:-serve16}"; do cases+=(--case "$name"); done
[ $# -gt 0 ] || cases+=(--case prefill512 --case decode1)

# The gibibyte that the probe has read goes back to the host two seconds after it has ended, where
# free pages are reported: the machine stands still then, for up to a third of a second in all. Not
# in a round.
probe=$(mktemp)
trap 'rm -f "$probe"' EXIT
printf '#!/bin/sh\n"%s/bandwidth" "$@"\nsleep 4\n' "$PEERS_DIR" > "$probe"
chmod +x "$probe"

"$PEERS_DIR/tool/bin/python" "$peers/compare.py" --rounds "$rounds" --scale "${SCALE:-2}" \
  --bandwidth "$probe" --json "${OUT:-peers-$model-$format.json}" \
  --text /usr/share/common-licenses/GPL-3 --tokenizer "$models/hf-$model/tokenizer.json" \
  "${servers[@]}" "${cases[@]}"
