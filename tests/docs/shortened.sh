#!/usr/bin/env bash
# Stands in for `glassformer` while the documentation's commands are run: the same command with every option as it was typed, except that long
# runs are cut. An option in the table below takes the value given there; one in the second table is added where it is not typed.
set -u
command="${1:-} ${2:-}"
short() {
  case "$command:$1" in
    train*:--steps | lora\ train:--steps | bench*:--steps) echo 2 ;;
    bench\ matmul:--seconds) echo 0.001 ;;
    bench*:--tokens) echo 8 ;;
    bench*:--repeats | bench\ decode:--layers | bench\ prefill:--layers) echo 1 ;;
    bench\ decode:--vocab | bench\ prefill:--vocab) echo 300 ;;
    corpus*:--bytes | train*:--corpus-bytes | lora\ train:--corpus-bytes) echo 60K ;;
    eval*:--corpus-bytes | quantize*:--corpus-bytes) echo 20K ;;
    lora\ merge:--corpus-bytes) echo 5K ;;
    eval*:--agreement) echo 5 ;;
    sample*:--max-tokens) echo 8 ;;
  esac
}
added() {
  case "$command" in
    train*) if [[ " $* " != *" --resume "* ]]; then echo --steps; [[ " $* " == *" --corpus "* ]] && echo --corpus-bytes; fi ;;
    lora\ train) [[ " $* " != *" few-shot "* ]] && echo --steps; [[ " $* " == *" --corpus "* ]] && echo --corpus-bytes ;;
    bench\ matmul) echo --seconds ;;
    bench\ train) echo --steps ;;
    bench\ decode | bench\ prefill) echo --tokens --repeats --layers --vocab ;;
    corpus*) echo --bytes ;;
    eval* | quantize*) [[ " $* " == *" --corpus "* ]] && echo --corpus-bytes ;;
    sample*) echo --max-tokens ;;
  esac
}
arguments=() previous=""
for argument in "$@"; do
  value=$(short "$previous")
  arguments+=("${value:-$argument}")
  previous=$argument
done
for option in $(added "$@"); do
  [[ " $* " == *" $option "* ]] || arguments+=("$option" "$(short "$option")")
done
[[ "$command" == "bench "* && ! "$command" =~ ^"bench "[a-z] || "$command" == "bench all" ]] && arguments+=(--quick)
exec "$GLASSFORMER_PROGRAM" "${arguments[@]}"
