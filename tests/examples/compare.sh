# bash compare.sh PROGRAM EXAMPLE: the program runs and prints EXAMPLE.txt; EXAMPLE.cpp keeps the rules of examples/README.md.
# A change that is meant: PROGRAM > EXAMPLE.txt, and read the difference.
set -uo pipefail
program=$1 example=$2
failed=0
fail() { echo "FAILED: $*"; failed=1; }

found=$(timeout 20 "$program" 2>&1; echo "exit $?")
expected=$(cat "$example.txt"; echo "exit 0")
if [ "$found" != "$expected" ]; then
  diff <(echo "$expected") <(echo "$found")
  fail "$program: expected what $example.txt says (<), found other lines (>)"
fi

lines=$(wc -l <"$example.cpp")
[ "$lines" -le 60 ] || fail "$example.cpp: expected at most 60 lines, found $lines"
head -n 4 "$example.cpp" | grep -qF "//   build/release/examples/$(basename "$example")" || fail "$example.cpp: expected its command at the end of the comment that it begins with"
awk 'length > 0 && !/^\/\// { exit !(NR >= 3 && NR <= 5) }' "$example.cpp" || fail "$example.cpp: expected a comment of 2 to 4 lines first"
others=$(grep -E '^ *# *include' "$example.cpp" | grep -vE '<[a-z_]+>|<fmt/core.h>|"glassformer/[a-z_]+/[a-z_/]+\.hpp"')
[ -z "$others" ] || fail "$example.cpp: expected headers of the standard library, fmt and glassformer, found $others"
exit $failed
