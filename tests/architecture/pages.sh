#!/bin/sh
# sh pages.sh TREE: every page of docs/ is in docs/README.md, and every relative link of a page leads to a file.
set -eu
cd "$1"
failed=0
fail() { echo "FAILED: $*"; failed=1; }
for page in README.md docs/*.md; do
  [ -e "$page" ] || continue
  case $page in docs/README.md | README.md) ;; *) grep -q "(${page#docs/})" docs/README.md || fail "$page is not in docs/README.md" ;; esac
  for link in $(grep -o ']([^) ]*)' "$page" | sed 's/^](//; s/)$//; s/#.*//'); do
    case $link in *://* | mailto:*) continue ;; esac
    [ -e "$(dirname "$page")/$link" ] || fail "$page: expected a file behind the link $link"
  done
done
exit $failed
