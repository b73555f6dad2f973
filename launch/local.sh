#!/usr/bin/env bash
# Trains on all GPUs of this machine; the arguments are those of jaxvision.launch:
#
#   launch/local.sh --config=configs/cofnet.py:coco
#   GPUS=0,1 launch/local.sh --config=configs/cofnet.py:skywatch --config.data.root=FOLDER
#   PROCESSES=8 launch/local.sh …      one process for each GPU, where one cannot feed them all
#
# One process drives all GPUs it sees, so that by default there is nothing to launch but it.
# PYTHON=… replaces the interpreter. Ctrl-C and SIGTERM save; the same command goes on from there.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra python <<<"${PYTHON:-uv run --extra cuda python}"
processes=${PROCESSES:-1}
port=${PORT:-12355}
[[ $processes =~ ^[1-9][0-9]*$ ]] || { echo "error: PROCESSES=$processes is not a number >= 1" >&2; exit 2; }

if ((processes == 1)); then
  if [[ -n ${GPUS:-} ]]; then export CUDA_VISIBLE_DEVICES=$GPUS; fi
  exec "${python[@]}" -m jaxvision.launch "$@"
fi

gpus=${GPUS:-$(seq -s, 0 $((processes - 1)))}
IFS=, read -ra gpu <<<"$gpus"
if ((${#gpu[@]} != processes)); then
  echo "error: PROCESSES=$processes, but GPUS=$gpus names ${#gpu[@]}" >&2
  exit 2
fi
# A Ctrl-C reaches the processes by itself; a SIGTERM only this shell. One that fails ends the others,
# which would wait for it for ever.
started=() asked=0
end() { kill -TERM "${started[@]}" 2>/dev/null || true; }
trap 'asked=1; end' TERM
trap : INT
for ((i = 0; i < processes; i++)); do
  CUDA_VISIBLE_DEVICES=${gpu[i]} "${python[@]}" -m jaxvision.launch "$@" \
    --coordinator="localhost:$port" --num_processes="$processes" --process_id="$i" &
  started+=($!)
done
if ((asked)); then end; fi # it came while they were being started
status=0
for ((left = processes; left > 0; left--)); do
  code=0
  wait -n || code=$?
  while ((code > 128)) && (($(jobs -rp | wc -l) == left)); do # woken by a signal: none has ended yet
    code=0
    wait -n || code=$?
  done
  if ((code != 0 && status == 0)); then
    status=$code
    end
  fi
done
exit "$status"
