#include "program.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cxxopts.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "glassformer/io/save.hpp"
#include "glassformer/notebook/document.hpp"

namespace fs = std::filesystem;
using namespace glassformer;

namespace {

// A sentence at a time: redrawn in place on a terminal, lines elsewhere.
class Progress {
 public:
  explicit Progress(std::string name) : name_(std::move(name)), terminal_(isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (terminal_) fmt::print(stderr, "\r\x1b[K");
  }
  void operator()(std::string_view sentence) const {
    if (terminal_)
      fmt::print(stderr, "\r\x1b[K{}: {:.70}", name_, sentence);
    else
      fmt::print(stderr, "{}: {}\n", name_, sentence);
    std::fflush(stderr);
  }

 private:
  std::string name_;
  bool terminal_;
};

struct Done {
  Notebook notebook;
  NotebookRun run;
};

Done run_once(const std::function<void(Notebook&)>& body, const std::string& name, const NotebookRun& about, std::uint64_t seed, int threads) {
  NotebookOptions options;
  options.seed = seed, options.exec.threads = threads;
  const Progress progress(name);
  options.progress = [&](std::string_view sentence) { progress(sentence); };
  Done done{Notebook(options), about};
  const auto start = std::chrono::steady_clock::now();
  body(done.notebook);
  done.run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return done;
}

nlohmann::ordered_json json_of(const std::string& name, const Done& d) {
  nlohmann::ordered_json claims = nlohmann::ordered_json::array();
  for (const Claim& c : d.notebook.claims()) claims.push_back({{"claim", c.sentence}, {"held", c.held}, {"measured", c.measured}});
  return {{"notebook", name}, {"seed", d.notebook.seed()}, {"seconds", d.run.seconds}, {"claims", std::move(claims)}};
}

// Each claim with how many of the seeds it held for, and what each measured.
int table_of_seeds(const std::string& name, const std::vector<Done>& runs) {
  bool all = true;
  fmt::print("{}\n", name);
  const auto first = runs.front().notebook.claims();
  for (std::size_t c = 0; c < first.size(); ++c) {
    std::size_t held = 0;
    std::string measured;
    for (const Done& d : runs) {
      const Claim claim = d.notebook.claims().at(c);
      held += claim.held;
      measured += fmt::format("      seed {} {} {}\n", d.notebook.seed(), claim.held ? "✓" : "✗", claim.measured);
    }
    all = all && held == runs.size();
    fmt::print("  {}/{}  {}\n{}", held, runs.size(), first[c].sentence, measured);
  }
  for (const Done& d : runs) fmt::print("  seed {} took {:.1f} s\n", d.notebook.seed(), d.run.seconds);
  return all ? 0 : 1;
}

int finish(const std::string& name, const Done& d, const cxxopts::ParseResult& o) {
  int code = 0;
  const auto fail = [&](const std::string& sentence) { fmt::print(stderr, "{}: {}\n", name, sentence), code = 1; };
  if (o.count("out")) {
    const fs::path out = o["out"].as<std::string>();
    const auto text = notebook_ipynb(d.notebook, d.run);
    const auto saved = text ? save_file(out, [&](const fs::path& path) { return write_bytes(path, *text); }) : Expected<void>(tl::unexpected(text.error()));
    if (!saved) fail(saved.error());
  }
  if (o.count("check")) {
    const fs::path committed = o["check"].as<std::string>();
    const auto text = read_bytes(committed);
    if (!text) {
      fail(text.error());
    } else {
      for (const std::string& difference : notebook_differences(d.notebook, d.run, *text, committed.filename().string())) fail(difference);
    }
  }
  for (const Claim& c : d.notebook.claims()) {
    fmt::print("  {} {}\n      {}\n", c.held ? "✓" : "✗", c.sentence, c.measured);
    if (!c.held) fail(fmt::format("expected that {}; found {}", c.sentence, c.measured));
  }
  fmt::print("{}: {:.1f} s, of {:.0f} s that it may take on two cores\n", name, d.run.seconds, d.run.budget_seconds);
  if (o.count("json")) fmt::print("{}\n", json_of(name, d).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  return code;
}

int run(int argc, char** argv, const std::function<void(Notebook&)>& body, const fs::path& file) {
  const std::string name = file.stem().string();
  cxxopts::Options options(name, "Runs the notebook " + file.filename().string() + " and says which of its claims hold.");
  options.add_options()("seed", "of everything that is drawn", cxxopts::value<std::uint64_t>()->default_value("1"))(
      "threads", "processors to use", cxxopts::value<int>()->default_value(std::to_string(available_threads())))(
      "out", "write the executed notebook", cxxopts::value<std::string>(), "FILE.ipynb")(
      "check", "compare with a committed notebook", cxxopts::value<std::string>(), "FILE.ipynb")(
      "seeds", "run with seeds 1 to N and print how often each claim held", cxxopts::value<int>(), "N")(
      "json", "one JSON object on the last line of the output")("help", "this text");
  cxxopts::ParseResult o;
  int threads = 1, seeds = 0;
  std::uint64_t seed = 1;
  try {
    o = options.parse(argc, argv);
    threads = o["threads"].as<int>(), seed = o["seed"].as<std::uint64_t>();
    if (o.count("seeds")) seeds = o["seeds"].as<int>();
    require(o.unmatched().empty(), "expected options only, found {}", o.unmatched().empty() ? "" : o.unmatched().front());
    require(threads >= 1, "--threads: expected 1 or more, found {}", threads);
    require(!o.count("seeds") || seeds >= 1, "--seeds: expected 1 or more, found {}", seeds);
    require(!o.count("seeds") || (!o.count("out") && !o.count("check")), "expected --seeds without --out and --check");
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", name, error.what());
    return 2;
  }
  if (o.count("help")) {
    fmt::print("{}", options.help());
    return 0;
  }
  const auto source = read_bytes(file);
  if (!source) {
    fmt::print(stderr, "{}: {}\n", name, source.error());
    return 1;
  }
  const NotebookRun about{file.filename().string(), *source};
  if (seeds == 0) return finish(name, run_once(body, name, about, seed, threads), o);
  std::vector<Done> runs;
  for (int s = 1; s <= seeds; ++s) runs.push_back(run_once(body, name, about, static_cast<std::uint64_t>(s), threads));
  const int code = table_of_seeds(name, runs);
  if (o.count("json")) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const Done& d : runs) all.push_back(json_of(name, d));
    fmt::print("{}\n", nlohmann::ordered_json{{"notebook", name}, {"runs", std::move(all)}}.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  }
  return code;
}

}  // namespace

int run_notebook(int argc, char** argv, const std::function<void(Notebook&)>& notebook, const char* file) {
  try {
    return run(argc, argv, notebook, file);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", fs::path(file).stem().string(), error.what());
    return 1;
  }
}
