# awk -f check.awk docs/architecture.md CMakeLists.txt SOURCES…   (POSIX awk)
# 1. Every folder of include/glassformer and src has a row in the table of levels, and every row has a folder.
# 2. A folder includes only folders of a lower level, by paths that exist: "glassformer/X/…" for what is public, "X/…" for what is its own.
#    A public header includes no private one.
# 3. Every folder but cli is a glassformer_component in CMakeLists.txt. It names only folders of a lower level, and what it names reaches
#    all that it includes: so it links alone.
# 4. Only cli prints and exits.

function wrong(where, what) { print where ": " what; breaches++ }

# The folder of include/glassformer/X/… or src/X/…
function folder_of(path,  part) { split(path, part, "/"); return path ~ /^src\// ? part[2] : part[3] }

# Code without the insides of its strings and comments; a block comment may go on over lines.
function code(line,  end) {
  if (in_comment) {
    end = index(line, "*/")
    if (!end) return ""
    line = substr(line, end + 2)
    in_comment = 0
  }
  gsub(/'\\?"'/, "0", line)
  gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
  sub(/\/\/.*/, "", line)
  gsub(/\/\*([^*]|\*+[^*\/])*\*+\//, " ", line)
  if (line ~ /\/\*/) { in_comment = 1; sub(/\/\*.*/, "", line) }
  return line
}

function check_include(where, file, target, private,  own, other) {
  own = folder_of(file)
  private = target !~ /^glassformer\//
  if (private && target !~ /\//) return wrong(where, "expected \"glassformer/FOLDER/…\" or \"FOLDER/…\", found \"" target "\"")
  if (!((private ? "src/" : "include/") target in known_file)) return wrong(where, "includes \"" target "\", which does not exist")
  other = folder_of((private ? "src/" : "include/") target)
  if (private && file ~ /^include\//) return wrong(where, "a public header includes the private \"" target "\"")
  if (other == own) return
  if (private) return wrong(where, own " includes the private header of " other ", \"" target "\"")
  if (!(other in level) || !(own in level)) return  # said once, below
  if (level[other] < level[own]) includes[own, other] = where
  else wrong(where, own " (level " level[own] ") includes " other " (level " level[other] ")")
}

# True when component `from` names `to`, itself or through others. Levels forbid cycles; `seen` guards against one.
function reaches(from, to, seen,  n, i, name) {
  if (from in seen) return 0
  seen[from] = 1
  n = split(names[from], name, " ")
  for (i = 1; i <= n; i++) if (name[i] == to || reaches(name[i], to, seen)) return 1
  return 0
}

BEGIN { for (i = 3; i < ARGC; i++) { known_file[ARGV[i]] = 1; folder[folder_of(ARGV[i])] = ARGV[i] } }
FNR == 1 { in_comment = 0 }

# | 3 | `position`, `cache` | what lives there |
FILENAME == "docs/architecture.md" {
  if ($0 !~ /^\| *[0-9]+ *\|/) next
  split($0, column, "|")
  n = split(column[3], quoted, "`")
  for (i = 2; i <= n; i += 2) { level[quoted[i]] = column[2] + 0; row[quoted[i]] = FILENAME ":" FNR; rows++ }
  next
}

FILENAME == "CMakeLists.txt" {
  if ($0 !~ /^glassformer_component\(/) next
  sub(/^glassformer_component\(/, ""); sub(/\).*/, "")
  n = split($0, word, " ")
  component[word[1]] = FILENAME ":" FNR
  names[word[1]] = ""
  for (i = 2; i <= n; i++) {
    names[word[1]] = names[word[1]] " " word[i]
    if (!(word[i] in level)) wrong(FILENAME ":" FNR, word[1] " names " word[i] ", which has no row in docs/architecture.md")
    else if (word[1] in level && level[word[i]] >= level[word[1]])
      wrong(FILENAME ":" FNR, word[1] " (level " level[word[1]] ") names " word[i] " (level " level[word[i]] ")")
  }
  next
}

/^[ \t]*#[ \t]*include[ \t]*("|<glassformer\/)/ {
  target = $0
  sub(/^[^"<]*["<]/, "", target); sub(/[">].*/, "", target)
  check_include(FILENAME ":" FNR, FILENAME, target)
  next
}

FILENAME !~ /^src\/cli\// {
  line = " " code($0)
  if (line ~ /[^A-Za-z0-9_](_exit|_Exit|exit|quick_exit|abort|terminate|raise) *\(/) wrong(FILENAME ":" FNR, "the library never exits:" line)
  if (line ~ /[^A-Za-z0-9_](printf|vprintf|puts|putchar|perror) *\(/ || line ~ /[^A-Za-z0-9_](cout|cerr|clog|stdout|stderr|STDOUT_FILENO|STDERR_FILENO)[^A-Za-z0-9_]/ ||
      line ~ /(fmt|std)::(print|println|vprint) *\(/ || line ~ /# *include *<iostream>/)
    wrong(FILENAME ":" FNR, "the library never prints:" line)
}

END {
  if (!rows) wrong("docs/architecture.md", "expected a table of levels, found none")
  for (f in folder) {
    if (!(f in level)) wrong(folder[f], "the folder " f " has no row in docs/architecture.md")
    if (f != "cli" && !(f in component)) wrong("CMakeLists.txt", "the folder " f " is no glassformer_component")
  }
  for (f in level) if (!(f in folder)) wrong(row[f], "there is no folder " f)
  for (f in component) if (!(f in folder)) wrong(component[f], "there is no folder " f)
  for (pair in includes) {
    split(pair, end, SUBSEP)
    if (!(end[1] in component)) continue
    split("", seen)
    if (!reaches(end[1], end[2], seen)) wrong(component[end[1]], end[1] " includes " end[2] " (" includes[pair] ") but does not name it")
  }
  if (breaches) exit 1
  print rows " folders, " ARGC - 3 " files: no breach"
}
