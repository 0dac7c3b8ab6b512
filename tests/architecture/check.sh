#!/bin/sh
# sh check.sh [TREE]: prints each breach of the architecture as "FILE:LINE: what is wrong" and exits 1 if there is one.
# The levels are those of the table in docs/architecture.md; the rules are in check.awk.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}"
find include src -name '*.hpp' -o -name '*.cpp' | LC_ALL=C sort | xargs -n 100000 awk -f "$here/check.awk" docs/architecture.md CMakeLists.txt
