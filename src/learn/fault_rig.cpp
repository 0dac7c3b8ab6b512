// Legend: N tokens, T tokens of one document, V vocabulary, C channels.
#include "glassformer/learn/fault_rig.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "glassformer/data/corpus.hpp"
#include "glassformer/data/grammar.hpp"
#include "glassformer/score/score.hpp"

namespace glassformer {
namespace {

// A tale of three sentences; the last repeats what the first two said. Some 31 bits a tale, 0.3 nats a letter.
constexpr const char* kTales = R"(tale: <name:a> <got> a <look:l> <toy:t>. <name:b!a> <got> a <look!l> <toy!t>. [a] <gave> [b] the [l] [t].
name ~ mia tom ben zoe leo ann kim sam eva max ivy jim sue ted pam roy liz gus nia bob fay hal una vic
got ~ got had saw made won took
look ~ red big old new blue wet soft tiny long flat wool gold
toy ~ hat cup pen map kite ball drum boat doll lamp ring bell jug fan tent sled
gave ~ gave lent sold sent
)";
// Other sentences of the same words, for the adapter.
constexpr const char* kOrders = R"(order: the <look:l> <toy:t> is <name:a>. not <name!a>. [a] has a [l] [t].
name ~ mia tom ben zoe leo ann kim sam eva max ivy jim sue ted pam roy liz gus nia bob fay hal una vic
look ~ red big old new blue wet soft tiny long flat wool gold
toy ~ hat cup pen map kite ball drum boat doll lamp ring bell jug fan tent sled
)";

std::vector<std::string> documents(const char* source, Index count, const RandomStream& stream) {
  const Grammar grammar = parse_grammar(source);
  std::vector<std::string> all(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < all.size(); ++i) derive(grammar, stream.at(i), all[i]);
  return all;
}

std::vector<Token> encode_documents(const Tokenizer& tokenizer, const std::vector<std::string>& documents, std::optional<Token> start) {
  std::vector<Token> ids;
  for (const std::string& document : documents) {
    if (start) ids.push_back(*start);
    const std::vector<Token> own = tokenizer.encode(document);
    ids.insert(ids.end(), own.begin(), own.end());
  }
  return ids;
}

Pass<float> pass_of(const Rig& rig, std::span<const Index> starts, Workspace& workspace) {
  Pass<float> pass;
  pass.exec = rig.training.exec, pass.starts = starts, pass.workspace = &workspace, pass.trace = rig.trace;
  return pass;
}

void train_adapter(Rig& rig, Index steps) {
  LoraConfig lora;
  lora.rank = 4, lora.alpha = 16;
  rig.adapter = std::make_shared<Adapter<float>>(make_adapter<float>(rig.model.config, lora, rig.training.seed));
  attach(rig.model, *rig.adapter);
  TrainOptions options = rig.training;
  options.steps = steps, options.rate = 1e-2, options.min_rate = 1e-3, options.warmup = 5;
  Trainer<float> trainer(rig.model, *rig.adapter, options);
  const RandomStream stream = RandomStream{options.seed}.at("adapter");
  for (Index s = 0; s < steps; ++s) {
    trainer.step([&](Index step, Index) {
      return random_batch(rig.other, options.batch, rig.model.config.context, stream, static_cast<std::uint64_t>(step),
                          document_separator(rig.model.config));
    });
  }
  detach(rig.model);
}

}  // namespace

Rig make_rig(std::uint64_t seed, const std::function<void(Index, Index)>& progress) {
  Rig rig;
  const RandomStream stream = RandomStream{seed}.at("rig");
  const std::vector<std::string> train_text = documents(kTales, 1500, stream.at("train")),
                                 val_text = documents(kTales, 48, stream.at("val"));
  const std::vector<std::string> other_text = documents(kOrders, 300, stream.at("other"));
  std::string alphabet = "\n";
  for (const auto* texts : {&train_text, &other_text}) {
    for (const std::string& t : *texts) alphabet += t;
  }
  rig.tokenizer = character_tokenizer(alphabet);

  ModelConfig c;
  c.vocab = rig.tokenizer.vocab_size(), c.context = 80, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.width = 32;
  c.position = Position::rope, c.embedding_std = 0.05, c.init_std = 0.1;
  c.bos = c.eos = *rig.tokenizer.find("\n"), c.prepend_bos = true;
  rig.model = make_decoder<float>(c);
  initialize(rig.model, seed);
  rig.fresh = rig.model.arena.clone();
  rig.train = encode_documents(rig.tokenizer, train_text, c.bos);
  rig.val = encode_documents(rig.tokenizer, val_text, c.bos);
  rig.other = encode_documents(rig.tokenizer, other_text, c.bos);
  const DocumentExpectation expected = expected_document(parse_grammar(kTales));
  rig.source_nats = expected.bits * std::numbers::ln2 / (expected.bytes + 1);  // a document's letters and its end

  rig.training.batch = 8, rig.training.steps = 700, rig.training.rate = 1e-2, rig.training.min_rate = 1e-3, rig.training.warmup = 20;
  rig.training.seed = seed;
  Trainer<float> trainer(rig.model, rig.training);
  const RandomStream batches = RandomStream{seed}.at("batches");
  for (Index s = 0; s < rig.training.steps; ++s) {
    trainer.step([&](Index step, Index) {
      return random_batch(rig.train, rig.training.batch, c.context, batches, static_cast<std::uint64_t>(step), c.bos);
    });
    if (progress) progress(s + 1, rig.training.steps);
  }
  train_adapter(rig, 80);
  rig.training.steps = 120;
  rig.writing.max_tokens = 64, rig.writing.seed = seed, rig.writing.sampling.temperature = 0.5, rig.writing.sampling.top_p = 0.9;
  rig.prompt = "mia got a red";
  return rig;
}

Rig make_rig(const Decoder<float>& model, const Tokenizer& tokenizer, std::uint64_t seed) {
  Rig rig;
  rig.model = model, rig.tokenizer = tokenizer;
  const Corpus corpus = make_corpus(CorpusKind::stories, 6000, seed);
  std::vector<std::string> texts;
  for (std::size_t d = 0; d < corpus.documents.size(); ++d) {
    const auto begin = static_cast<std::size_t>(corpus.documents[d]);
    const auto end = d + 1 < corpus.documents.size() ? static_cast<std::size_t>(corpus.documents[d + 1]) : corpus.text.size();
    texts.push_back(corpus.text.substr(begin, end - begin));
  }
  rig.val = encode_documents(tokenizer, texts, document_separator(model.config));
  rig.source_nats = corpus.entropy_bits * std::numbers::ln2 / static_cast<double>(rig.val.size());
  rig.batch_documents = 4;
  rig.training.seed = rig.writing.seed = seed;
  rig.writing.sampling.temperature = 0.5, rig.writing.sampling.top_p = 0.9;
  rig.prompt = texts.front().substr(0, texts.front().find(' ', 12));
  const auto room = model.config.context - static_cast<Index>(tokenizer.encode(rig.prompt).size()) - 1;
  require(room >= 16, "debug: expected a context of {} tokens or more, found {}", model.config.context + 16 - room, model.config.context);
  rig.writing.max_tokens = std::min<Index>(64, room);
  return rig;
}

Loss evaluate(const Rig& rig, std::span<const Token> ids, std::uint64_t number, std::vector<double>* losses_by_place) {
  const ModelConfig& c = rig.model.config;
  Workspace workspace;
  Loss loss;
  std::vector<double> sums, counts, losses;
  for (Batch& batch : whole_split(ids, c.context, rig.batch_documents, document_separator(c))) {
    if (rig.collate) rig.collate(batch);
    Pass<float> pass = pass_of(rig, batch.starts, workspace);
    pass.training = rig.evaluates_as_training, pass.random = RandomStream{rig.training.seed}.at("evaluation").at(number);
    losses.resize(batch.inputs.size());
    const Loss part = decoder_loss<float>(rig.model, pass, batch.inputs, batch.targets, nullptr, nullptr, 1.0F, losses);
    loss.sum_nats += part.sum_nats, loss.count += part.count, loss.correct += part.correct;
    for (std::size_t s = 0; s + 1 < batch.starts.size(); ++s) {
      for (Index n = batch.starts[s]; n < batch.starts[s + 1]; ++n) {
        const auto place = static_cast<std::size_t>(n - batch.starts[s]);
        if (place >= sums.size()) sums.resize(place + 1), counts.resize(place + 1);
        if (batch.targets[static_cast<std::size_t>(n)] >= 0) sums[place] += losses[static_cast<std::size_t>(n)], counts[place] += 1;
      }
    }
  }
  if (losses_by_place) {
    losses_by_place->resize(sums.size());
    for (std::size_t p = 0; p < sums.size(); ++p) (*losses_by_place)[p] = sums[p] / counts[p];
  }
  return loss;
}

TrainingRun train(Rig& rig) {
  require(static_cast<bool>(rig.fresh), "a training run needs the weights that it starts from");
  restore(rig.model, rig.fresh);
  Trainer<float> trainer(rig.model, rig.training);
  trainer.watch(rig.trace);
  const RandomStream stream = RandomStream{rig.training.seed}.at("batches");
  const ModelConfig& c = rig.model.config;
  TrainingRun run;
  try {
    for (Index s = 0; s < rig.training.steps; ++s) {
      run.steps.push_back(trainer.step([&](Index step, Index) {
        Batch batch =
            random_batch(rig.train, rig.training.batch, c.context, stream, static_cast<std::uint64_t>(step), document_separator(c));
        if (rig.collate) rig.collate(batch);
        return batch;
      }));
      if (rig.after_step) rig.after_step(trainer);
    }
  } catch (const std::runtime_error& error) {
    run.stopped = error.what();
  }
  return run;
}

Matrix<float> logits_at_once(const Rig& rig, std::span<const Token> ids, Trace<float>* look) {
  const auto both = watched(rig.trace, look);
  const Index T = static_cast<Index>(ids.size());
  const std::vector<Index> starts = {0, T};
  Workspace workspace;
  Pass<float> pass = pass_of(rig, starts, workspace);
  pass.trace = both.get();
  Matrix<float> hidden(T, rig.model.config.width), logits(T, rig.model.config.vocab);
  decoder_forward<float>(rig.model, pass, ids, hidden);
  decoder_logits<float>(rig.model, pass, hidden, logits);
  return logits;
}

Matrix<float> logits_by_cache(const Rig& rig, std::span<const Token> ids, Index prefill, Trace<float>* look) {
  const auto both = watched(rig.writing.trace, look);
  const Index T = static_cast<Index>(ids.size());
  require(prefill >= 1 && prefill <= T, "prefill: expected 1 to {} tokens, found {}", T, prefill);
  KvCache<float> cache = make_cache(rig.model, 1, T);
  const std::vector<Index> slots = {0};
  Workspace workspace;
  Matrix<float> logits(T, rig.model.config.vocab);
  for (Index begin = 0; begin < T;) {
    const Index count = begin == 0 ? prefill : 1;
    const std::vector<Index> starts = {0, count};
    Pass<float> pass = pass_of(rig, starts, workspace);
    pass.trace = both.get(), pass.cache = &cache, pass.slots = slots;
    pass.exec.row_exact = begin > 0;
    Matrix<float> hidden(count, rig.model.config.width);
    decoder_forward<float>(rig.model, pass, ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)), hidden);
    decoder_logits<float>(rig.model, pass, hidden, logits.middleRows(begin, count));
    begin += count;
  }
  return logits;
}

}  // namespace glassformer
