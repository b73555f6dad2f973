#!/usr/bin/env bash
# Trains on Google Cloud: makes a machine, copies this repository to it, trains, fetches the run.
#
#   PROJECT=… launch/gcp.sh gpu --config=configs/cofnet.py:coco
#   PROJECT=… launch/gcp.sh tpu --config=configs/cofnet.py:coco --workdir=/mnt/shared/coco
#
# GPU: one machine, all of whose GPUs one process drives (MACHINE, by default eight A100). TPU: a slice
# (TYPE, by default v5litepod-8) of one or more hosts, which find one another by the metadata server;
# with several hosts the workdir must be a folder that all of them have mounted.
# The machine COSTS MONEY until it is deleted; the last line says how. The same command uses the machine
# that is there, and continues its run. NAME, ZONE, IMAGE and DISK (GB) may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-}
case $kind in gpu | tpu) shift ;; *) echo "usage: PROJECT=… launch/gcp.sh gpu|tpu [flags of jaxvision.launch]" >&2; exit 2 ;; esac
command -v gcloud >/dev/null || { echo "error: no gcloud: install the Google Cloud CLI and run gcloud auth login" >&2; exit 1; }
: "${PROJECT:?error: set PROJECT to the Google Cloud project that pays}"
name=${NAME:-jaxvision-$kind}
where=(--project="$PROJECT" --zone="${ZONE:-us-central1-a}")

if [[ $kind == gpu ]]; then
  machine=(gcloud compute)
  on=()
  extra=(--extra cuda)
  create=(instances create "$name" "${where[@]}" --machine-type="${MACHINE:-a2-highgpu-8g}"
    --image-project=deeplearning-platform-release --image-family="${IMAGE:-common-cu129-ubuntu-2204-nvidia-580}"
    --boot-disk-size="${DISK:-500}GB" --maintenance-policy=TERMINATE)
  delete=(instances delete "$name" "${where[@]}")
  describe=(instances describe "$name" "${where[@]}")
else
  machine=(gcloud compute tpus tpu-vm)
  on=(--worker=all)
  extra=(--with 'jax[tpu]')
  create=(create "$name" "${where[@]}" --accelerator-type="${TYPE:-v5litepod-8}" --version="${IMAGE:-v2-alpha-tpuv5-lite}")
  delete=(delete "$name" "${where[@]}")
  describe=(describe "$name" "${where[@]}")
fi

"${machine[@]}" "${describe[@]}" >/dev/null 2>&1 || "${machine[@]}" "${create[@]}"
trap 'echo "The machine goes on costing money until: ${machine[*]} ${delete[*]}"' EXIT

archive=$(mktemp --suffix=.tar.gz)
git archive --format=tar.gz --output="$archive" HEAD # what is committed, nothing else
"${machine[@]}" scp "$archive" "$name:jaxvision.tar.gz" "${where[@]}" "${on[@]}"
rm -f "$archive"

arguments=$(printf ' %q' "${extra[@]}" python -m jaxvision.launch "$@")
"${machine[@]}" ssh "$name" "${where[@]}" "${on[@]}" --command="
  set -e
  mkdir -p jaxvision && tar -xzf jaxvision.tar.gz -C jaxvision && cd jaxvision
  command -v uv >/dev/null || python3 -m pip install --user --quiet uv
  PATH=\$HOME/.local/bin:\$PATH uv run$arguments"
if [[ $kind == gpu ]]; then
  "${machine[@]}" scp --recurse "$name:jaxvision/runs" . "${where[@]}"
fi
