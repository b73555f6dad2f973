#!/usr/bin/env bash
# Downloads DAVIS 2017 (train and val, 480p: 90 short videos as JPEG frames, with masks) into a folder.
#
#   launch/setup_davis.sh [FOLDER=data/davis] [--keep-zip]
#
# Run it again after an interruption: what is complete is kept, a download continues where it stopped.
# 0.8 GB come over the network; 1.8 GB of space are needed while unpacking, 0.9 GB afterwards.
set -euo pipefail

# One file at two addresses. Size and SHA-256 as TensorFlow Datasets publishes them for the first.
SERVERS=${DAVIS_SERVERS:-https://data.vision.ee.ethz.ch/csergi/share/davis https://davischallenge.org/challenge2017/DAVIS-data}
ARCHIVE=DAVIS-2017-trainval-480p.zip
BYTES=832766765
SHA256=e3d0b5b77c3d031b000a19e0e25e3e2cac65d183755601bc2cf066df1a2aa492
NEEDED=1800 # MB
VIDEOS=90

folder=""; keep_zip=no
for argument in "$@"; do
  case $argument in
    --keep-zip) keep_zip=yes ;;
    -h|--help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "error: unknown option $argument; see $0 --help" >&2; exit 2 ;;
    *)
      [ -z "$folder" ] || { echo "error: more than one folder: $folder and $argument" >&2; exit 2; }
      folder=$argument ;;
  esac
done
folder=${folder:-data/davis}

fail() { echo "error: $*" >&2; exit 1; }
bytes() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }
checksum() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }
count() { find "$1" -maxdepth 1 -name "*.$2" 2>/dev/null | wc -l | tr -d ' '; }

command -v curl >/dev/null || fail "curl is missing; install it (apt-get install curl)"
command -v unzip >/dev/null || fail "unzip is missing; install it (apt-get install unzip)"
command -v sha256sum >/dev/null || command -v shasum >/dev/null || fail "sha256sum is missing; install coreutils"
mkdir -p "$folder" || fail "cannot make $folder; name a folder you may write to"
[ -w "$folder" ] || fail "$folder is not writable; name another folder"

zip=$folder/$ARCHIVE
done_mark=$folder/.$ARCHIVE.done

# The videos that the data set's own lists name, each with a mask for every frame. Prints their number.
complete() {
  local root=$folder/DAVIS videos=0 name frames
  for name in $(cat "$root"/ImageSets/2017/{train,val}.txt 2>/dev/null); do
    frames=$(count "$root/JPEGImages/480p/$name" jpg)
    [ "$frames" -gt 0 ] && [ "$frames" -eq "$(count "$root/Annotations/480p/$name" png)" ] || {
      echo "$root/JPEGImages/480p/$name has $frames frames, and not as many masks" >&2
      return 1
    }
    videos=$((videos + 1))
  done
  [ "$videos" -eq "$VIDEOS" ] || { echo "$root has $videos of $VIDEOS videos" >&2; return 1; }
}

if [ -f "$done_mark" ] && complete; then
  echo "DAVIS 2017: complete"
  exit 0
fi

free=$(($(df -Pk "$folder" | awk 'NR == 2 {print $4}') / 1024 + $(bytes "$zip") / 1048576))
[ "$free" -ge "$NEEDED" ] || fail "DAVIS needs $NEEDED MB, $folder has $free MB free"

for server in $SERVERS; do
  have=$(bytes "$zip")
  [ "$have" -lt "$BYTES" ] || break
  echo "$ARCHIVE: downloading $((BYTES / 1000000)) MB$([ "$have" -eq 0 ] || echo ", $((have / 1000000)) MB of them are here")"
  curl --fail --location --retry 5 --retry-delay 5 --continue-at - --output "$zip" "$server/$ARCHIVE" ||
    echo "the download from $server stopped" >&2
done
have=$(bytes "$zip")
[ "$have" -ge "$BYTES" ] || fail "$ARCHIVE has $have of $BYTES bytes; run this again to continue it"
echo "$ARCHIVE: checking"
[ "$have" -eq "$BYTES" ] && [ "$(checksum "$zip")" = "$SHA256" ] || {
  rm -f "$zip"
  fail "$ARCHIVE arrived damaged and was removed; run this again"
}
echo "$ARCHIVE: unpacking"
unzip -q -o "$zip" -d "$folder" || fail "$ARCHIVE cannot be unpacked; is the disk full?"
complete || fail "$folder/DAVIS is not whole; run this again"
: >"$done_mark"
[ "$keep_zip" = yes ] || rm -f "$zip"
echo "DAVIS 2017 is in $folder/DAVIS: $VIDEOS videos. Its terms of use: https://davischallenge.org"
