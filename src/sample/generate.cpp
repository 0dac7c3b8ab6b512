#include "glassformer/sample/generate.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>

#include "glassformer/model/adapter.hpp"
#include "glassformer/sample/prompt.hpp"

namespace glassformer {
namespace {

double now_ms() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// One text in the making.
struct Sequence {
  std::span<const Token> soft;  // the soft prompt's ids, or none: read where `begin` is read, and no part of the text
  std::vector<Token> ids;       // prompt, then what was drawn
  Index begin = 0;              // the window that is read again starts here (learned places, or no cache)
  Index read = 0;               // ids before this are in the cache
  Matrix<float> logits;         // [1, V] after the last token
  bool live = true;
  TextStream stream;
  Generation out;

  Index size() const { return static_cast<Index>(ids.size()); }
  void note(std::string sentence) {
    if (std::find(out.notes.begin(), out.notes.end(), sentence) == out.notes.end()) out.notes.push_back(std::move(sentence));
  }
  void finish(const char* why) {
    live = false;
    stream.finish();
    out.text = stream.text();
    out.stopped_by = why;
  }
};

void check(const Decoder<float>& model, const GenerateOptions& o, Index prompts) {
  validate(o.sampling);
  require(o.max_tokens >= 0, "max-tokens: expected 0 or more, found {}", o.max_tokens);
  require(o.sinks >= 0, "sinks: expected 0 or more, found {}", o.sinks);
  require(model.config.causal, "generate: expected a causal model: one that sees later tokens cannot write them");
  require(model.config.context > model.prompt.rows, "generate: expected a context of more than the {} tokens of the soft prompt, found {}",
          model.prompt.rows, model.config.context);
  if (o.mix.size() == 0) return;
  require_shape("mix", o.mix.rows(), o.mix.cols(), prompts, model.adapters);
  require(o.mix.allFinite(), "mix: expected weights that are finite numbers");
  const Index soft = soft_prompt_adapter(model);
  for (Index s = 0; s < prompts && soft >= 0; ++s) {
    const float weight = o.mix(s, soft);
    require(weight == 0 || weight == 1, "mix: expected 0 or 1 for a soft prompt, which is there or not, found {}", weight);
  }
}

class Generator {
 public:
  Generator(const Decoder<float>& model, const Tokenizer& tokenizer, const GenerateOptions& options, Index prompts)
      : model_(model),
        tokenizer_(tokenizer),
        options_(options),
        random_(RandomStream{options.seed}.at("sample")),
        context_(model.config.context) {
    check(model, options, prompts);
    soft_ = soft_prompt_ids(model);
    sinks_ = model.prompt.rows + std::min(options.sinks, (context_ - model.prompt.rows) / 2);
    bos_ = start_token(model.config, tokenizer);
    eos_ = model.config.eos >= 0 ? std::optional(model.config.eos) : tokenizer.eos();
  }

  void add(std::string_view prompt, std::function<void(std::string_view)> on_text);
  std::vector<Generation> run();

 private:
  bool reads_again() const { return model_.config.position == Position::learned || model_.config.position == Position::sinusoidal; }
  void make_cache_for_all();
  bool make_room(Index s);
  void choose(Index s);
  void read_alone(Index s);
  void read_together(const std::vector<Index>& sequences);
  Matrix<float> pass(std::span<const Token> ids, std::span<const Index> starts, std::span<const Index> numbers, const Exec& exec);
  Matrix<float> head(std::span<const Index> numbers, ConstMatrixRef<float> hidden);
  Matrix<float> mix_of(std::span<const Index> numbers) const;
  Sequence& at(Index s) { return sequences_[static_cast<std::size_t>(s)]; }

  const Decoder<float>& model_;
  const Tokenizer& tokenizer_;
  const GenerateOptions& options_;
  RandomStream random_;
  Index context_, sinks_ = 0;
  std::optional<Token> bos_, eos_;
  std::vector<Token> soft_;  // virtual ids of the soft prompt
  std::vector<Sequence> sequences_;
  std::optional<KvCache<float>> cache_;  // slot s belongs to sequence s
  Workspace workspace_;
};

void Generator::add(std::string_view prompt, std::function<void(std::string_view)> on_text) {
  const Index number = static_cast<Index>(sequences_.size());
  const bool softly = model_.prompt && (options_.mix.size() == 0 || options_.mix(number, soft_prompt_adapter(model_)) != 0);
  Sequence s{.soft = softly ? std::span<const Token>(soft_) : std::span<const Token>(),
             .ids = {},
             .logits = {},
             .stream = TextStream(options_.stop, std::move(on_text)),
             .out = {}};
  Prompt read = read_prompt(model_.config, tokenizer_, prompt);
  s.ids = s.out.prompt_ids = std::move(read.ids);
  s.out.notes = std::move(read.notes);
  sequences_.push_back(std::move(s));
}

// As small as the longest text needs. One that slides turns RoPE keys at each step, so it is one only where a text may outgrow the context;
// in 8 bits always, because rounding a key before it is turned is not rounding it after, and a text must not depend on those beside it.
void Generator::make_cache_for_all() {
  Index longest = 1;  // tokens to be read: all but the last drawn
  for (const Sequence& s : sequences_) {
    longest = std::max(longest, static_cast<Index>(s.soft.size()) + s.size() + std::min(options_.max_tokens, context_ + 1) - 1);
  }
  const bool outgrows = longest > context_, may_slide = options_.past_context == PastContext::slide && !reads_again();
  const Index slots = static_cast<Index>(sequences_.size()), capacity = std::min(longest, context_);
  cache_.emplace(make_cache(model_, slots, capacity, may_slide && (outgrows || options_.cache_kind == CacheKind::int8),
                            may_slide && outgrows ? sinks_ : 0, options_.cache_kind));
}

// Before the next pass: does the text still fit the context? False when it must end there.
bool Generator::make_room(Index number) {
  Sequence& s = at(number);
  const Index room = context_ - static_cast<Index>(s.soft.size());  // for the text
  if (s.size() - s.begin <= room) return true;
  const std::string context = fmt::format("the context of {} tokens{}", context_,
                                          s.soft.empty() ? "" : fmt::format(", {} of them the soft prompt's", s.soft.size()));
  if (options_.past_context == PastContext::stop) {
    if (s.out.ids.empty()) s.note(fmt::format("The prompt has {} tokens, too many for {}: nothing was written.", s.size(), context));
    s.finish("context");
    return false;
  }
  if (reads_again()) {
    const Index half = std::max<Index>(1, room / 2);
    s.begin = s.read = s.size() - half;
    if (cache_) cache_->truncate(number, 0);
    s.note(fmt::format("Past {}: {} positions cannot move, so the last {} tokens are read afresh each time it is full.", context,
                       choice_name(model_.config.position), half));
  } else if (cache_) {
    s.note(fmt::format("Past {}: the cache slides, keeping the first {}.", context, sinks_));
  } else {
    s.begin = s.size() - room;
    s.note(fmt::format("Past {}: the last {} are read for each new one.", context, room));
  }
  return true;
}

// Draws the next token from s.logits and says what it means for the text.
void Generator::choose(Index number) {
  Sequence& s = at(number);
  const auto known = static_cast<std::size_t>(std::min(model_.config.vocab, tokenizer_.vocab_size()));
  const Distribution distribution = sampling_distribution({s.logits.data(), known}, s.ids, options_.sampling);
  const RandomStream stream = random_.at(options_.first_sequence + static_cast<std::uint64_t>(number));
  const Token token = draw(distribution, random_uniform(stream, s.out.ids.size()));
  if (token == eos_ || token == bos_) return s.finish("eos");

  // The token's text may depend on the one before (llama2.c drops a space after the start token).
  const Token pair[2] = {s.ids.back(), token};
  const std::string piece = tokenizer_.decode(pair).substr(tokenizer_.decode({pair, 1}).size());
  s.ids.push_back(token);
  s.out.ids.push_back(token);
  if (s.stream.append(piece)) return s.finish("stop");
  if (static_cast<Index>(s.out.ids.size()) == options_.max_tokens) s.finish("length");
}

// The rows of the mix of these texts, one for each sequence of a pass; empty without a mix.
Matrix<float> Generator::mix_of(std::span<const Index> numbers) const {
  Matrix<float> mix(options_.mix.size() > 0 ? static_cast<Index>(numbers.size()) : 0, options_.mix.cols());
  for (Index i = 0; i < mix.rows(); ++i) mix.row(i) = options_.mix.row(numbers[static_cast<std::size_t>(i)]);
  return mix;
}

// hidden [N, C] of new tokens of these texts.
Matrix<float> Generator::pass(std::span<const Token> ids, std::span<const Index> starts, std::span<const Index> numbers, const Exec& exec) {
  const Matrix<float> mix = mix_of(numbers);
  Pass<float> pass;
  pass.exec = exec;
  pass.starts = starts;
  pass.cache = cache_ ? &*cache_ : nullptr;
  pass.slots = numbers;
  if (mix.size() > 0) pass.mix = {mix.data(), mix.rows(), mix.cols()};
  pass.trace = options_.trace;
  pass.workspace = &workspace_;
  Matrix<float> hidden(static_cast<Index>(ids.size()), model_.config.width);
  decoder_forward(model_, pass, ids, hidden);
  return hidden;
}

// logits [n, V] of one row of hidden for each of these texts.
Matrix<float> Generator::head(std::span<const Index> numbers, ConstMatrixRef<float> hidden) {
  const Matrix<float> mix = mix_of(numbers);
  Matrix<float> logits(hidden.rows(), model_.config.vocab);
  std::vector<Index> starts(static_cast<std::size_t>(hidden.rows()) + 1);
  std::iota(starts.begin(), starts.end(), Index(0));
  Pass<float> pass;
  pass.exec = options_.exec;
  pass.exec.row_exact = true;
  pass.starts = starts;
  if (mix.size() > 0) pass.mix = {mix.data(), mix.rows(), mix.cols()};
  pass.trace = options_.trace;
  pass.workspace = &workspace_;
  decoder_logits(model_, pass, hidden, logits);
  return logits;
}

// Reads what is new of one text (all of its window without the cache, the soft prompt before it) in as few passes as the cache allows.
void Generator::read_alone(Index number) {
  Sequence& s = at(number);
  Matrix<float> hidden;
  Index next = cache_ ? s.read : s.begin;
  while (next < s.size()) {
    const bool from_start = !cache_ || cache_->length(number) == 0;
    std::vector<Token> ids;
    if (from_start) ids.assign(s.soft.begin(), s.soft.end());
    const Index fits = from_start ? context_ - static_cast<Index>(s.soft.size()) : std::max<Index>(1, (context_ - sinks_) / 8);
    const Index count = std::min(s.size() - next, fits);
    ids.insert(ids.end(), s.ids.begin() + next, s.ids.begin() + next + count);
    const Index starts[2] = {0, static_cast<Index>(ids.size())};
    hidden = pass(ids, starts, {&number, 1}, options_.exec);
    next += count;
  }
  s.read = next;
  s.logits = head({&number, 1}, hidden.bottomRows(1));
}

// Reads the newest token of each of these texts in one pass.
void Generator::read_together(const std::vector<Index>& numbers) {
  std::vector<Token> ids;
  std::vector<Index> starts{0};
  for (const Index s : numbers) {
    ids.push_back(at(s).ids.back());
    starts.push_back(static_cast<Index>(ids.size()));
  }
  Exec exec = options_.exec;
  exec.row_exact = true;  // one order of summation a row: the same bits alone and in company
  const Matrix<float> logits = head(numbers, pass(ids, starts, numbers, exec));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    at(numbers[i]).read = at(numbers[i]).size();
    at(numbers[i]).logits = logits.row(static_cast<Index>(i));
  }
}

std::vector<Generation> Generator::run() {
  const Index count = static_cast<Index>(sequences_.size());
  if (options_.use_cache && count > 0) make_cache_for_all();
  for (Index s = 0; s < count; ++s) {
    const double start = now_ms();
    if (options_.max_tokens == 0) {
      at(s).finish("length");
    } else if (make_room(s)) {
      read_alone(s);
    }
    at(s).out.prefill_ms = now_ms() - start;
  }
  const auto live = [](const Sequence& s) { return s.live; };
  while (std::any_of(sequences_.begin(), sequences_.end(), live)) {
    const double start = now_ms();
    std::vector<Index> together;
    for (Index s = 0; s < count; ++s) {
      if (at(s).live) choose(s);
      if (!at(s).live || !make_room(s)) continue;
      if (cache_ && at(s).read + 1 == at(s).size()) {
        together.push_back(s);
      } else {
        read_alone(s);
      }
    }
    if (!together.empty()) read_together(together);
    const double elapsed = now_ms() - start;
    for (Sequence& s : sequences_) {
      if (!s.live) continue;
      s.out.decode_ms += elapsed;
      ++s.out.decode_steps;
    }
  }
  std::vector<Generation> all;
  for (Sequence& s : sequences_) all.push_back(std::move(s.out));
  return all;
}

}  // namespace

Generation generate(const Decoder<float>& model, const Tokenizer& tokenizer, std::string_view prompt, const GenerateOptions& options) {
  Generator generator(model, tokenizer, options, 1);
  generator.add(prompt, options.on_text);
  return std::move(generator.run().front());
}

std::vector<Generation> generate_batch(const Decoder<float>& model, const Tokenizer& tokenizer, const std::vector<std::string>& prompts,
                                       const GenerateOptions& options, const std::function<void(Index, std::string_view)>& on_text) {
  require(!options.on_text, "generate_batch: expected an empty options.on_text: pass the function that also gets the number of the prompt");
  Generator generator(model, tokenizer, options, static_cast<Index>(prompts.size()));
  for (std::size_t s = 0; s < prompts.size(); ++s) {
    std::function<void(std::string_view)> show;
    if (on_text) show = [&on_text, s](std::string_view piece) { on_text(static_cast<Index>(s), piece); };
    generator.add(prompts[s], std::move(show));
  }
  return generator.run();
}

}  // namespace glassformer
