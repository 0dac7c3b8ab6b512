#!/usr/bin/env bash
# bash planted.sh PROGRAM: mistakes that a page may have, each made once; commands.sh must name its page and line, and nothing else.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree/docs" && printf 'case $1 in\n  test) ;;\n  format | tidy) ;;\nesac\n' >"$work/tree/run"
cat >"$work/tree/README.md" <<'PAGE'
    glassformer tokenizer encode --tokenizer byte --text "one"
    glassformer tokenizer encode --tokenizer byte --txt "a wrong option"
    build/release/glassformer corpus --kind novels --out wrong-value.txt
    glassformer sample --model DIR --promt TEXT --stop TEXT
    $ glassformer tokenizer encode --tokenizer byte --text "with a prompt sign"
    echo "one" | glassformer tokenizer encode --tokenizer byte --wrong
    ./run test       # right
    ./run tidy
    ./run nowhere
    build/release/examples/nothing
    glassformer train --data YOUR.txt \
      --out DIR --not-an-option
In a text: `glassformer sample --temperature`, `explain attention`, `glassformer explain attention --model DIR --prompt "One"`, `--anything`, `glassformer-demo/model`, and wrong ones:
`glassformer smaple`, `explain nonsense`, `glassformer sample --temprature X`, `glassformer explain attention --model DIR --prompt "One" --layer 77`.
PAGE
cat >"$work/tree/docs/page.md" <<'PAGE'
```sh
glassformer tokenizer encode --tokenizer byte --text "two" --pieces  # a comment
glassformer tokenizer encode --tokenizer nowhere/tokenizer.json --text "two"
```
    glassformer gradcheck --no-bias --entries 3
PAGE
bash "$here/commands.sh" "$work/tree" "$1" >"$work/said"
code=$?
expected="README.md:2 README.md:3 README.md:4 README.md:5 README.md:6 README.md:9 README.md:10 README.md:12 README.md:14 README.md:14 README.md:14 README.md:14 docs/page.md:3"
found=$(sed -n 's/^FAILED: \([^:]*:[0-9]*\):.*/\1/p' "$work/said" | tr '\n' ' ')
if [ $code -eq 0 ] || [ "$found" != "$expected " ]; then
  cat "$work/said"
  echo "FAILED: expected exit 1 and complaints about $expected, found exit $code and $found"
  exit 1
fi
echo "13 mistakes planted and found, nothing else"
