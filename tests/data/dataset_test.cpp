#include "glassformer/data/dataset.hpp"

#include <doctest/doctest.h>

#include <map>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "glassformer/data/corpus.hpp"

using namespace glassformer;

namespace {

std::vector<Token> counting(Index n) {
  std::vector<Token> ids(static_cast<std::size_t>(n));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

using Tokens = std::vector<Token>;
using Starts = std::vector<Index>;

}  // namespace

TEST_CASE("read_text: any bytes, or one clear sentence") {
  const auto folder = std::filesystem::temp_directory_path() / "glassformer_test_data";
  std::filesystem::create_directories(folder);
  const std::string bytes("a\0\xff\r\n", 5);
  std::ofstream(folder / "bytes", std::ios::binary) << bytes;
  std::ofstream(folder / "empty").flush();
  CHECK(read_text(folder / "bytes").value() == bytes);
  CHECK(read_text(folder / "empty").error() == (folder / "empty").string() + ": expected some text, found an empty file");
  CHECK(read_text(folder).error() == folder.string() + ": expected a text file, found a directory");
  CHECK(read_text(folder / "none").error() == (folder / "none").string() + ": expected a text file, found nothing there");
  CHECK(read_text(folder / "bytes" / "below").has_value() == false);
  std::filesystem::permissions(folder / "bytes", std::filesystem::perms::none);
  if (!std::ifstream(folder / "bytes"))  // root reads everything
    CHECK(read_text(folder / "bytes").error() ==
          (folder / "bytes").string() + ": expected a readable text file, found that it cannot be opened (Permission denied)");
  std::filesystem::permissions(folder / "bytes", std::filesystem::perms::owner_all);
  std::filesystem::remove_all(folder);
}

TEST_CASE("split_tokens: the first nine tenths train") {
  const TokenSplit split = split_tokens(counting(1115394));  // tinyshakespeare's characters; nanoGPT: 1,003,854 and 111,540
  CHECK(split.train.size() == 1003854);
  CHECK(split.val.size() == 111540);
  CHECK(split.val.front() == 1003854);
  CHECK(split_tokens(counting(5), 0).val.empty());
  CHECK_THROWS_AS(split_tokens(counting(5), 1.0), std::invalid_argument);
  CHECK_THROWS_AS(split_tokens(counting(5), std::nan("")), std::invalid_argument);
}

TEST_CASE("random_batch: windows by counter, each offset equally likely") {
  const auto ids = counting(11);
  const RandomStream stream{5, 9};
  std::vector<int> hits(8, 0);
  for (std::uint64_t step = 0; step < 2000; ++step) {
    const Batch batch = random_batch(ids, 4, 3, stream, step);
    REQUIRE(batch.starts == Starts{0, 3, 6, 9, 12});
    for (std::size_t i = 0; i < 12; ++i) REQUIRE(batch.targets[i] == batch.inputs[i] + 1);
    for (std::size_t row = 0; row < 4; ++row) {
      REQUIRE(batch.inputs[3 * row + 2] == batch.inputs[3 * row] + 2);
      ++hits[static_cast<std::size_t>(batch.inputs[3 * row])];
    }
  }
  for (const int h : hits) CHECK(h == doctest::Approx(1000).epsilon(0.12));  // 4 standard deviations
  CHECK(random_batch(ids, 4, 3, stream, 7).inputs == random_batch(ids, 4, 3, stream, 7).inputs);
  CHECK(random_batch(ids, 4, 3, stream, 7).inputs != random_batch(ids, 4, 3, stream, 8).inputs);
  // A row does not depend on how many rows there are: micro-batches read what one large batch reads.
  CHECK(random_batch(ids, 1, 3, stream, 7).inputs[0] == random_batch(ids, 4, 3, stream, 7).inputs[0]);
  CHECK(random_batch(counting(4), 1, 3, stream, 0).targets == Tokens{1, 2, 3});
  CHECK_THROWS_WITH(random_batch(counting(3), 1, 3, stream, 0), "random_batch: a context of 3 needs at least 4 tokens of text, found 3");
  CHECK_THROWS_AS(random_batch(ids, 0, 3, stream, 0), std::invalid_argument);
  CHECK_THROWS_AS(random_batch(ids, 1, 0, stream, 0), std::invalid_argument);
}

TEST_CASE("whole_split: every token but the first is the target once, the last window is shorter") {
  const auto batches = whole_split(counting(12), 3, 2);
  REQUIRE(batches.size() == 2);
  CHECK(batches[0].inputs == Tokens{0, 1, 2, 3, 4, 5});
  CHECK(batches[0].starts == Starts{0, 3, 6});
  CHECK(batches[1].inputs == Tokens{6, 7, 8, 9, 10});
  CHECK(batches[1].targets == Tokens{7, 8, 9, 10, 11});
  CHECK(batches[1].starts == Starts{0, 3, 5});
  CHECK(whole_split(counting(7), 3, 2).size() == 1);  // 6 targets: two whole windows and nothing over
  CHECK(whole_split(counting(2), 100, 1)[0].scored() == 1);
  CHECK_THROWS_WITH(whole_split(counting(1), 3, 2), "whole_split: expected at least 2 tokens, found 1");
}

TEST_CASE("with a document separator, every sequence is a document or a piece of one, from its start") {
  const Tokens ids = {9, 1, 2, 9, 3, 9, 4, 5, 6, 7};
  const auto batches = whole_split(ids, 3, 4, 9);
  REQUIRE(batches.size() == 1);
  CHECK(batches[0].starts == Starts{0, 3, 5, 8, 9});  // the last document is cut: 9 4 5 | 6
  CHECK(batches[0].inputs == Tokens{9, 1, 2, 9, 3, 9, 4, 5, 6});
  CHECK(batches[0].targets == Tokens{1, 2, 9, 3, 9, 4, 5, 6, 7});
  CHECK(whole_split(ids, 3, 2, 9).size() == 2);
  std::map<Tokens, int> seen;
  for (std::uint64_t step = 0; step < 900; ++step) {
    const Batch random = random_batch(ids, 1, 3, RandomStream{1, 1}, step, 9);
    CHECK(random.starts.back() == static_cast<Index>(random.inputs.size()));
    ++seen[random.inputs];
  }
  // A sequence is drawn as often as it has tokens: 3, 2, 3 and 1 of 9.
  CHECK(seen.size() == 4);
  CHECK(seen[{9, 1, 2}] == doctest::Approx(300).epsilon(0.2));
  CHECK(seen[{9, 3}] == doctest::Approx(200).epsilon(0.2));
  CHECK(seen[{9, 4, 5}] == doctest::Approx(300).epsilon(0.2));
  CHECK(seen[{6}] == doctest::Approx(100).epsilon(0.3));
}

TEST_CASE("pack_examples: only answers are scored") {
  const std::vector<Example> examples = {{{1, 2, 3}, {4, 5}}, {{6}, {7}}};
  const Batch batch = pack_examples(examples, 8);
  CHECK(batch.inputs == Tokens{1, 2, 3, 4, 6});
  CHECK(batch.targets == Tokens{-1, -1, 4, 5, 7});
  CHECK(batch.starts == Starts{0, 4, 5});
  CHECK(batch.scored() == 3);
  CHECK(batch.sequences() == 2);
  const Batch cut = pack_examples(std::vector<Example>{{{1, 2, 3}, {4, 5}}}, 3);  // the oldest of the prompt goes
  CHECK(cut.inputs == Tokens{2, 3, 4});
  CHECK(cut.targets == Tokens{-1, 4, 5});
  CHECK_THROWS_WITH(pack_examples(std::vector<Example>{{{1}, {2, 3, 4}}}, 2),
                    "pack_examples: the answer of example 0 has 3 tokens, more than the context of 2");
  CHECK_THROWS_AS(pack_examples(std::vector<Example>{{{}, {2}}}, 2), std::invalid_argument);
  CHECK_THROWS_AS(pack_examples(std::vector<Example>{{{1}, {}}}, 2), std::invalid_argument);
  CHECK_THROWS_AS(pack_examples(std::vector<Example>{}, 2), std::invalid_argument);
}

TEST_CASE("prompts_and_answers: the dialogue so far, and the agent's line") {
  const std::string text = "Customer: Hi.\nAgent: Yes?\nCustomer: Bye.\nAgent: Bye.\n\nCustomer: Agent: me?\nAgent: No.";
  const auto pairs = prompts_and_answers(text);
  REQUIRE(pairs.size() == 3);
  CHECK(pairs[0] == std::pair<std::string, std::string>("Customer: Hi.\nAgent:", " Yes?\n"));
  CHECK(pairs[1] == std::pair<std::string, std::string>("Customer: Hi.\nAgent: Yes?\nCustomer: Bye.\nAgent:", " Bye.\n"));
  CHECK(pairs[2] == std::pair<std::string, std::string>("Customer: Agent: me?\nAgent:", " No."));
  CHECK(prompts_and_answers("").empty());
  CHECK(prompts_and_answers("Customer: alone\n").empty());
  CHECK(prompts_and_answers("Agent:").empty());
  const Corpus corpus = make_corpus(CorpusKind::support, 20000, 1);
  const auto all = prompts_and_answers(corpus.text);
  CHECK(all.size() == 2 * corpus.documents.size());
  for (std::size_t d = 0; d < corpus.documents.size(); ++d) {
    const std::string whole = all[2 * d + 1].first + all[2 * d + 1].second;
    CHECK(corpus.text.substr(static_cast<std::size_t>(corpus.documents[d]), whole.size()) == whole);
  }
}
