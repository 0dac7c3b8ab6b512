#!/usr/bin/env bash
# bash commands.sh TREE PROGRAM [SHARED]: runs the commands of README.md, docs/*.md and examples/README.md (extract.awk says which those are),
# page by page in their order, then the examples of every --help; names page and line of each that does not work.
# - A command of a code block is run, and `glassformer explain …` wherever it stands; long ones are cut as shortened.sh says, and `demo` is left
#   to the test cli_demo. DIR after --model and --adapter is filled in.
# - One with another placeholder (a word of capitals: FILE, TEXT, N; […], …) cannot be run, nor can one in the running text that is only
#   mentioned: then its command must exist and its --help must know each option. How many these were is printed.
# Files that a page takes for granted are made first, by the program itself.
set -u
tree=$(cd "$1" && pwd) here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) shared=${3:-}
GLASSFORMER_PROGRAM=$(realpath "$2")
export GLASSFORMER_PROGRAM NO_COLOR=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/prepared" "$work/help"
ln -s "$here/shortened.sh" "$work/bin/glassformer"
export PATH="$work/bin:$PATH"
declare -A seen=()
failed=0 ran=0 checked=0 elsewhere=0 skipped=0 fronts=0

fail() { echo "FAILED: $*"; failed=$((failed + 1)); }

# What a reader has who comes to a page: a text, a tokenizer, a model and an adapter, the demonstration's folder, stories260K.
prepare() {
  cd "$work/prepared" || exit 1
  {
    glassformer corpus --kind stories --out stories.txt && cp stories.txt shakespeare.txt && cp stories.txt other.txt && cp stories.txt other-stories.txt &&
      glassformer tokenizer train --data stories.txt --vocab-size 512 --out tokenizer.json &&
      glassformer train --corpus stories --tokenizer bpe --preset stories --out model &&
      glassformer lora train --model model --corpus support --out adapter &&
      mkdir glassformer-demo && cp stories.txt tokenizer.json glassformer-demo && cp -r model glassformer-demo && cp -r adapter glassformer-demo/support
  } >"$work/log" 2>&1 || { tail -n 3 "$work/log"; echo "FAILED: could not make the models that the pages take for granted"; exit 1; }
  mkdir -p build/release && ln -s "$work/bin/glassformer" build/release/glassformer
  if [ -e "$shared/data/stories260K/model.bin" ]; then cp -r "$shared/data/stories260K" .; fi
}

# known PLACE COMMAND: the words before the first option are a command, and its help has each option.
known() {
  local words=() word help
  read -ra all <<<"$2"
  for word in "${all[@]}"; do
    [[ $word =~ ^[a-z]+$ ]] || break
    words+=("$word")
  done
  help="$work/help/${words[*]:-none}"
  [ -e "$help" ] || "$GLASSFORMER_PROGRAM" "${words[@]}" --help >"$help" 2>&1 || { fail "$1: $2: $(head -n 1 "$help")"; rm -f "$help"; return; }
  while read -r word; do
    grep -qE -e "--(\[no-\])?${word#no-}( |$)" -e "--$word( |$)" "$help" || fail "$1: $2: glassformer ${words[*]} has no option --$word"
  done < <(grep -oE -e '(^| )--[a-z-]+' <<<"$2" | sed 's/ *--//' | grep -vx help)
}

# runs PLACE COMMAND: exit 0 within two minutes.
runs() {
  local out
  out=$(grep -oE -e '--out +[^ ]+' <<<"$2" | awk '{ print $2 }')
  [[ $2 == *--resume* || -z $out ]] || rm -rf "${out:?}"  # what was prepared gives way to what the page makes
  timeout 120 bash -c "$2" >"$work/out" 2>"$work/err" </dev/null
  local code=$?
  [ $code -eq 0 ] || fail "$1: $2: expected exit 0, found $code: $(tail -n 1 "$work/err")"
}

one() {
  local place=$1 kind=$2 command=$3 bare
  command=$(sed -E 's/--(model|adapter) DIR/--\1 \1/g' <<<"$command")
  [[ $kind == said && $command =~ ^(build/release/)?glassformer\ explain\ [a-z]+ ]] && kind=run
  bare=$(sed -E 's/ +#.*//; s/^(build\/release\/)?glassformer +//' <<<"$command")
  case $kind in
    prompt) fail "$place: $command: expected a command without the shell's prompt" ;;
    front)
      fronts=$((fronts + 1))
      grep -qE "^  ([a-z-]+ \| )*$(awk '{ print $2 }' <<<"$command")( \|.*)?\)( |$)" "$tree/run" || fail "$place: $command: ./run has no such command" ;;
    example)
      fronts=$((fronts + 1))
      [ -e "$tree/examples/${command#build/release/examples/}.cpp" ] || fail "$place: $command: there is no such example" ;;
    *)
      if [[ $bare == "COMMAND"* ]]; then
        skipped=$((skipped + 1)) && echo "skipped: $place: $command"
      elif [ "$kind" = said ] || sed -E "s/\"[^\"]*\"//g" <<<"$bare" | grep -qE '(^|[ /=])[A-Z]{2,}([ ./]|$)|[^a-z]N( |$)|\[|…'; then
        checked=$((checked + 1)) && known "$place" "$bare"
        [ "$kind" = said ] || echo "placeholders, so only its options are checked: $place: $command"
      elif [[ $bare == demo* ]]; then
        elsewhere=$((elsewhere + 1)) && known "$place" "$bare"
      elif [[ $bare == *stories260K* && ! -e stories260K ]]; then
        skipped=$((skipped + 1)) && echo "skipped, stories260K is not here: $place: $command"
      else
        ran=$((ran + 1)) && seen[$bare]=1 && runs "$place" "$command"
      fi ;;
  esac
}

# list FILE: what extract.awk found, one after another in a folder where everything lies ready.
list() {
  local place kind command
  rm -rf "$work/page" && cp -r "$work/prepared" "$work/page" && cd "$work/page" || exit 1
  while IFS=$'\t' read -r place kind command <&3; do one "$place" "$kind" "$command"; done 3<"$1"
}

# The examples of each command's --help that no page has, as extract.awk would print them.
help_examples() {
  local text name
  text=$("$GLASSFORMER_PROGRAM" "$@" --help)
  if grep -q '^Commands:' <<<"$text"; then
    for name in $(sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' <<<"$text"); do help_examples "$@" "$name"; done
  else
    sed -n '/^Example/,$p' <<<"$text" | grep 'glassformer ' | while read -r name; do
      [ -n "${seen[${name#glassformer }]:-}" ] || printf '%s --help\trun\t%s\n' "$*" "$name"
    done
  fi
}

cd "$tree" || exit 1
if grep -q -e '--model' README.md docs/*.md; then (prepare) || exit 1; fi
for page in README.md docs/*.md examples/README.md; do
  cd "$tree" || exit 1
  [ -e "$page" ] || continue
  awk -f "$here/extract.awk" "$page" >"$work/list"
  list "$work/list"
done
if [ -e "$tree/docs/command-line.md" ]; then
  help_examples >"$work/list"
  list "$work/list"
fi
echo "$ran run, $checked looked up in --help, $fronts of ./run and examples, $elsewhere left to cli_demo, $skipped skipped; $failed failed, $SECONDS s"
[ $failed -eq 0 ] && [ $((ran + checked)) -gt 0 ]
