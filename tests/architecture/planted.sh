#!/bin/sh
# sh planted.sh TREE: breaks each rule once in a copy of the tree; check.sh must say so, and must not cry out at what is allowed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
planted=0

fresh() {
  rm -rf "$work/tree"
  mkdir -p "$work/tree/docs"
  cp -R "$tree/include" "$tree/src" "$tree/CMakeLists.txt" "$work/tree"
  cp "$tree/docs/architecture.md" "$work/tree/docs"
  cd "$work/tree"
}
verdict() { sh "$here/check.sh" "$work/tree" >"$work/said" 2>&1; }
fail() { echo "FAILED: $*"; sed 's/^/    /' "$work/said" | head -5; failed=$((failed + 1)); }

# caught PATTERN: the tree as it is now is refused by exactly one line, which matches
caught() {
  planted=$((planted + 1))
  if verdict; then fail "expected a breach like '$1', found none"
  elif [ "$(wc -l <"$work/said")" -ne 1 ] || ! grep -q -- "$1" "$work/said"; then fail "expected one line like '$1'"; fi
  fresh
}
# allowed: the tree as it is now passes
allowed() {
  planted=$((planted + 1))
  verdict || fail "expected no breach: $1"
  fresh
}
# Adds a line at the end of a file; replaces in a file, which must change it.
add() { printf '%s\n' "$2" >>"$1"; }
edit() {
  sed "$2" "$1" >"$work/edited"
  if cmp -s "$1" "$work/edited"; then echo "FAILED: nothing in $1 for '$2'"; exit 1; fi
  cp "$work/edited" "$1"
}

fresh
verdict || { cat "$work/said"; echo "FAILED: the tree itself has breaches, so nothing can be planted"; exit 1; }

add src/ops/linear.cpp '#include "glassformer/model/decoder.hpp"'
caught '^src/ops/linear.cpp:[0-9]*: ops (level 2) includes model (level 7)$'
add include/glassformer/cache/kv_cache.hpp '  #  include <glassformer/lora/lora.hpp>'
caught 'cache (level 3) includes lora (level 3)'
add src/core/random.cpp '#include "glassformer/core/nowhere.hpp"'
caught 'which does not exist'
add src/core/random.cpp '#include "random.hpp"'
caught 'expected "glassformer/FOLDER/…"'
add src/train/trainer.cpp '#include "io/file.hpp"'
caught 'train includes the private header of io'
add include/glassformer/io/save.hpp '#include "io/file.hpp"'
caught 'a public header includes the private'
mkdir src/surprise && echo >src/surprise/a.cpp && add CMakeLists.txt 'glassformer_component(surprise)'
caught 'the folder surprise has no row'
add docs/architecture.md '| 3 | `nothing` | |'
caught 'there is no folder nothing'
edit docs/architecture.md 's/| `bench` |/| bench |/'
caught 'the folder bench has no row'
edit CMakeLists.txt '/^glassformer_component(ops /s/quantize/quantize model/'
caught '^CMakeLists.txt:[0-9]*: ops (level 2) names model (level 7)$'
edit CMakeLists.txt '/^glassformer_component(lora /s/ ops//'
caught 'lora includes ops .* but does not name it'
edit CMakeLists.txt '/^glassformer_component(mlp /d'
caught 'the folder mlp is no glassformer_component'

for line in 'void f() { std::exit(1); }' 'void f() { if (true) abort (); }' 'auto g = [] { return ::_exit(2); };'; do
  add src/core/random.cpp "$line"
  caught '^src/core/random.cpp:[0-9]*: the library never exits'
done
for line in 'int f() { return std::printf("%d", 1); }' 'void f() { std::cout << 1; }' 'void f() { fmt::print("x"); }' '#include <iostream>' \
  'auto f() { return std::fputs("x", stderr); } // "a comment"' '/* one */ void f() { std::cerr << "two"; } /* three */'; do
  add include/glassformer/core/require.hpp "$line"
  caught '^include/glassformer/core/require.hpp:[0-9]*: the library never prints'
done

add src/core/random.cpp '// printf("in a comment"), std::cout'
add src/core/random.cpp '/* exit(1) in a block comment
   abort() */ const char* s = "exit(1) in a \" string // abort()";'
add src/core/random.cpp "char q = '\"'; int n = snprintf(nullptr, 0, \"\"); char r = '\"';"
add src/core/random.cpp 'void on_exit_of(int); struct A { int stdout_lines, exit_code; };'
add src/cli/main.cpp 'void f() { std::cout << 1; std::exit(1); }'
allowed 'comments, strings, other names, and the program itself'

[ $failed -eq 0 ] || { echo "$failed of $planted checks failed"; exit 1; }
echo "$planted breaches planted and judged rightly"
