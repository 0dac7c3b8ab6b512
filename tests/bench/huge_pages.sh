#!/bin/sh
# sh tests/bench/huge_pages.sh PROGRAM [TIMES]: plain reading of memory in huge pages, and in pages of 4 KiB (Linux, which is asked not to give this process others), in turn.
set -eu
without='import ctypes, os, sys; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])' # PR_SET_THP_DISABLE
reading() { sed -n 's/^reading memory *//p'; }
for i in $(seq "${2:-3}"); do
  echo "huge pages $("$1" bench machine | reading), pages of 4 KiB $(python3 -c "$without" "$1" bench machine | reading)"
done
