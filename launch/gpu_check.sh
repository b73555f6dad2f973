#!/usr/bin/env bash
# Does jaxvision work on this GPU, and how fast? Kernel tests, a short training run, measurements:
#
#   launch/gpu_check.sh               a few minutes; needs an NVIDIA GPU and its driver
#   launch/gpu_check.sh coco          measures another preset of configs/cofnet.py than the default
#
# Leaves benchmarks/results/scan-GPU.json and GPU-PRESET.json. Without a GPU it says so and fails: it measures no CPU.
# PYTHON=… replaces the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra python <<<"${PYTHON:-uv run --extra cuda python}"
preset=${1:-base}

command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU || {
  echo "error: no NVIDIA GPU here (nvidia-smi lists none): nothing was checked" >&2
  exit 1
}
device=$("${python[@]}" -c '
import jax
try:
    print(jax.devices("cuda")[0].device_kind)
except RuntimeError as error:
    print("error: there is a GPU, but JAX does not start on it:", str(error).splitlines()[0])
    raise SystemExit(1)
') || { echo "$device" >&2; exit 1; }
echo "== $device"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== the kernels agree with their references"
"${python[@]}" -m pytest kernels/tests

echo "== the kernels on this GPU, and their speed beside their peers"
PYTHONPATH=kernels "${python[@]}" benchmarks/scan_gpu.py

echo "== a short training run, with an evaluation"
"${python[@]}" -m jaxvision.launch --config=configs/cofnet.py:tiny --workdir="$work/tiny" \
  --device=gpu --config.data.root="$work/scenes"

echo "== measurements of preset $preset"
result=benchmarks/results/$(echo "$device" | tr -cs '[:alnum:]' '-' | sed 's/^-//; s/-$//')-$preset.json
data=() # a preset with data of its own needs them in place; the default draws a few scenes
if [[ $preset == base ]]; then
  data=(--config.data.root="$work/more" --config.data.scenes.train=256 --config.data.scenes.val=16)
fi
"${python[@]}" -m jaxvision.launch bench --config="configs/cofnet.py:$preset" --device=gpu \
  --workdir="$work/bench" --output="$result" "${data[@]}"
echo "== done: $result"
