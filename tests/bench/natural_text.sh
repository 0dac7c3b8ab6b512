#!/bin/sh
# sh tests/bench/natural_text.sh [BYTES] > FILE: about BYTES (100,000,000) of natural text, from the documentation that Debian installs: what packages say of
# themselves, their change logs and licences, info and manual pages, decompressed, in the order of their names. Says on standard error how much it found.
set -eu
export LC_ALL=C
bytes=${1:-100000000}
list=$(mktemp) text=$(mktemp)
trap 'rm -f "$list" "$text"' EXIT
for folder in /usr/share/doc /usr/share/info /usr/share/man /usr/share/perl /usr/share/common-licenses; do
  [ ! -d $folder ] || find -L $folder -type f 2>/dev/null | grep -Ev '\.(png|gif|jpe?g|svg|ico|pdf|ps|woff2?|ttf|eot|zip|tgz|tar|tar\.[a-z0-9]+|xz|bz2|so|a|o|pyc|js|css|map|bin|dat|db)(\.gz)?$' | sort
done >"$list"
# gzip -f passes on what is not compressed; a text holds no NUL.
{ xargs -d '\n' gzip -dcfq -- <"$list" 2>/dev/null || true; } | tr -d '\000' | head -c "$bytes" >"$text"
found=$(wc -c <"$text")
cat "$text"
if [ "$found" -lt "$bytes" ]; then echo "natural_text.sh: $found bytes found of $bytes asked; more documentation: apt-get install e.g. linux-doc, manpages-dev" >&2; else echo "natural_text.sh: $found bytes" >&2; fi
