# bash install.sh BUILD_DIRECTORY CMAKE GENERATOR CXX_COMPILER BUILD_TYPE
# Fails unless an installed tree, moved elsewhere, serves a program that knows nothing of this one.
set -euo pipefail
build=$1 cmake=$2 generator=$3 compiler=$4 type=$5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

"$cmake" --install "$build" --prefix "$work/first" --config "$type" >"$work/log" 2>&1 || { cat "$work/log"; fail "cmake --install"; }
mv "$work/first" "$work/prefix"  # nothing may remember where it was installed

# One library, all public headers and no others, nothing of this tree's paths in the package.
[ "$(find "$work/prefix" -name '*.a' | wc -l)" -eq 1 ] || fail "expected one static library, found $(find "$work/prefix" -name '*.a')"
sources=$(find "$root/src" -name '*.cpp' -not -path '*/cli/*' | wc -l) members=$(ar t "$(find "$work/prefix" -name '*.a')" | wc -l)
[ "$members" -eq "$sources" ] || fail "expected the $sources sources of all folders in the library, found $members"
diff -r "$root/include/glassformer" "$work/prefix/include/glassformer" || fail "the installed headers are not the tree's"
package=$(dirname "$(find "$work/prefix" -name glassformerConfig.cmake)")
if grep -rnF -e "$root" -e "$build" "$package"; then fail "the package names the tree it was built in"; fi

# Code for another processor than the library's would share inline functions with it. (The consumer itself asserts the alignment.)
if grep -q '^GLASSFORMER_NATIVE:BOOL=ON' "$build/CMakeCache.txt"; then
  grep -q -- '-march=native' "$package/glassformerTargets.cmake" || fail "the package does not publish the processor flags"
fi

# Every header, so that one which needs something that is not installed is found.
find "$work/prefix/include/glassformer" -name '*.hpp' | sort | sed "s|.*/include/\(.*\)|#include <\1>|" >"$work/every_header.cpp"

# No build type: a caller without -O and NDEBUG must agree with an optimised library.
"$cmake" -G "$generator" -S "$here/consumer" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_CXX_COMPILER="$compiler" -DEVERY_HEADER="$work/every_header.cpp" \
  >"$work/log" 2>&1 || { cat "$work/log"; fail "find_package(glassformer)"; }
"$cmake" --build "$work/build" --parallel 2 >"$work/log" 2>&1 || { tail -n 30 "$work/log"; fail "the consumer does not build"; }
"$work/build/consumer" || fail "the consumer ran and failed"

# The folder of examples, built alone, as its README.md says.
"$cmake" -G "$generator" -S "$root/examples" -B "$work/examples" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_CXX_COMPILER="$compiler" \
  >"$work/log" 2>&1 || { cat "$work/log"; fail "find_package(glassformer) in examples"; }
"$cmake" --build "$work/examples" --target example_decode >"$work/log" 2>&1 || { tail -n 30 "$work/log"; fail "examples/decode.cpp does not build"; }
"$work/examples/decode" | diff "$root/examples/decode.txt" - || fail "expected the installed library to print examples/decode.txt"

# The program runs from where it lies.
if [ -e "$build/glassformer" ]; then
  "$work/prefix/bin/glassformer" --version >/dev/null || fail "the installed program does not run"
fi
echo "installed, found, built and run"
