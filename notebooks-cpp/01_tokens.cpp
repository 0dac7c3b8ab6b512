// %% [markdown]
// # 01 How does text become ids, and what does the vocabulary size cost?
//
// A model reads numbers. Byte-level BPE makes them in two moves: every text is bytes, so 256 tokens can spell anything; then the most frequent neighbours are merged into a
// new token, again and again, until the vocabulary is full. A larger vocabulary makes texts shorter and tables larger. How much of each?
//
// The trap: on a generated corpus, whose words are few, BPE soon has a token for every word, and any result looks good. So the text here is what people wrote: 100 KB of this
// project's documentation as it was on one day, without its programs and tables of numbers, kept in notebooks-cpp/natural.txt.

// %%
#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>

#include "glassformer/data/dataset.hpp"
#include "glassformer/notebook/toy.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"
#include "program.hpp"

using namespace glassformer;

std::string natural_text() {
  auto text = read_text(std::filesystem::path(GLASSFORMER_SOURCE_DIR) / "notebooks-cpp" / "natural.txt");
  if (!text) throw std::runtime_error(text.error());
  return *text;
}

double real(std::size_t n) { return static_cast<double>(n); }

// %% [markdown]
// ## One sentence in five vocabularies
// Nine tenths of the pages train a tokenizer of each size, the last tenth is kept back. With 256 tokens every byte is one; then pieces of words appear, then words with their
// space before them (␣).

// %%
int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    const std::string text = natural_text();
    const std::string_view learnt = std::string_view(text).substr(0, text.size() * 9 / 10), held_out = std::string_view(text).substr(learnt.size());
    nb.show(story::Number{"bytes", "the text", real(text.size()), 0, "bytes"}, exactly);

    const std::vector<Index> sizes = {256, 512, 1024, 2048, 4096};
    std::vector<Tokenizer> tokenizers;
    for (const Index size : sizes) {
      nb.progress(fmt::format("a vocabulary of {}", size));
      tokenizers.push_back(train_bpe(learnt, {.vocab_size = size, .special = {}}));
    }
    const std::string sentence = "The tokenizer reads 12345 naïve bytes 🙂";
    story::Table cuts{"cuts", {"vocabulary", "tokens", "the sentence, cut"}, {}, 0};
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const std::vector<Token> ids = tokenizers[i].encode(sentence);
      std::string cut;
      for (const Token t : ids) {
        std::string piece(tokenizers[i].token_bytes(t));
        if (piece.front() == ' ') piece = "␣" + piece.substr(1);
        const auto byte = static_cast<unsigned char>(piece.front());
        cut += (cut.empty() ? "" : " ") + (piece.size() == 1 && byte >= 0x80 ? fmt::format("{:02X}", byte) : piece);
      }
      cuts.rows.push_back({fmt::format("{}", sizes[i]), real(ids.size()), cut});
    }
    nb.show(cuts, exactly);

    // %% [markdown]
    // ## Nothing is lost
    // Whatever the bytes, whole characters or not, decoding gives back what was encoded. A word that the tokenizer never saw costs more tokens, never an "unknown".

    // %%
    const RandomStream stream = RandomStream{nb.seed()}.at("bytes");
    std::uint64_t drawn = 0;
    Index wrong = 0;
    constexpr Index kTexts = 2000;
    for (Index n = 0; n < kTexts; ++n) {
      std::string bytes;  // noise and pieces of the pages
      for (int part = 0; part < 4; ++part) {
        for (std::uint64_t k = random_below(stream, drawn++, 12); k > 0; --k) bytes += static_cast<char>(random_below(stream, drawn++, 256));
        const auto begin = static_cast<std::size_t>(random_below(stream, drawn++, text.size()));
        bytes += text.substr(begin, static_cast<std::size_t>(random_below(stream, drawn++, 30)));
      }
      for (const Tokenizer& t : tokenizers) wrong += t.decode(t.encode(bytes)) != bytes;
    }
    nb.claim("2,000 texts of noise and pieces of pages come back byte for byte, in each of the five vocabularies", wrong == 0, fmt::format("{} did not", wrong));

    // %% [markdown]
    // ## What a doubling buys
    // Tokens a byte, on the pages that the merges were learnt from and on the pages kept back. Each doubling helps, and each helps less: frequent pairs come first.
    // On generated tales the curve falls further and then stops: a few hundred words are all there is, and when each has its token no pair is left that occurs twice. 100 KB of pages run out as well, but later: they do not
    // fill the last vocabulary, so the last step is no doubling.

    // %%
    // Generated tales, as many bytes. "Tokens there are": merging stops when no pair is left that occurs twice, so a vocabulary may stay smaller.
    const Corpus tales = make_corpus(CorpusKind::stories, static_cast<Index>(text.size()), nb.seed());
    plot::Chart falling;
    falling.title = "Tokens a byte", falling.x_label = "tokens in the vocabulary", falling.y_label = "tokens a byte", falling.x_log = true;
    falling.series = {{"pages learnt from", {}}, {"pages kept back", {}}, {"generated tales (their own merges)", {}}};
    story::Table lengths{"lengths", {"vocabulary", "learnt from", "kept back", "tokens there are", "tales", "theirs"}, {}, 4};
    bool falls = true;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const Tokenizer of_tales = train_bpe(std::string_view(tales.text).substr(0, tales.text.size() * 9 / 10), {.vocab_size = sizes[i], .special = {}});
      const double here = real(tokenizers[i].encode(learnt).size()) / real(learnt.size()), kept = real(tokenizers[i].encode(held_out).size()) / real(held_out.size());
      const double tale = real(of_tales.encode(tales.text).size()) / real(tales.text.size());
      falling.x.push_back(static_cast<double>(sizes[i]));
      const double values[] = {here, kept, tale};
      for (std::size_t s = 0; s < 3; ++s) {
        if (s < 2) falls = falls && (i == 0 ? values[s] == 1 : values[s] < falling.series[s].y.back());
        falling.series[s].y.push_back(values[s]);
      }
      lengths.rows.push_back({fmt::format("{}", sizes[i]), here, kept, fmt::format("{}", tokenizers[i].vocab_size()), tale, fmt::format("{}", of_tales.vocab_size())});
    }
    nb.show(story::Chart{"falling", falling}, exactly);
    nb.show(lengths, exactly);
    nb.claim("one token a byte at 256, and with each larger vocabulary fewer, on the pages learnt from and on those kept back", falls,
             fmt::format("pages kept back: {:.3f}, {:.3f}, {:.3f}, {:.3f}, {:.3f}", falling.series[1].y[0], falling.series[1].y[1], falling.series[1].y[2],
                         falling.series[1].y[3], falling.series[1].y[4]));

    // %% [markdown]
    // ## Who pays for it
    // Merges follow frequency, so what is rare stays in pieces. To be fair, all have five characters: the 30 most frequent five-letter words of the pages, 30 numbers of five
    // digits drawn at random, and 30 first names that the pages do not have. With a space before each, as in running text. Is it the capital that costs? For comparison, the
    // capitalised five-letter words that the pages have three times or more (few, so nothing is claimed of them).

    // %%
    std::map<std::string, Index> words, capitals;
    std::string word;
    for (const char c : text) {
      if (std::isalpha(static_cast<unsigned char>(c))) {
        word += c;
      } else {
        const auto small = [](char x) { return std::islower(static_cast<unsigned char>(x)) != 0; };
        if (word.size() == 5 && std::all_of(word.begin() + 1, word.end(), small)) ++(small(word[0]) ? words : capitals)[word];
        word.clear();
      }
    }
    std::vector<std::pair<Index, std::string>> by_count;
    for (const auto& [w, count] : words) by_count.emplace_back(-count, w);
    std::ranges::sort(by_count);
    std::vector<std::string> common, numbers, names, capitalised;
    for (std::size_t i = 0; i < 30; ++i) common.push_back(by_count.at(i).second);
    for (const auto& [w, count] : capitals) {
      if (count >= 3) capitalised.push_back(w);
    }
    for (std::uint64_t i = 0; i < 30; ++i) numbers.push_back(std::to_string(10'000 + random_below(RandomStream{nb.seed()}.at("numbers"), i, 90'000)));
    for (const char* name : {"Anouk", "Bjorn", "Chike", "Dagny", "Edita", "Fiona", "Gwyneth", "Hamza", "Ifeoma", "Jorge", "Kwame", "Lubos", "Magda", "Nuria", "Oksana", "Pavla",
                             "Quinn", "Rohan", "Sunil", "Tamsin", "Ursul", "Vikas", "Wanda", "Xenia", "Yusuf", "Zofia", "Aisha", "Bilal", "Celia", "Dario", "Emeka", "Freya",
                             "Goran", "Hugo", "Ivana", "Jamal"}) {
      if (std::string_view(name).size() == 5 && text.find(name) == std::string::npos && names.size() < 30) names.push_back(name);
    }
    if (names.size() != 30) throw std::logic_error(fmt::format("expected 30 names that the text does not have, found {}", names.size()));
    plot::Chart who{plot::Chart::Kind::bars, "Tokens for five characters and a space, mean of each group"};
    for (const Index size : sizes) who.names.push_back(fmt::format("vocabulary {}", size));
    const std::vector<std::pair<std::string, const std::vector<std::string>*>> groups = {{"common words", &common}, {"rare names", &names}, {"numbers", &numbers}, {"capitalised words", &capitalised}};
    for (const auto& [name, group] : groups) {
      who.series.push_back({name, {}});
      for (const Tokenizer& t : tokenizers) {
        double sum = 0;
        for (const std::string& w : *group) sum += real(t.encode(" " + w).size());
        who.series.back().y.push_back(sum / real(group->size()));
      }
    }
    nb.show(story::Chart{"who_pays", who}, exactly);
    story::Table examples{"examples", {"word", "its tokens at 2,048"}, {}, 0};
    for (const auto& w : {common[0], common[7], names[0], names[5], numbers[0], numbers[1]}) {
      std::string cut;
      for (const Token t : tokenizers[3].encode(" " + w)) {
        std::string piece(tokenizers[3].token_bytes(t));
        if (piece.front() == ' ') piece = "␣" + piece.substr(1);
        cut += (cut.empty() ? "" : " | ") + piece;
      }
      examples.rows.push_back({w, cut});
    }
    nb.show(examples, exactly);
    const auto at_2048 = [&](std::size_t group) { return who.series[group].y[3]; };
    nb.claim("with 2,048 tokens, numbers and rare names split into at least twice as many tokens as common words of the same length",
             at_2048(1) >= 2 * at_2048(0) && at_2048(2) >= 2 * at_2048(0),
             fmt::format("common words {:.2f}, rare names {:.2f}, numbers {:.2f}", at_2048(0), at_2048(1), at_2048(2)));

    // %% [markdown]
    // This is why models spell numbers oddly, why a name of another language costs more to process, and why two tokenizers' losses *per token* cannot be compared: only
    // bits per **byte** can.
    //
    // ## What it costs to train
    // The same small model on the same pages with four vocabularies. The trap is to give each the same number of *steps*: a step of 64 tokens reads more bytes when
    // tokens are longer. Here each reads the same bytes (within rounding), in the same number of steps, so a larger vocabulary has smaller batches of longer tokens. Its
    // tables are larger: C parameters for each token, exactly.

    // %%
    story::Table training{"training", {"vocabulary", "parameters", "bytes read", "tokens read", "bits per byte", "nats per token", "seconds"}, {}, 3};
    constexpr Index kContext = 64, kWidth = 64, kSteps = 100;
    constexpr double kBytesAStep = 4096;
    std::vector<Index> parameters;
    std::vector<double> read;
    for (std::size_t i = 0; i + 1 < sizes.size(); ++i) {
      const ToyText toy = toy_text(text, tokenizers[i]);
      const double bytes_a_token = real(learnt.size()) / real(toy.train.size());
      const Index batch = static_cast<Index>(std::lround(kBytesAStep / bytes_a_token / kContext));
      const Index steps = static_cast<Index>(std::lround(kSteps * kBytesAStep / (static_cast<double>(batch * kContext) * bytes_a_token)));
      const ModelConfig config = {.vocab = sizes[i], .context = kContext, .layers = 2, .heads = 4, .width = kWidth, .position = Position::rope, .norm = ops::Norm::rms, .mlp = Mlp::swiglu, .bias = false};
      const TrainOptions options = {.steps = steps, .batch = batch, .rate = 5e-3, .min_rate = 5e-4, .warmup = 20, .seed = nb.seed()};
      double bytes = 0;  // counted as the batches go by
      const BatchSource batches = text_batches(toy.train, batch, kContext, nb.seed());
      const auto counted = [&](Index step, Index micro) {
        Batch b = batches(step, micro);
        for (const Token t : b.inputs) bytes += real(toy.tokenizer.token_bytes(t).size());
        return b;
      };
      const ToyRun run = train_toy(nb, fmt::format("vocabulary {}", sizes[i]), config, options, counted);
      const Score score = score_tokens(run.model, toy.tokenizer, toy.val, kContext, nb.exec());
      parameters.push_back(run.model.arena.layout().parameters());
      read.push_back(bytes);
      training.rows.push_back({fmt::format("{}", sizes[i]), fmt::format("{}", parameters.back()), fmt::format("{:.0f}", read.back()), fmt::format("{}", steps * batch * kContext),
                               score.bits_per_byte(), score.loss_nats(), run.seconds});
    }
    nb.show(training, kind_only);
    bool exact_parameters = true;
    for (std::size_t i = 0; i < parameters.size(); ++i) exact_parameters = exact_parameters && parameters[i] == parameters[0] + (sizes[i] - 256) * kWidth;
    nb.claim("each token of the vocabulary costs exactly C = 64 parameters", exact_parameters, fmt::format("{} with 256, {} with 2,048", parameters.front(), parameters.back()));
    const auto [least, most] = std::ranges::minmax(read);
    nb.claim("all four models read the same number of bytes, within 2%", most / least < 1.02, fmt::format("{:.0f} to {:.0f}", least, most));

    // %% [markdown]
    // No optimum is claimed here: with so little text it moves with the size of the model, the context (64 tokens reach further when tokens are longer) and how long one
    // trains. What holds is the exchange: fewer tokens to read and to draw against larger tables and rarer rows in them.
    //
    // ## In an interview
    // *Why subwords?* Bytes make texts long, words make the vocabulary endless and leave holes; BPE lies between and has no unknown word. *How large should a vocabulary be?* Count: a
    // doubling shortens the text a little less each time and doubles the tables; compare in bits per byte at equal bytes read. *Why are models poor at arithmetic and
    // rare names?* Look at how they are cut.
    //
    // Next: `glassformer explain tokenizer` shows each merge with its rank; the page is docs/tokenizer.md.

    // %%
  });
}
