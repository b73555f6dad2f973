#!/usr/bin/env bash
# Encodes every MP4 of a folder with x265, at one constant quality.
#
#   launch/hevc_encode.sh FOLDER [OUTPUT=FOLDER/hevc] [--crf 28] [--preset medium]
#
# OUTPUT/NAME.mp4 holds HEVC video and the sound as it was. What is there already is kept unless its
# source is newer. The ffmpeg is that of PATH, else of imageio-ffmpeg: uv sync --extra baselines.
# PYTHON=… names the interpreter that has it.
set -euo pipefail

fail() { echo "error: $*" >&2; exit 1; }
wrong() { echo "error: $*; see $0 --help" >&2; exit 2; }

folders=(); crf=28; preset=medium
while (($#)); do
  case $1 in
    --crf|--preset)
      (($# > 1)) || wrong "$1 wants a value"
      if [ "$1" = --crf ]; then crf=$2; else preset=$2; fi
      shift ;;
    -h|--help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) wrong "unknown option $1" ;;
    *) folders+=("$1") ;;
  esac
  shift
done
((${#folders[@]} == 1 || ${#folders[@]} == 2)) || wrong "name a folder of MP4 files, and one for the results or none"
[[ $crf =~ ^[0-9]+$ ]] && ((crf <= 51)) || wrong "--crf $crf is no whole number from 0 to 51"
source=${folders[0]%/}
output=${folders[1]:-$source/hevc}
output=${output%/}
[ -d "$source" ] || fail "$source: no such folder"
mkdir -p "$output" || fail "cannot make $output; name a folder you may write to"
[ -w "$output" ] || fail "$output is not writable; name another folder"
[ ! "$source" -ef "$output" ] || fail "$output is the folder of the sources; name another"

python=${PYTHON:-python3}
ffmpeg=$(command -v ffmpeg) ||
  ffmpeg=$($python -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())' 2>/dev/null) ||
  fail "no ffmpeg on PATH and no imageio-ffmpeg in $python: apt-get install ffmpeg, or uv sync --extra baselines"
# read in full: a grep that stops early would end ffmpeg by SIGPIPE
encoders=$("$ffmpeg" -hide_banner -encoders 2>/dev/null </dev/null) || fail "$ffmpeg does not start"
[[ $encoders == *" libx265 "* ]] || fail "$ffmpeg is built without libx265: uv sync --extra baselines, and start this without it on PATH"

shopt -s nullglob nocaseglob
files=("$source"/*.mp4)
((${#files[@]})) || fail "$source holds no MP4 file"

# Files of two qualities side by side would be taken for those of one.
settings="--crf $crf --preset $preset"
if [ -f "$output/.settings" ]; then
  made_with=$(<"$output/.settings")
  [ "$made_with" = "$settings" ] || fail "$output holds files made with $made_with; name another folder"
else
  echo "$settings" >"$output/.settings"
fi

size() { wc -c <"$1" | tr -d ' '; }
failed=()
for ((i = 0; i < ${#files[@]}; i++)); do
  file=${files[i]}
  name=${file##*/}
  name=${name%.*}
  made=$output/$name.mp4
  label="$((i + 1))/${#files[@]} $name"
  if [ -s "$made" ] && [ ! "$file" -nt "$made" ]; then
    echo "$label: there"
    continue
  fi
  part=$output/.$name.part.mp4 # a file with its own name is whole
  if "$ffmpeg" -hide_banner -loglevel error -nostdin -y -i "$file" -map 0:v:0 -map '0:a?' \
    -c:v libx265 -crf "$crf" -preset "$preset" -x265-params log-level=error -tag:v hvc1 -c:a copy \
    -movflags +faststart "$part"; then
    mv "$part" "$made"
    echo "$label: $(size "$file") -> $(size "$made") bytes"
  else
    rm -f "$part"
    failed+=("$file")
    echo "error: $file could not be encoded" >&2
  fi
done
((${#failed[@]} == 0)) || fail "${#failed[@]} of ${#files[@]} files failed: ${failed[*]}"
echo "done: ${#files[@]} files in $output"
