#!/usr/bin/env bash
# Saving on a full or read-only disk: the old checkpoint survives.
. "$(dirname "$0")/common.sh" "$1"

works corpus --bytes 5K --out text
works train --out m --data text --steps 2 $tiny
find m -type f -exec cat {} + | cksum >before

# ends_badly PATTERN ARGS…: exit 1, and the last line of standard error says why
ends_badly() {
  local pattern=$1
  shift
  checks=$((checks + 1))
  run "$@"
  local code=$?
  [ $code -eq 1 ] || fail "glassformer $*: expected exit 1, found $code"
  tail -n 1 err | grep -q "^glassformer: .*$pattern" || fail "glassformer $*: expected a last line like '$pattern'"
}

unchanged() {
  checks=$((checks + 1))
  find m -type f -exec cat {} + | cksum | cmp -s - before || fail "$1: expected the old checkpoint as it was"
  [ -z "$(ls -d ./*.saving-* 2>/dev/null)" ] || fail "$1: expected no leftovers"
  works sample --model m --max-tokens 3
}

# No file may grow beyond 4 KB: writing fails in the middle, as on a full disk
(
  ulimit -f 4
  "$program" train --out m --overwrite --data text --steps 2 $tiny >out 2>err
  echo $? >code
)
checks=$((checks + 1))
[ "$(cat code)" -eq 1 ] && tail -n 1 err | grep -q "^glassformer: .*m/.*could not be written" || fail "a file that may not grow: expected exit 1 and a line"
unchanged "a file that may not grow"

# A disk that is full, and one that is read-only, where this user may mount one
mkdir disk
if mount -t tmpfs -o size=600k tmpfs disk 2>/dev/null; then
  trap 'umount "$work/disk"; rm -rf "$work"' EXIT
  works train --out disk/m --data text --steps 2 $tiny
  find disk/m -type f -exec cat {} + | cksum >disk_before
  dd if=/dev/zero of=disk/filler bs=1k 2>/dev/null
  ends_badly "disk/m.*space" train --out disk/m --overwrite --data text --steps 2 $tiny
  find disk/m -type f -exec cat {} + | cksum | cmp -s - disk_before || fail "a full disk: expected the old checkpoint as it was"
  works sample --model disk/m --max-tokens 3
  mount -o remount,ro disk
  ends_badly "disk/m: could not be saved: .*ead-only" train --out disk/m --overwrite --data text --steps 2 $tiny
  ends_badly "disk/c: .*ead-only" corpus --bytes 1K --out disk/c
  works sample --model disk/m --max-tokens 3
else
  echo "skipped: a full and a read-only disk (this user may not mount one)"
fi

# A directory that may not be written
if [ "$(id -u)" -ne 0 ]; then
  mkdir locked && chmod 555 locked
  ends_badly "locked/m: could not be saved: Permission denied" train --out locked/m --data text --steps 2 $tiny
  chmod 755 locked
fi
[ -d /proc/self ] && ends_badly "/proc/m" train --out /proc/m --data text --steps 2 $tiny
[ -e /dev/full ] && { "$program" sample --model m --max-tokens 3 >/dev/full 2>err && fail "text to a full disk: expected exit 1"; says "^glassformer: standard output"; }
ends_badly "no-such-folder-is-a-file/x" corpus --bytes 1K --out text/no-such-folder-is-a-file/x
unchanged "at the end"
finish
