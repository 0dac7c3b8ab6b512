#include "glassformer/sample/generate.hpp"

#include <algorithm>
#include <chrono>
#include <optional>

#include "glassformer/model/adapter.hpp"
#include "glassformer/sample/prompt.hpp"
#include "glassformer/sample/reader.hpp"
#include "sample/draft.hpp"

namespace glassformer {
namespace {

double now_ms() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// One text in the making.
struct Sequence {
  std::vector<Token> ids;               // prompt, then what was drawn
  Vector<float> alone;                  // [V] logits of a pass of its own
  std::span<const float> logits;        // [V] after the last token: those, or a row of the last pass of several
  std::optional<Distribution> instead;  // what the next token is drawn from, when a draft of it was not taken
  RandomStream random;
  bool live = true;
  TextStream stream;
  Generation out;

  Index size() const { return static_cast<Index>(ids.size()); }
  Index drawn() const { return static_cast<Index>(out.ids.size()); }
  void note(std::string sentence) {
    if (sentence.empty() || std::find(out.notes.begin(), out.notes.end(), sentence) != out.notes.end()) return;
    out.notes.push_back(std::move(sentence));
  }
  void finish(const char* why) {
    live = false;
    stream.finish();
    out.text = stream.text();
    out.stopped_by = why;
  }
};

void check_draft(const Tokenizer& tokenizer, const GenerateOptions& o) {
  require(o.draft_tokens > 0, "draft-tokens: expected 1 or more, found {}", o.draft_tokens);
  require(o.use_cache, "draft: expected the KV cache, from which a token that was not taken is cut off again");
  require(o.draft->config.causal, "draft: expected a causal model");
  require(o.draft->config.context > o.draft->prompt.rows,
          "draft: expected a context of more than the {} tokens of its soft prompt, found {}", o.draft->prompt.rows,
          o.draft->config.context);
  require(tokenizer.vocab_size() <= o.draft->config.vocab,
          "draft: the tokenizer has {} tokens and the model that drafts {}: they do not belong together", tokenizer.vocab_size(),
          o.draft->config.vocab);
}

void check(const Decoder<float>& model, const Tokenizer& tokenizer, const GenerateOptions& o, Index prompts) {
  validate(o.sampling);
  require(o.max_tokens >= 0, "max-tokens: expected 0 or more, found {}", o.max_tokens);
  require(o.sinks >= 0, "sinks: expected 0 or more, found {}", o.sinks);
  require(model.config.causal, "generate: expected a causal model: one that sees later tokens cannot write them");
  require(model.config.context > model.prompt.rows, "generate: expected a context of more than the {} tokens of the soft prompt, found {}",
          model.prompt.rows, model.config.context);
  if (o.draft) check_draft(tokenizer, o);
  if (o.mix.size() == 0) return;
  require_shape("mix", o.mix.rows(), o.mix.cols(), prompts, model.adapters);
  require(o.mix.allFinite(), "mix: expected weights that are finite numbers");
  const Index soft = soft_prompt_adapter(model);
  for (Index s = 0; s < prompts && soft >= 0; ++s) {
    const float weight = o.mix(s, soft);
    require(weight == 0 || weight == 1, "mix: expected 0 or 1 for a soft prompt, which is there or not, found {}", weight);
  }
}

ReaderOptions reader_options(const GenerateOptions& o) {
  return {.max_tokens = o.max_tokens,
          .past_context = o.past_context,
          .cache_kind = o.cache_kind,
          .sinks = o.sinks,
          .mix = {o.mix.data(), o.mix.rows(), o.mix.cols()},
          .exec = o.exec,
          .trace = o.trace};
}
// The model that drafts has its own context, and no adapters of the other.
ReaderOptions draft_reader_options(const GenerateOptions& o) {
  return {.max_tokens = o.max_tokens, .cache_kind = o.cache_kind, .sinks = o.sinks, .exec = o.exec};
}

class Generator {
 public:
  Generator(const Decoder<float>& model, const Tokenizer& tokenizer, const GenerateOptions& options)
      : model_(model),
        tokenizer_(tokenizer),
        options_(options),
        random_(RandomStream{options.seed}.at("sample")),
        known_(static_cast<std::size_t>(std::min(model.config.vocab, tokenizer.vocab_size()))),
        bos_(start_token(model.config, tokenizer)),
        eos_(model.config.eos >= 0 ? std::optional(model.config.eos) : tokenizer.eos()),
        drops_space_after_(tokenizer.bos()),
        sampler_(options.sampling),
        reader_(model, reader_options(options)) {
    if (options.draft) drafter_.emplace(*options.draft, draft_reader_options(options), options.sampling, known_);
  }

  void add(std::string_view prompt, std::function<void(std::string_view)> on_text);
  std::vector<Generation> run();

 private:
  Sequence& at(Index s) { return sequences_[static_cast<std::size_t>(s)]; }
  void prefill(Index number);
  bool make_room(Index number);
  void choose(Index number);
  void write(Sequence&, Token);
  void draft(const std::vector<Index>& numbers);
  void read_together(const std::vector<Index>& numbers);
  Index take_drafts(Index number, Index count, ConstMatrixRef<float> logits);

  const Decoder<float>& model_;
  const Tokenizer& tokenizer_;
  const GenerateOptions& options_;
  RandomStream random_;
  std::size_t known_;  // tokens that the tokenizer has
  std::optional<Token> bos_, eos_, drops_space_after_;
  Sampler sampler_;
  Reader reader_;
  std::optional<Drafter> drafter_;
  std::vector<Sequence> sequences_;
  std::vector<Drafter::Task> tasks_;  // of this step: one for each of `texts_`, without a drafter none
  std::vector<Reader::Text> texts_;
};

void Generator::add(std::string_view prompt, std::function<void(std::string_view)> on_text) {
  Sequence s{.ids = {},
             .alone = {},
             .logits = {},
             .instead = {},
             .random = random_.at(options_.first_sequence + static_cast<std::uint64_t>(sequences_.size())),
             .stream = TextStream(options_.stop, std::move(on_text)),
             .out = {}};
  Prompt read = read_prompt(model_.config, tokenizer_, prompt);
  s.ids = s.out.prompt_ids = std::move(read.ids);
  s.out.notes = std::move(read.notes);
  reader_.add(s.size());
  if (drafter_) drafter_->add(s.size());
  sequences_.push_back(std::move(s));
}

// Before the next pass: does the text still fit the context? False when it must end there.
bool Generator::make_room(Index number) {
  Sequence& s = at(number);
  std::string note;
  const bool fits = reader_.make_room(number, s.size(), note);
  s.note(std::move(note));
  if (!fits) s.finish("context");
  return fits;
}

void Generator::prefill(Index number) {
  Sequence& s = at(number);
  const double start = now_ms();
  if (options_.max_tokens == 0) {
    s.finish("length");
  } else if (make_room(number)) {
    reader_.read_alone(number, s.ids, s.alone);
    s.logits = {s.alone.data(), static_cast<std::size_t>(s.alone.size())};
    if (drafter_) drafter_->read_prompt(number, s.ids);
  }
  s.out.prefill_ms = now_ms() - start;
}

// Draws the next token.
void Generator::choose(Index number) {
  Sequence& s = at(number);
  const Distribution& p = s.instead ? *s.instead : sampler_(s.logits.first(known_), s.ids);
  const Token token = draw(p, random_uniform(s.random, s.out.ids.size()));
  s.instead.reset();
  write(s, token);
}

// Puts a token that was drawn to the text, and says what it means for it.
void Generator::write(Sequence& s, Token token) {
  if (token == eos_ || token == bos_) return s.finish("eos");
  const Token pair[2] = {s.ids.back(), token};
  s.ids.push_back(token);
  s.out.ids.push_back(token);
  // After a start token a token may have another text than its own (llama2.c drops a space).
  const bool stops = pair[0] == drops_space_after_ ? s.stream.append(tokenizer_.decode(pair).substr(tokenizer_.decode({pair, 1}).size()))
                                                   : s.stream.append(tokenizer_.token_bytes(token));
  if (stops) return s.finish("stop");
  if (s.drawn() == options_.max_tokens) s.finish("length");
}

// Lets the smaller model go on with these texts: as far as the larger one can read and, where a draft is not taken, forget again.
void Generator::draft(const std::vector<Index>& numbers) {
  for (const Index number : numbers) {
    Sequence& s = at(number);
    const Index room = reader_.retractable(number, s.size());
    if (room == 0 && reader_.slides()) s.note("Past the context nothing is drafted: a cache that slides cannot take back what it forgot.");
    const Index count = std::min({options_.draft_tokens, options_.max_tokens - s.drawn() - 1, room});
    tasks_.push_back({.text = number, .ids = &s.ids, .count = count, .stream = s.random, .drawn = s.drawn()});
  }
  drafter_->propose(tasks_);
  for (Drafter::Task& task : tasks_) {
    if (!task.note.empty()) at(task.text).note(fmt::format("The model that drafts: {}", task.note));
    at(task.text).out.drafted += task.count;
  }
}

// Reads the newest token of each of these texts, and what was drafted after it, in one pass.
void Generator::read_together(const std::vector<Index>& numbers) {
  tasks_.clear(), texts_.clear();
  if (drafter_) draft(numbers);
  for (const Index number : numbers) texts_.push_back({number, at(number).ids});
  const Matrix<float>& logits = reader_.read_together(texts_, false);
  Index row = 0;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const Index drafted = drafter_ ? tasks_[i].count : 0,
                taken = drafted > 0 ? take_drafts(numbers[i], drafted, logits.middleRows(row, drafted)) : 0;
    at(numbers[i]).logits = {logits.row(row + taken).data(), static_cast<std::size_t>(logits.cols())};
    row += drafted + 1;
  }
}

// Takes of the last `count` tokens of the text those that pass, one after another, and cuts off the others. logits [count, V] before each.
Index Generator::take_drafts(Index number, Index count, ConstMatrixRef<float> logits) {
  Sequence& s = at(number);
  const std::vector<Token> drafts(s.ids.end() - count, s.ids.end());
  s.ids.resize(s.ids.size() - drafts.size());
  Index taken = 0;
  while (taken < count && s.live) {
    const Distribution& p = sampler_({logits.row(taken).data(), known_}, s.ids);
    const Token token = drafts[static_cast<std::size_t>(taken)];
    if (!drafter_->accepts(number, taken, token, p, s.random, s.drawn())) {
      s.instead = drafter_->instead(number, taken, p);
      break;
    }
    ++taken;
    write(s, token);
  }
  s.out.accepted += taken;
  reader_.cut(number, s.size());
  drafter_->cut(number, s.size());
  return taken;
}

std::vector<Generation> Generator::run() {
  const Index count = static_cast<Index>(sequences_.size());
  if (options_.use_cache && count > 0) {
    reader_.make_cache_for_all();
    if (drafter_) drafter_->make_cache_for_all();
  }
  for (Index s = 0; s < count; ++s) prefill(s);
  std::vector<Index> read, together;  // in this step
  do {
    const double start = now_ms();
    read.clear(), together.clear();
    for (Index s = 0; s < count; ++s) {
      if (at(s).live) choose(s);
      if (!at(s).live || !make_room(s)) continue;
      read.push_back(s);
      if (reader_.reads_on(s, at(s).size())) {
        together.push_back(s);
      } else {
        reader_.read_alone(s, at(s).ids, at(s).alone);
        at(s).logits = {at(s).alone.data(), static_cast<std::size_t>(at(s).alone.size())};
      }
    }
    if (!together.empty()) read_together(together);
    const double elapsed = now_ms() - start;
    for (const Index s : read) {
      at(s).out.decode_ms += elapsed;
      ++at(s).out.decode_steps;
    }
  } while (!read.empty());
  std::vector<Generation> all;
  for (Sequence& s : sequences_) all.push_back(std::move(s.out));
  return all;
}

}  // namespace

Generation generate(const Decoder<float>& model, const Tokenizer& tokenizer, std::string_view prompt, const GenerateOptions& options) {
  check(model, tokenizer, options, 1);
  Generator generator(model, tokenizer, options);
  generator.add(prompt, options.on_text);
  return std::move(generator.run().front());
}

std::vector<Generation> generate_batch(const Decoder<float>& model, const Tokenizer& tokenizer, const std::vector<std::string>& prompts,
                                       const GenerateOptions& options, const std::function<void(Index, std::string_view)>& on_text) {
  require(!options.on_text, "generate_batch: expected an empty options.on_text: pass the function that also gets the number of the prompt");
  check(model, tokenizer, options, static_cast<Index>(prompts.size()));
  Generator generator(model, tokenizer, options);
  for (std::size_t s = 0; s < prompts.size(); ++s) {
    std::function<void(std::string_view)> show;
    if (on_text) show = [&on_text, s](std::string_view piece) { on_text(static_cast<Index>(s), piece); };
    generator.add(prompts[s], std::move(show));
  }
  return generator.run();
}

}  // namespace glassformer
