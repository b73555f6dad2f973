#!/usr/bin/env bash
# Does jaxvision work on this GPU, and how fast? Kernel tests, a short training run, measurements:
#
#   launch/gpu_check.sh               eight minutes or so; needs an NVIDIA GPU and its driver
#   launch/gpu_check.sh coco          measures another preset of configs/cofnet.py than the default
#
# Leaves in benchmarks/results scan-GPU-checks.json, scan-GPU.json and GPU-PRESET.json. Without a GPU it says so and
# fails: it measures no CPU. PYTHON=… replaces the interpreter; TORCH_PYTHON=… names one that has mamba_ssm, and
# JLA_PYTHON=… one that has jax-linear-attention, to be timed beside ours.
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

echo "== the kernels agree with their references on this GPU"
PYTHONPATH=kernels "${python[@]}" benchmarks/scan_gpu --check --minutes=2

echo "== what needs no GPU agrees with float64 on it too" # the rest of the tests compiles for longer than it runs
"${python[@]}" -m pytest kernels/tests/test_selective_scan.py kernels/tests/test_selective_state_update.py \
  -k "xla or update"

echo "== the speed of the kernels beside their peers"
peers=(${TORCH_PYTHON:+--torch-python="$TORCH_PYTHON"} ${JLA_PYTHON:+--jla-python="$JLA_PYTHON"})
PYTHONPATH=kernels "${python[@]}" benchmarks/scan_gpu --timings --minutes=3.5 "${peers[@]}"

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
