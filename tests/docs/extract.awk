# Prints "PAGE:LINE<tab>KIND<tab>COMMAND" for each command of a page. Kinds:
#   run      a line of a code block (fenced or indented by four spaces) that begins with `glassformer`, `build/release/glassformer` or
#            `something | glassformer`; a line that ends with \ goes on in the next
#   said     in the running text: `glassformer …`, or a command of two words such as `explain cache`
#   front    `./run …`, wherever it stands
#   example  `build/release/examples/…` in a code block
function out(kind, command) { print FILENAME ":" FNR "\t" kind "\t" command }
FNR == 1 { fenced = 0 }
/^ *```/ { fenced = !fenced; next }
{
  code = fenced || /^    /
  line = $0
  sub(/^ +/, "", line)
  if (code) {
    if (part != "") line = part line
    part = ""
    if (line ~ /\\$/) { part = substr(line, 1, length(line) - 1); next }
    if (line ~ /^\$ +(build\/release\/)?glassformer /) out("prompt", line)
    else if (line ~ /^(build\/release\/)?glassformer / || line ~ /\| *(build\/release\/)?glassformer /) out("run", line)
    else if (line ~ /^\.\/run /) { sub(/ +#.*/, "", line); out("front", line) }
    else if (line ~ /^build\/release\/examples\//) out("example", line)
    next
  }
  n = split(line, piece, "`")
  for (i = 2; i <= n; i += 2) {
    gsub(/\\\|/, "|", piece[i])
    if (piece[i] ~ /^(build\/release\/)?glassformer [^ ]/ || piece[i] ~ /^(explain|lora|bench|tokenizer|privacy) [a-z]+( |$)/) out("said", piece[i])
    else if (piece[i] ~ /^\.\/run /) out("front", piece[i])
  }
}
