// A notebook's program and its outputs as an executed Jupyter notebook (nbformat 4.5), and the comparison with a committed one.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/core/require.hpp"
#include "glassformer/notebook/notebook.hpp"

namespace glassformer {

struct NotebookCell {
  bool markdown = false;
  std::string text;                    // markdown without its "// ", code without the margin that all its lines share; no empty line at either end
  int first_line = 0, last_line = 0;   // of the program, from 1, the marker included
};

// The cells of a program in jupytext's percent form: "// %% [markdown]" and "// %%", at any indentation, begin one; what stands before the
// first marker is code. An empty cell is left out. Errors: "FILE:LINE: …" for a marker of another kind and a markdown line that is no comment.
Expected<std::vector<NotebookCell>> notebook_cells(std::string_view source, std::string_view file);

struct NotebookRun {
  std::string file;            // of the program, for messages: "03_attention.cpp"
  std::string source;          // its text
  double seconds = 0;          // that it took: shown in the metadata, never compared
  double budget_seconds = 60;  // that it may take on two cores
};

// The executed notebook as JSON text: cells exactly from the program, ids by their number, outputs as text/plain and text/html or
// image/svg+xml, and under metadata.glassformer of each output what the comparison reads. Errors: those of notebook_cells.
Expected<std::string> notebook_ipynb(const Notebook&, const NotebookRun&);

// One sentence for each difference from the committed notebook: "NAME: cell 3, output 1 (cache_bytes): expected …, found …"; a source that
// differs, another seed, text that is no notebook. None: they agree. At most three for one output.
std::vector<std::string> notebook_differences(const Notebook&, const NotebookRun&, std::string_view committed, std::string_view name);

}  // namespace glassformer
