// demo: the whole story. It runs the very commands that a user would type, shows each, and speaks between them.
#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <optional>

#include "cli/command.hpp"
#include "cli/explain.hpp"
#include "cli/json_line.hpp"
#include "cli/options.hpp"
#include "cli/recipes.hpp"
#include "cli/terminal.hpp"
#include "cli/text_source.hpp"
#include "glassformer/data/corpus.hpp"
#include "glassformer/explain/attention.hpp"
#include "glassformer/io/adapter_directory.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/sample/generate.hpp"
#include "glassformer/score/score.hpp"

namespace glassformer::cli {
namespace {

namespace fs = std::filesystem;
constexpr Index kVocabulary = 1024;

Options declare() {
  Options o("demo", "The whole story in about two minutes: a corpus, a tokenizer, a decoder, its text, the KV cache, an adapter.");
  o.path("out", "DIR", "where the corpus, the models and the adapter are left (default glassformer-demo)");
  o.integer("steps", recipe("stories", true).steps, 10, "steps of training");
  o.integer("lora-steps", 450, 10, "steps of adapting");
  o.common(kSeed | kThreads | kJson);
  o.example("glassformer demo");
  return o;
}

class Demo {
 public:
  explicit Demo(const Options& o)
      : o_(o), out_(o.given("out") ? o.text("out") : "glassformer-demo"), colour_(terminal(stdout).colour), exec_(o.exec()) {}

  JsonLine tell() {
    corpus();
    tokenizer();
    before();
    train();
    after();
    attention();
    cache();
    adapt();
    farewell();
    return json_;
  }

 private:
  void chapter(int number, const std::string& title, const std::string& text) {
    const std::string heading = fmt::format("{}. {}", number, title);
    print_output(colour_ ? fmt::format("\n\033[1m{}\033[0m\n{}\n", heading, text) : fmt::format("\n{}\n{}\n", heading, text));
    flush_output();
  }

  // Runs a command of this program, as it is typed, and goes on when it has done its work.
  void run(int (*command)(Arguments), const std::string& name, const std::vector<std::string>& arguments) {
    std::string line = fmt::format("$ glassformer {}", name);
    for (const std::string& a : arguments) line += a.find(' ') == std::string::npos ? fmt::format(" {}", a) : fmt::format(" \"{}\"", a);
    print_output(line + "\n");
    flush_output();
    if (const int code = command(arguments); code != 0) throw Failure(fmt::format("demo: {} ended with exit code {}", name, code));
    flush_output();
  }

  std::string path(const std::string& name) const { return (fs::path(out_) / name).string(); }
  std::string number(Index n) const { return std::to_string(n); }

  void corpus() {
    chapter(1, "A text whose entropy is known",
            "Short tales drawn from a small grammar. Every choice has a known probability, so we know how well the best possible\n"
            "model could do. The last sentences of a tale repeat what the first ones introduced: reading five words back is not enough.");
    std::error_code error;
    fs::create_directories(out_, error);
    if (error) throw Failure(fmt::format("{}: could not be made: {}", out_, error.message()));
    run(corpus_command, "corpus", {"--kind", "stories", "--bytes", "4M", "--seed", number(seed()), "--out", path("stories.txt")});
    const Corpus stories = make_corpus(CorpusKind::stories, 600, seed());
    print_output(fmt::format("\n{}", stories.text.substr(0, static_cast<std::size_t>(stories.documents.size() > 1 ? stories.documents[1] : 600))));
  }

  void tokenizer() {
    chapter(2, "Text becomes tokens",
            fmt::format("Byte-level BPE begins with 256 bytes and joins the most frequent neighbours, again and again, up to {} tokens.", kVocabulary));
    const Corpus text = make_corpus(CorpusKind::stories, 4 << 20, seed());
    BpeOptions options;
    options.vocab_size = kVocabulary;
    options.on_merge = [](const Merge& m) {
      constexpr std::array<Index, 9> kShown = {0, 1, 2, 3, 10, 30, 60, 120, 240};
      if (std::ranges::find(kShown, m.rank) == kShown.end()) return;
      const auto quoted = [](const std::string& bytes) { return fmt::format("'{}'", bytes); };
      print_output(fmt::format("  merge {:>3}: {:>8} + {:<8} -> {:<12} {:>8} times\n", m.rank + 1, quoted(m.left_bytes), quoted(m.right_bytes), quoted(m.bytes),
                               grouped(m.count)));
    };
    tokenizer_ = train_bpe(text.text, options);
    checked(save_file(path("tokenizer.json"), [&](const fs::path& file) { return write_bytes(file, tokenizer_json(*tokenizer_)); }));
    const AgreementItem item = agreement_items(1, seed())[0];
    question_ = item.prefix;
    const std::string sentence = item.prefix.substr(0, item.prefix.find('.') + 1);
    std::string pieces;
    for (const Token t : tokenizer_->encode(sentence)) pieces += fmt::format("{}{}", pieces.empty() ? "" : "|", tokenizer_->token_bytes(t));
    print_output(fmt::format("\n  {}\n", pieces));
  }

  std::string sample(const Decoder<float>& model, const std::string& prompt, Index tokens) const {
    GenerateOptions g;
    g.sampling.temperature = 0.7;
    g.max_tokens = tokens;
    g.seed = seed();
    g.exec = exec_;
    return prompt + valid_utf8(generate(model, *tokenizer_, prompt, g).text);
  }

  void before() {
    chapter(3, "A decoder with random weights", "It writes noise: every token is about as likely as any other.");
    ModelConfig config = checked(model_preset("stories"));
    config.vocab = tokenizer_->vocab_size();
    Decoder<float> model = make_decoder<float>(config);
    initialize(model, seed());
    print_output(fmt::format("  {}\n", sample(model, "One", 40)));
  }

  void train() {
    chapter(4, "Training", "Forward, loss, backward by hand, one step of Muon and AdamW, and again. Watch the distance to the source shrink.");
    run(train_command, "train",
        {"--corpus", "stories", "--tokenizer", path("tokenizer.json"),
         "--preset", "stories", "--muon", "--steps", number(o_.integer("steps")), "--eval-every", number(std::max<Index>(1, o_.integer("steps") / 4)), "--seed",
         number(seed()), "--threads", number(exec_.threads), "--out", path("model"), "--overwrite"});
  }

  void after() {
    ModelFiles files = checked(load_model(path("model")));
    model_ = std::move(files.decoder);
    const std::vector<AgreementItem> items = agreement_items(200, seed());
    const Score score = held_out(CorpusKind::stories, seed() + 1000);
    const double floor = source_bits_per_byte(CorpusKind::stories), agreement = agreement_accuracy(*model_, *tokenizer_, items, exec_);
    chapter(5, "The same decoder, trained", "");
    print_output(fmt::format("  {}\n\n", sample(*model_, items[0].prefix.substr(0, items[0].prefix.find('.') + 1), 110)));
    print_output(fmt::format("On tales it has never seen: {:.3f} bits per byte; the source has {:.3f}, so {:.3f} above the best possible.\n"
                             "Asked for a word that a tale last mentioned at least three sentences before, it is right {:.1f}% of the time.\n",
                             score.bits_per_byte(), floor, score.bits_per_byte() - floor, 100 * agreement));
    json_.add("bits_per_byte", score.bits_per_byte()).add("source_bits_per_byte", floor).add("excess_bits_per_byte", score.bits_per_byte() - floor);
    json_.add("agreement_accuracy", agreement).add("parameters", model_->arena.layout().parameters());
  }

  Score held_out(CorpusKind kind, std::uint64_t other_seed) const {
    Corpus corpus = make_corpus(kind, 100000, other_seed);
    TextSource source;
    source.text = std::move(corpus.text), source.documents = std::move(corpus.documents);
    return score_tokens(*model_, *tokenizer_, tokens_to_score(*tokenizer_, source, model_->config), model_->config.context, exec_);
  }

  // The head that looks furthest back on average, read on the beginning of a tale.
  void attention() {
    chapter(6, "Where a head looks", "");
    const std::string text = question_.substr(0, question_.find('.', question_.find('.') + 1) + 1);
    AttentionSteps best;
    double furthest = -1;
    for (Index layer = 0; layer < model_->config.layers; ++layer) {
      for (Index head = 0; head < model_->config.heads; ++head) {
        AttentionSteps steps = explain_attention(*model_, *tokenizer_, text, {layer, head, -1, exec_});
        double distance = 0;
        for (Index i = 1; i < steps.pattern.rows(); ++i) {
          for (Index j = 1; j < i; ++j) distance += steps.pattern(i, j) * static_cast<double>(i - j);  // the first token is where idle heads rest
        }
        if (distance > furthest) furthest = distance, best = std::move(steps);
      }
    }
    print_output(fmt::format("Layer {}, head {}: each row is a token, each column a token that it may look at; rows sum to one.\n\n", best.layer, best.head));
    story::Picture pattern = attention_picture(best);
    pattern.max_rows = 20;
    print_output(story_text(pattern, colour_of_output(), 80, "   "));
    print_output(fmt::format("\nEvery number behind it: glassformer explain attention --model {} --layer {} --head {} --prompt \"…\"\n", path("model"), best.layer, best.head));
  }

  void cache() {
    chapter(7, "The KV cache", "Without it, every new token reads the whole text again. With it, one row.");
    GenerateOptions g;
    g.sampling.temperature = 0;
    g.max_tokens = model_->config.context - 32;
    g.exec = exec_;
    const Generation with = generate(*model_, *tokenizer_, "One", g);
    g.use_cache = false;
    const Generation without = generate(*model_, *tokenizer_, "One", g);
    const double ratio = with.tokens_per_s() / without.tokens_per_s();
    print_output(fmt::format("  with cache    {:>8.0f} tokens/s\n  without       {:>8.0f} tokens/s\n  {:.1f} times as fast over {} tokens; the text is {}.\n", with.tokens_per_s(),
                             without.tokens_per_s(), ratio, with.ids.size(), with.ids == without.ids ? "the same" : "not the same"));
    json_.add("cache_speed_ratio", ratio).add("cache_same_text", with.ids == without.ids);
  }

  void adapt() {
    chapter(8, "Adapting it with LoRA",
            "The model knows tales. Dialogues of a customer service are another language to it. LoRA leaves every weight as it is and\n"
            "trains a low-rank change beside each linear layer.");
    const std::string prompt = "Customer:";
    const double before = held_out(CorpusKind::support, seed() + 2000).bits_per_byte();
    print_output(fmt::format("  before: {}\n\n", sample(*model_, prompt, 40)));
    run(lora_command, "lora",
        {"train", "--model", path("model"), "--corpus", "support", "--corpus-bytes", "1M", "--rank", "8", "--steps", number(o_.integer("lora-steps")), "--rate", "1e-2", "--batch", "8",
         "--eval-every", number(std::max<Index>(1, o_.integer("lora-steps") / 2)), "--val-fraction", "0.03", "--seed", number(seed()), "--threads", number(exec_.threads), "--out",
         path("support"), "--overwrite"});
    const AdapterFiles files = checked(load_adapter(path("support"), *model_));
    attach(*model_, files.adapter);
    const double after = held_out(CorpusKind::support, seed() + 2000).bits_per_byte();
    const double share = static_cast<double>(files.adapter.arena.layout().parameters()) / static_cast<double>(model_->arena.layout().parameters());
    print_output(fmt::format("\n  after: {}\n\n", sample(*model_, prompt, 90)));
    print_output(fmt::format("Bits per byte on dialogues: {:.2f} before, {:.2f} after; the source has {:.2f}. Trained: {} numbers, {:.1f}% of the model's.\n", before, after,
                             source_bits_per_byte(CorpusKind::support), grouped(files.adapter.arena.layout().parameters()), 100 * share));
    json_.add("support_bits_per_byte_before", before).add("support_bits_per_byte_after", after).add("adapter_share", share);
  }

  void farewell() {
    chapter(9, "Yours now",
            fmt::format("  glassformer sample --model {0} --prompt \"One\"\n"
                        "  glassformer sample --model {0} --adapter {1} --prompt \"Customer:\"\n"
                        "  glassformer explain attention\n"
                        "  glassformer gradcheck\n"
                        "  glassformer train --data YOUR.txt --out mine",
                        path("model"), path("support")));
  }

  std::uint64_t seed() const { return o_.seed(); }

  const Options& o_;
  std::string out_;
  bool colour_;
  Exec exec_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<Decoder<float>> model_;
  std::string question_;
  JsonLine json_;
};

}  // namespace

int demo_command(Arguments arguments) {
  Options o = declare();
  if (!o.parse(arguments)) return 0;
  const auto start = std::chrono::steady_clock::now();
  JsonLine json = Demo(o).tell();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  print_output(fmt::format("\nThat took {}.\n", duration(seconds)));
  if (o.json()) json.add("seconds", seconds).print();
  return 0;
}

}  // namespace glassformer::cli
