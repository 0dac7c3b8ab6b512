# bash listed.sh EXAMPLES: every program is built, tested and in the table of README.md, and nothing is there that does not exist.
set -uo pipefail
cd "$1" || exit 1
failed=0
fail() { echo "FAILED: $*"; failed=1; }
programs=$(printf '%s\n' *.cpp | sed 's/\.cpp$//' | sort)
built=$(sed -n 's/^set(names \(.*\))$/\1/p' CMakeLists.txt | tr ' ' '\n' | sort)
[ "$built" = "$programs" ] || fail "CMakeLists.txt: expected the names" $programs "found" $built
texts=$(printf '%s\n' *.txt | grep -v '^CMakeLists.txt$' | sed 's/\.txt$//' | sort)
[ "$texts" = "$programs" ] || fail "expected one output NAME.txt for each program, found" $texts
listed=$(sed -n 's/^| \[`\([a-z]*\)`\](\1\.cpp) .*/\1/p' README.md | sort)
[ "$listed" = "$programs" ] || fail "README.md: expected one row for each program, found" $listed
for link in $(grep -o ']([^) ]*)' README.md | sed 's/^](//; s/)$//; s/#.*//'); do
  [ -e "$link" ] || fail "README.md: expected a file behind the link $link"
done
while IFS='@' read -r name file; do  # the line to read next: a name that its file has
  grep -qF "$name" "../$file" || fail "README.md: expected $name in $file"
done < <(sed -n 's/.*`\([^`]*\)` in `\([^`]*\)` |$/\1@\2/p' README.md)
exit $failed
