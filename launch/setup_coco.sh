#!/usr/bin/env bash
# Downloads COCO 2017 (train, val, annotations) into a folder that jaxvision trains on.
#
#   launch/setup_coco.sh [FOLDER=data/coco] [--keep-zips] [--val-only]
#
# Run it again after an interruption: what is complete is kept, downloads continue where they stopped.
# 20 GB come over the network; 40 GB of space are needed while unpacking, 20 GB afterwards.
set -euo pipefail

SERVER=${COCO_SERVER:-http://images.cocodataset.org}
#        archive                         path         bytes        md5                               holds             files   MB needed
ARCHIVES="
annotations_trainval2017.zip  annotations  252907541    f4bbac642086de4f52a3fdda2de5fa2c  annotations:json  6       1200
val2017.zip                   zips         815585330    442b8da7639aecaf257c1dceb8ba8c80  val2017:jpg       5000    1700
train2017.zip                 zips         19336861798  cced6f7f71b7629ddf16f17bbcfab6b2  train2017:jpg     118287  40000
"

folder=""; keep_zips=no; val_only=no
for argument in "$@"; do
  case $argument in
    --keep-zips) keep_zips=yes ;;
    --val-only) val_only=yes ;;
    -h|--help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "error: unknown option $argument; see $0 --help" >&2; exit 2 ;;
    *)
      [ -z "$folder" ] || { echo "error: more than one folder: $folder and $argument" >&2; exit 2; }
      folder=$argument ;;
  esac
done
folder=${folder:-data/coco}

fail() { echo "error: $*" >&2; exit 1; }
bytes() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }
count() { find "$folder/$1" -maxdepth 1 -name "*.$2" 2>/dev/null | wc -l | tr -d ' '; }
checksum() { if command -v md5sum >/dev/null; then md5sum "$1" | cut -d' ' -f1; else md5 -q "$1"; fi; }

command -v curl >/dev/null || fail "curl is missing; install it (apt-get install curl)"
command -v unzip >/dev/null || fail "unzip is missing; install it (apt-get install unzip)"
command -v md5sum >/dev/null || command -v md5 >/dev/null || fail "md5sum is missing; install coreutils"
mkdir -p "$folder" || fail "cannot make $folder; name a folder you may write to"
[ -w "$folder" ] || fail "$folder is not writable; name another folder"

fetch() { # archive path bytes md5
  local zip=$folder/$1 have
  have=$(bytes "$zip")
  if [ "$have" -lt "$3" ]; then
    echo "$1: downloading $(($3 / 1000000)) MB$([ "$have" -eq 0 ] || echo ", $((have / 1000000)) MB of them are here")"
    curl --fail --location --retry 5 --retry-delay 5 --continue-at - --output "$zip" "$SERVER/$2/$1" ||
      fail "the download of $1 stopped; run this again to continue it"
  fi
  have=$(bytes "$zip")
  [ "$have" -eq "$3" ] || {
    [ "$have" -lt "$3" ] || rm -f "$zip"
    fail "$1 has $have bytes instead of $3; run this again"
  }
  echo "$1: checking"
  [ "$(checksum "$zip")" = "$4" ] || {
    rm -f "$zip"
    fail "$1 arrived damaged and was removed; run this again"
  }
}

while read -r archive path size md5 holds files needed; do
  [ -n "$archive" ] || continue
  if [ "$val_only" = yes ] && [ "$archive" = train2017.zip ]; then continue; fi
  kind=${holds#*:}; holds=${holds%:*}
  done_mark=$folder/.$archive.done
  if [ -f "$done_mark" ] && [ "$(count "$holds" "$kind")" -ge "$files" ]; then
    echo "$holds: complete"
    continue
  fi
  free=$(($(df -Pk "$folder" | awk 'NR == 2 {print $4}') / 1024 + $(bytes "$folder/$archive") / 1048576))
  [ "$free" -ge "$needed" ] || fail "$holds needs $needed MB, $folder has $free MB free"
  fetch "$archive" "$path" "$size" "$md5"
  echo "$archive: unpacking"
  unzip -q -o "$folder/$archive" -d "$folder" || fail "$archive cannot be unpacked; is the disk full?"
  found=$(count "$holds" "$kind")
  [ "$found" -ge "$files" ] || fail "$folder/$holds holds $found of $files files; run this again"
  : >"$done_mark"
  [ "$keep_zips" = yes ] || rm -f "$folder/$archive"
  echo "$holds: complete, $found files"
done <<<"$ARCHIVES"

echo "COCO 2017 is in $folder. To look at it before training:"
echo "  python -m jaxvision.data.doctor $folder --sample 200 --sheet coco.png"
