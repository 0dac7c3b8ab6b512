// The side of a notebook that parses options, prints and exits; what it shows is glassformer/notebook's.
#pragma once
#include <functional>

#include "glassformer/notebook/notebook.hpp"

// Runs the notebook and does what the command line asks:
//   NN_topic [--seed N] [--threads N] [--out FILE.ipynb] [--check FILE.ipynb] [--seeds N] [--json]
// `file` is the program's own source. The exit code: 0 all claims hold (and nothing differs), 1 not, 2 wrong usage.
int run_notebook(int argc, char** argv, const std::function<void(glassformer::Notebook&)>& notebook, const char* file = __builtin_FILE());
