// %% [markdown]
// # 09 · When is LoRA enough?
//
// A model knows one kind of text and shall learn another. *Full fine-tuning* changes every weight. LoRA (Hu et al. 2021) leaves them as
// they are and learns a change of low rank beside each matrix:
//
// y = x·Wᵀ + (α/r)·(x·Aᵀ)·Bᵀ, A [r, I], B [O, r]
//
// Here a small model that has read nursery tales becomes a card-member service. Only the agent's answers are learnt and scored.
//
// 1. What is trained, and what does it take in memory?
// 2. How much of full fine-tuning's gain does a rank of 1, 8, 32 reach?
// 3. What is forgotten?
// 4. Why does a low rank do? What does full fine-tuning's own change look like?
// 5. Is the merged model the same?
// 6. What do cheaper ways reach: the last block, eight trained prompt tokens, an example in the prompt? And LoRA over 4-bit weights?
//
// **Predict first.** The linear layers have 64 inputs. An adapter of rank 8 trains 19% of their numbers, of rank 1 it trains 2.3%. What
// share of full fine-tuning's drop in loss does each reach?

// %%
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "glassformer/core/random.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/model/adapter.hpp"
#include "glassformer/model/quantize.hpp"
#include "glassformer/model/reading.hpp"
#include "glassformer/notebook/toy.hpp"
#include "program.hpp"

using namespace glassformer;

constexpr Index kContext = 256, kExample = 128, kSteps = 200, kPromptTokens = 8;
constexpr double kRates[] = {2e-3, 8e-3, 3.2e-2};

// %% [markdown]
// ## The base and the task
// The base: two layers, 64 channels, by characters, on tales and customers' messages. The task: dialogues; of each the last 128 characters
// up to an answer's end. Of the held-out answers 64 choose the learning rate, 96 others are reported, so that choosing flatters nobody.

// %%
struct Task {
  ToyText tales;
  std::vector<Example> train;
  std::vector<Batch> choose, report;  // answers
  std::vector<Batch> old_text;        // tales that the base has not seen
  Decoder<float> base;
};

// Mean loss of the batches, each sequence after `prefix`.
double loss_on(const Decoder<float>& model, std::span<const Batch> batches, const Exec& exec, std::span<const Token> prefix = {}) {
  Workspace workspace;
  Loss sum;
  for (const Batch& batch : batches) {
    const Batch b = prepend(batch, prefix);
    Pass<float> pass;
    pass.exec = exec, pass.starts = b.starts, pass.workspace = &workspace;
    const Loss l = decoder_loss<float>(model, pass, b.inputs, b.targets, nullptr, nullptr, 1.0F);
    sum.sum_nats += l.sum_nats, sum.count += l.count;
  }
  return sum.mean();
}

// What customers say, without the answers.
std::string customers(const std::string& dialogues) {
  std::string lines;
  for (std::size_t begin = 0; begin < dialogues.size();) {
    const std::size_t end = std::min(dialogues.find('\n', begin), dialogues.size() - 1) + 1;
    if (const std::string_view line(&dialogues[begin], end - begin); line.starts_with("Customer:")) lines += line;
    begin = end;
  }
  return lines;
}

std::vector<Batch> packed(std::span<const Example> examples) {
  std::vector<Batch> batches;
  for (std::size_t i = 0; i < examples.size(); i += 32)
    batches.push_back(pack_examples(examples.subspan(i, std::min<std::size_t>(32, examples.size() - i)), kExample));
  return batches;
}

Task make_task(Notebook& nb) {
  const Corpus tales = make_corpus(CorpusKind::stories, 400'000, nb.seed()), support = make_corpus(CorpusKind::support, 200'000, nb.seed());
  const Tokenizer tokenizer = character_tokenizer(tales.text + support.text);  // the characters of both
  Task t{toy_text(tales.text, tokenizer), {}, {}, {}, {}, {}};
  const std::vector<Token> said = tokenizer.encode(customers(make_corpus(CorpusKind::support, 150'000, nb.seed() + 1000).text));
  t.tales.train.insert(t.tales.train.end(), said.begin(), said.end());
  for (const auto& [prompt, answer] : prompts_and_answers(support.text))
    t.train.push_back({tokenizer.encode(prompt), tokenizer.encode(answer)});
  const std::span<const Example> held_out = std::span(t.train).last(160);
  t.choose = packed(held_out.first(64)), t.report = packed(held_out.last(96));
  nb.show(story::Paragraph{"One answer of the held-out ones: " + tokenizer.decode(held_out.front().prompt) + " →" +
                           tokenizer.decode(held_out.front().answer)},
          kind_only);
  t.train.resize(t.train.size() - 160);
  t.old_text = whole_split(std::span(t.tales.val).first(6000), kContext, 16);

  ModelConfig config{
      .vocab = tokenizer.vocab_size(), .context = kContext, .layers = 2, .heads = 4, .width = 64, .position = Position::rope};
  config.embedding_std = 0.5, config.init_std = 0.125;
  ToyRun run = train_toy(nb, "the base", config,
                         {.steps = 800, .batch = 4, .rate = 4e-3, .min_rate = 4e-4, .warmup = 50, .seed = nb.seed()}, t.tales);
  t.base = std::move(run.model);
  nb.show(loss_chart("base", "The base learns tales", {{"tales", run.losses}}), kind_only);
  nb.show(story::Table{"before",
                       {"the base's loss", "nats a character"},
                       {{"tales", loss_on(t.base, t.old_text, nb.exec())}, {"answers", loss_on(t.base, t.report, nb.exec())}}},
          kind_only);
  return t;
}

// %% [markdown]
// ## 1. What is trained
// An adapter of rank r on a matrix of I inputs and O outputs trains r·(I + O) numbers. On all linear layers of a block of width C (q, k, v
// and out: 2C each; up and down: 5C each) that is 18·r·C of 12·C²: a share of 1.5·r/C. It falls as models grow.
//
// In training, each *trained* number needs a gradient and AdamW's two moments beside itself: 16 bytes. A frozen one needs only itself.

// %%
// The tensors of the last block, as a part of the model's arena.
Arena<float> last_block(const Decoder<float>& model) {
  const std::string prefix = fmt::format("blocks.{}.", model.config.layers - 1);
  const auto& tensors = model.arena.layout().tensors();
  const auto inside = [&](const TensorInfo& t) { return t.name.starts_with(prefix); };
  const auto first = std::ranges::find_if(tensors, inside);
  return model.arena.slice(static_cast<std::size_t>(first - tensors.begin()),
                           static_cast<std::size_t>(std::ranges::count_if(tensors, inside)));
}

LoraConfig lora(Index rank) {
  return {.rank = rank, .alpha = 16, .targets = {"attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down"}};
}

void show_sizes(Notebook& nb, const Decoder<float>& base) {
  const Index all = decoder_parameters(base), C = base.config.width;
  Index linear = 0;
  for (const TensorInfo& t : base.arena.layout().tensors()) linear += t.kind == ParameterKind::hidden ? t.size() : 0;
  const Index small_bytes = decoder_bytes(quantize_decoder(base, QuantizeTypes::all(QuantizedType::nf4)));
  story::Table table{"sizes", {"", "numbers trained", "share of all, %", "KiB while training"}, {}, 1};
  const auto add = [&](const std::string& name, Index trained, Index frozen_bytes) {
    const double kib = static_cast<double>(frozen_bytes + 16 * trained) / 1024;
    table.rows.push_back({name, fmt::format("{}", trained), 100.0 * static_cast<double>(trained) / static_cast<double>(all), kib});
  };
  add("full", all, 0);
  std::string measured;
  bool exact = true;
  for (const Index rank : {1, 8, 32}) {
    const Index trained = make_adapter(base, lora(rank), nb.seed()).arena.layout().parameters();
    add(fmt::format("LoRA, rank {}", rank), trained, 4 * all);
    exact = exact && trained * 2 * C == linear * 3 * rank;  // trained/linear = 1.5·r/C
    measured += fmt::format("{}rank {}: {} of {}", measured.empty() ? "" : ", ", rank, trained, linear);
    if (rank == 8) add("LoRA, rank 8, over NF4 (QLoRA)", trained, small_bytes);
  }
  const Index block = last_block(base).layout().parameters();
  add("the last block", block, 4 * (all - block));
  add("8 prompt tokens", kPromptTokens * C, 4 * all);
  nb.show(table, exactly);
  const double large =
      32.0 * 8 * (4096 + 4096 + 2 * (4096 + 1024) + 4096 + 4096 + 3 * (4096 + 14336));  // q, k and v, out, gate and up and down
  nb.show(story::Number{"llama_adapter", "Llama 3 8B, rank 8 on all linear layers: numbers trained", large, 0}, exactly);
  nb.show(story::Number{"llama_adapter_gb", "their 16 bytes each", 16 * large / 1e9, 2, "GB"}, exactly);
  nb.show(story::Number{"llama_full_gb", "all 8,030,261,248 of them in full fine-tuning", 16 * 8030261248.0 / 1e9, 1, "GB"}, exactly);
  nb.claim("an adapter of rank r on all linear layers trains exactly 1.5·r/C of their numbers", exact, measured);
}

// %% [markdown]
// ## 2. How much is learnt
// Everybody gets 200 steps of 8 answers, and *its own best* of the same three learning rates. That is the first trap: a comparison at one
// shared rate is decided by who chose the rate.

// %%
enum class Kind { full, adapter, quantized, block, prompt };

struct Way {
  std::string name;
  Kind kind = Kind::full;
  Index rank = 0;
};

struct Point {
  double target = 0, old_text = 0;  // nats on answers, on tales
};

struct Outcome {
  double rate = 0, choose = INFINITY;
  std::vector<Point> path;  // along the training; its last point is the result
  Decoder<float> model;     // nothing attached
  Adapter<float> adapter;
  const Point& end() const { return path.back(); }
};

Outcome adapt(Notebook& nb, const Task& task, const Way& way, double rate, bool follow) {
  Outcome o;
  o.rate = rate;
  o.model = way.kind == Kind::quantized ? quantize_decoder(task.base, QuantizeTypes::all(QuantizedType::nf4), nb.exec())
                                        : convert_decoder<float>(task.base);
  TrainOptions options{
      .steps = kSteps, .batch = 8, .rate = rate, .min_rate = rate / 10, .warmup = 10, .weight_decay = 0, .seed = nb.seed()};
  options.exec.threads = nb.exec().threads;
  const bool beside = way.kind != Kind::full && way.kind != Kind::block;
  if (way.kind == Kind::prompt) {
    o.adapter = make_soft_prompt(o.model, kPromptTokens, nb.seed());
  } else if (beside) {
    o.adapter = make_adapter(o.model, lora(way.rank), nb.seed());
  }
  if (beside) attach(o.model, o.adapter);
  const std::vector<Token> prefix = soft_prompt_ids(o.model);
  Trainer<float> trainer = beside                    ? Trainer<float>(o.model, o.adapter, options)
                           : way.kind == Kind::block ? Trainer<float>(o.model, last_block(o.model), options)
                                                     : Trainer<float>(o.model, options);
  const BatchSource batches = [&, stream = RandomStream{nb.seed()}.at("answers")](Index step, Index) {
    const RandomStream at = stream.at(static_cast<std::uint64_t>(step));
    std::vector<Example> drawn;
    for (Index i = 0; i < options.batch; ++i)
      drawn.push_back(task.train[random_below(at, static_cast<std::uint64_t>(i), task.train.size())]);
    return prepend(pack_examples(drawn, kExample), prefix);
  };
  while (trainer.steps_done() < kSteps) {
    trainer.step(batches);
    const bool last = trainer.steps_done() == kSteps;
    if (last || (follow && trainer.steps_done() % 25 == 0))
      o.path.push_back({loss_on(o.model, task.report, nb.exec(), prefix), loss_on(o.model, task.old_text, nb.exec(), prefix)});
  }
  o.choose = loss_on(o.model, task.choose, nb.exec(), prefix);
  detach(o.model);
  nb.progress(fmt::format("{} at {}: {:.3f} nats", way.name, rate, o.end().target));
  return o;
}

struct Tried {
  Way way;
  std::vector<Outcome> rates;  // one for each of kRates
  const Outcome& best() const { return *std::ranges::min_element(rates, {}, &Outcome::choose); }
};

Tried try_rates(Notebook& nb, const Task& task, Way way, bool follow = false) {
  Tried t{std::move(way), {}};
  for (const double rate : kRates) t.rates.push_back(adapt(nb, task, t.way, rate, follow));
  return t;
}

// %% [markdown]
// The second trap: the *share of the drop* flatters, because the first nats are cheap (which letters occur at all). So the base has read
// customers' messages too, letters and digits included, though never an agent's answer; and a rank of 1 shows how far the cheap part
// carries.

// %%
void show_learnt(Notebook& nb, const std::vector<Tried>& all, double before) {
  story::Table table{"rates", {"loss on answers, nats", "2e-3", "8e-3", "3.2e-2", "its best", "share of full's drop, %"}, {}, 3};
  plot::Chart bars{plot::Chart::Kind::bars, "Share of full fine-tuning's drop in loss, %"};
  bars.series = {{"each at its best rate", {}}, {"all at 2e-3", {}}};
  const auto share = [&](const Outcome& o, const Outcome& full) { return 100 * (before - o.end().target) / (before - full.end().target); };
  const Tried& full = all.front();
  std::map<std::string, double> shares;
  for (const Tried& t : all) {
    table.rows.push_back({t.way.name});
    for (const Outcome& o : t.rates) table.rows.back().emplace_back(o.end().target);
    table.rows.back().emplace_back(t.best().end().target),
        table.rows.back().emplace_back(shares[t.way.name] = share(t.best(), full.best()));
    bars.names.push_back(t.way.name);
    bars.series[0].y.push_back(shares[t.way.name]), bars.series[1].y.push_back(share(t.rates[0], full.rates[0]));
  }
  nb.show(table, kind_only);
  nb.show(story::Chart{"shares", bars}, kind_only);
  nb.claim("rank 8 reaches at least 90% of full fine-tuning's drop in loss, each at its own best rate", shares["rank 8"] >= 90,
           fmt::format("{:.1f}%: from {:.3f} to {:.3f} nats, full {:.3f}", shares["rank 8"], before, all[2].best().end().target,
                       full.best().end().target));
  nb.claim("rank 1 reaches less than rank 8, by 5 points or more", shares["rank 1"] <= shares["rank 8"] - 5,
           fmt::format("{:.1f}%", shares["rank 1"]));
  const double shared = share(all[2].rates[0], full.rates[0]);
  nb.claim("at one shared rate of 2e-3 rank 8 would look worse, by 5 points or more", shared <= shares["rank 8"] - 5,
           fmt::format("{:.1f}% of full's drop at that rate", shared));
  nb.claim("rank 32 is no further than 5 points from full", std::abs(shares["rank 32"] - 100) < 5,
           fmt::format("{:.1f}%", shares["rank 32"]));
}

// %% [markdown]
// ## 3. What is forgotten
// All ways lose the tales while they learn to answer. Who forgets more? The third trap: whoever learns less forgets less (Biderman et al.
// 2024), so compare *at the same loss on the new task*. And each line here is one run, followed while it learns: the new loss falls to the
// left, the old one rises.

// %%
// Loss on tales when the run first came to this loss on answers, between its points; NaN when it never did.
double old_text_at(const Outcome& o, double target) {
  if (o.path.front().target <= target) return o.path.front().old_text;
  for (std::size_t i = 1; i < o.path.size(); ++i) {
    const Point &a = o.path[i - 1], &b = o.path[i];
    if (b.target <= target) return a.old_text + (b.old_text - a.old_text) * (a.target - target) / (a.target - b.target);
  }
  return NAN;
}

// The least among its rates.
double gentlest(const Tried& t, double target) {
  double least = NAN;
  for (const Outcome& o : t.rates) least = std::fmin(least, old_text_at(o, target));
  return least;
}

void show_forgotten(Notebook& nb, const Tried& full, const Tried& rank8, const Tried& rank1, double before, double old_before) {
  plot::Chart chart;
  chart.title = "Loss on tales when the loss on answers was", chart.x_label = "loss on answers, nats",
  chart.y_label = "loss on tales, nats";
  for (double x = 0.9; x < 2.0; x += 0.05) chart.x.push_back(x);
  for (const Tried* t : {&full, &rank8}) {
    for (const Outcome& o : t->rates) {
      plot::Series s{fmt::format("{} at {}", t->way.name, o.rate), {}};
      for (const double x : chart.x) s.y.push_back(x > o.path.front().target ? NAN : old_text_at(o, x));
      chart.series.push_back(std::move(s));
    }
  }
  nb.show(story::Chart{"forgetting", chart}, kind_only);
  const double same = before - 0.9 * (before - full.best().end().target);
  story::Table table{"forgetting_at", {"forgotten at 90% of full's drop, nats", "2e-3", "8e-3", "3.2e-2"}, {}, 2};
  for (const Tried* t : {&full, &rank8}) {
    table.rows.push_back({t->way.name});
    for (const Outcome& o : t->rates) {
      const double forgot = old_text_at(o, same) - old_before;
      table.rows.back().push_back(std::isnan(forgot) ? story::Cell{"not reached"} : story::Cell{forgot});
    }
  }
  nb.show(table, kind_only);
  const double full_best = old_text_at(full.best(), same) - old_before, full_gentle = gentlest(full, same) - old_before,
               lora_gentle = gentlest(rank8, same) - old_before;
  nb.claim(
      "the rate decides: at the same loss on answers full at its best rate has forgotten at least 1.3 times what full at its gentlest has",
      full_best > 1.3 * full_gentle, fmt::format("{:.2f} against {:.2f} nats", full_best, full_gentle));
  nb.claim("each at its gentlest rate that gets there, full and rank 8 forget alike, within a third",
           std::abs(lora_gentle / full_gentle - 1) < 1.0 / 3, fmt::format("full {:.2f}, rank 8 {:.2f} nats", full_gentle, lora_gentle));
  const Point& one = rank1.best().end();
  const double full_there = gentlest(full, one.target);
  nb.claim("rank 1 forgets less than full does in the end, but not less than full did when it had learnt as little",
           one.old_text < full.best().end().old_text && one.old_text > full_there - 0.3,
           fmt::format("tales {:.2f} nats with rank 1, {:.2f} with full in the end, {:.2f} with full at rank 1's {:.2f} on answers",
                       one.old_text, full.best().end().old_text, full_there, one.target));
}

// %% [markdown]
// ## 4. Why a low rank does
// Full fine-tuning was free to change each matrix in any way. Into how many directions did it go? The singular values of ΔW = W′ − W say:
// the energy of the first k is Σ σᵢ² over k divided by Σ σᵢ² over all. Beside it a matrix of random numbers, which has no preferred
// direction, and the base's own W.
//
// "Full's change is of low rank" is often said to be why LoRA works. So cut it: what is full's model worth when only the first k directions
// of each matrix's change are kept?

// %%
// Shares of energy in the first 1, 2, … directions, the mean of all linear layers.
struct Energy {
  std::vector<double> share = std::vector<double>(64, 0);
  double directions = 0;  // that hold 90%
  Index matrices = 0;
  void add(const Matrix<double>& w) {
    const Eigen::VectorXd squares = Eigen::BDCSVD<Eigen::MatrixXd>(w).singularValues().array().square();
    double sum = 0;
    Index k = 0;
    for (Index i = 0; i < squares.size(); ++i) {
      if (sum < 0.9 * squares.sum()) ++k;
      sum += squares[i];
      share[static_cast<std::size_t>(i)] += sum / squares.sum();
    }
    directions += static_cast<double>(k), ++matrices;
  }
  void finish() {
    for (double& s : share) s /= static_cast<double>(matrices);
    directions /= static_cast<double>(matrices);
  }
};

void show_change(Notebook& nb, const Task& task, const Outcome& full, std::span<const Tried> adapters) {
  Energy change, random, weight;
  const Index kept[] = {0, 1, 2, 4, 8, 16, 32, 64};
  std::vector<Decoder<float>> cut;  // full's model, of whose change only the first k directions of each matrix are kept
  for (std::size_t i = 0; i < std::size(kept); ++i) cut.push_back(convert_decoder<float>(full.model));
  for (const TensorInfo& t : task.base.arena.layout().tensors()) {
    if (t.kind != ParameterKind::hidden) continue;
    const Matrix<double> before = (*task.base.arena.view(t)).cast<double>(), after = (*full.model.arena.view(t)).cast<double>();
    Matrix<double> noise(t.rows, t.cols);
    for (Index i = 0; i < noise.size(); ++i)
      noise.data()[i] = random_normal(RandomStream{nb.seed()}.at(t.name), static_cast<std::uint64_t>(i));
    change.add(after - before), random.add(noise), weight.add(before);
    const Eigen::BDCSVD<Eigen::MatrixXd> svd(after - before, Eigen::ComputeThinU | Eigen::ComputeThinV);
    for (std::size_t i = 0; i < cut.size(); ++i) {
      const Eigen::MatrixXd first =
          svd.matrixU().leftCols(kept[i]) * svd.singularValues().head(kept[i]).asDiagonal() * svd.matrixV().leftCols(kept[i]).transpose();
      *cut[i].arena.view(t) = (before + first).cast<float>();
    }
  }
  plot::Chart chart;
  chart.title = "Energy in the first k of 64 directions, mean of 8 matrices", chart.x_label = "k", chart.y_label = "share";
  for (Index k = 1; k <= 64; ++k) chart.x.push_back(static_cast<double>(k));
  for (Energy* e : {&change, &weight, &random}) e->finish();
  chart.series = {{"full's change", change.share}, {"the base's weights", weight.share}, {"random numbers", random.share}};
  nb.show(story::Chart{"energy", chart}, kind_only);
  story::Table losses{"cut", {"directions", "full's model, its change cut to these", "LoRA, trained at that rank"}, {}, 3};
  double cut8 = 0;
  for (std::size_t i = 0; i < cut.size(); ++i) {
    const double loss = loss_on(cut[i], task.report, nb.exec());
    if (kept[i] == 8) cut8 = loss;
    losses.rows.push_back({fmt::format("{}", kept[i]), loss, "–"});
    for (const Tried& t : adapters) {
      if (t.way.rank == kept[i]) losses.rows.back().back() = t.best().end().target;
    }
  }
  nb.show(losses, kind_only);
  nb.claim("full's change is more concentrated than random numbers, yet not of low rank: 90% of its energy takes 15 to 40 of 64 directions",
           change.directions > 15 && change.directions < 40 && change.directions < random.directions,
           fmt::format("{:.1f}, random {:.1f}, the weights themselves {:.1f}; 8 directions hold {:.0f}%", change.directions,
                       random.directions, weight.directions, 100 * change.share[7]));
  const double rank8 = adapters[1].best().end().target;
  nb.claim(
      "eight directions that were trained as such are worth more than full's first eight: LoRA does not imitate full's change, it finds "
      "another",
      rank8 < cut8 - 0.1, fmt::format("{:.3f} nats against {:.3f}", rank8, cut8));
}

// %% [markdown]
// ## 5. Merged
// The change can be added to W once: then it costs nothing at all when the model is used. Taken out again, subtracting would leave rounding
// errors; the engine keeps the old W and puts it back.

// %%
void show_merged(Notebook& nb, const Task& task, const Outcome& o) {
  Decoder<float> model = convert_decoder<float>(o.model);
  const std::span<const Token> ids = std::span(task.report.front().inputs).first(kExample);
  attach(model, o.adapter);
  const Matrix<float> apart = decoder_read<float>(model, ids);
  const Arena<float> kept = merge(model, o.adapter, nb.exec());
  const Matrix<float> merged = decoder_read<float>(model, ids);
  restore(model, kept);
  const double difference = (merged - apart).cwiseAbs().maxCoeff();
  nb.claim("merged and unmerged logits differ by less than 1e-5 of the largest", difference < 1e-5 * apart.cwiseAbs().maxCoeff(),
           fmt::format("{:.0e}, the largest logit is {:.1f}", difference, apart.cwiseAbs().maxCoeff()));
  Index changed = 0;
  for (std::size_t i = 0; i < model.arena.values().size(); ++i) changed += model.arena.values()[i] != task.base.arena.values()[i] ? 1 : 0;
  nb.claim("restored, the weights are the base's, to the bit", changed == 0, fmt::format("{} numbers differ", changed));
}

// %% [markdown]
// ## 6. Cheaper ways, and 4 bits
// - **The last block** alone, trained as in full fine-tuning.
// - **A soft prompt** (Lester et al. 2021): eight embeddings before the text are trained, nothing else.
// - **One example** in the prompt, no training: of eight, the one that helps the answers that choose most.
// - **QLoRA**: rank 8 over the base in NF4, at rank 8's best rate.

// %%
double one_shot(Notebook& nb, const Task& task) {
  double best = INFINITY, report = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    std::vector<Token> shot = task.train[i].prompt;
    shot.insert(shot.end(), task.train[i].answer.begin(), task.train[i].answer.end());
    shot.erase(shot.begin(), shot.end() - std::min<std::ptrdiff_t>(kContext - kExample, std::ssize(shot)));
    const double choose = loss_on(task.base, task.choose, nb.exec(), shot);
    if (choose < best) best = choose, report = loss_on(task.base, task.report, nb.exec(), shot);
  }
  return report;
}

void show_others(Notebook& nb, const Task& task, const std::vector<Tried>& all, double before) {
  const Tried &full = all[0], &rank8 = all[2], &block = all[4], &prompt = all[5];
  const Outcome quantized = adapt(nb, task, {"rank 8 over NF4", Kind::quantized, 8}, rank8.best().rate, false);
  const double shot = one_shot(nb, task);
  story::Table table{"others", {"", "loss on answers, nats", "on tales", "share of full's drop, %"}, {}, 3};
  const double drop = before - full.best().end().target;
  const auto add = [&](const std::string& name, double target, story::Cell old_text) {
    table.rows.push_back({name, target, std::move(old_text), 100 * (before - target) / drop});
  };
  add("the base", before, loss_on(task.base, task.old_text, nb.exec()));
  add("one example in the prompt", shot, "as the base");
  add("8 trained prompt tokens", prompt.best().end().target, prompt.best().end().old_text);
  add("the last block", block.best().end().target, block.best().end().old_text);
  add("rank 8 over NF4", quantized.end().target, quantized.end().old_text);
  add("rank 8", rank8.best().end().target, rank8.best().end().old_text);
  add("full", full.best().end().target, full.best().end().old_text);
  nb.show(table, kind_only);
  nb.claim("over NF4 rank 8 ends within 0.05 nats of rank 8 over 32 bits",
           std::abs(quantized.end().target - rank8.best().end().target) < 0.05,
           fmt::format("{:.3f} against {:.3f} nats", quantized.end().target, rank8.best().end().target));
  nb.claim("eight trained prompt tokens reach less than half of full's drop, one example in the prompt less still",
           before - prompt.best().end().target < drop / 2 && shot > prompt.best().end().target,
           fmt::format("{:.3f} and {:.3f} nats, from {:.3f}", prompt.best().end().target, shot, before));
}

// %% [markdown]
// ## A real one
// stories260K, a model that others trained, adapted to Shakespeare, where both files are here: reported, not claimed. Each at the better of
// two rates.

// %%
std::string told_of_stories(Notebook& nb) {
  const std::filesystem::path data = std::filesystem::path(__FILE__).parent_path() / "../../shared/data";
  if (!std::filesystem::exists(data / "stories260K") || !std::filesystem::exists(data / "tinyshakespeare.txt"))
    return "stories260K and Shakespeare are not here.";
  const Expected<ModelFiles> files = load_model(data / "stories260K");
  if (!files) return "stories260K cannot be read: " + files.error();
  const Expected<std::string> shakespeare = read_text(data / "tinyshakespeare.txt");
  if (!shakespeare) return shakespeare.error();
  const ToyText text = toy_text(std::string_view(*shakespeare).substr(0, 400'000), files->tokenizer);
  const std::vector<Batch> held_out = whole_split(std::span(text.val).first(4097), 128, 16);
  const double before = loss_on(files->decoder, held_out, nb.exec());
  const auto best = [&](Index rank) {
    double least = INFINITY;
    for (const double rate : {1e-3, 4e-3}) {
      Decoder<float> model = convert_decoder<float>(files->decoder);
      TrainOptions options{
          .steps = 100, .batch = 4, .rate = rate, .min_rate = rate / 10, .warmup = 10, .weight_decay = 0, .seed = nb.seed()};
      options.exec.threads = nb.exec().threads;
      const BatchSource batches = text_batches(text.train, options.batch, 128, nb.seed());
      Adapter<float> adapter;
      if (rank > 0) attach(model, adapter = make_adapter(model, {.rank = rank, .alpha = 16, .targets = {}}, nb.seed()));
      Trainer<float> trainer = rank > 0 ? Trainer<float>(model, adapter, options) : Trainer<float>(model, options);
      while (trainer.steps_done() < options.steps) trainer.step(batches);
      least = std::min(least, loss_on(model, held_out, nb.exec()));
      nb.progress(fmt::format("stories260K, rank {}, rate {}: {:.3f}", rank, rate, least));
    }
    return least;
  };
  const double full = best(0), rank8 = best(8);
  return fmt::format(
      "stories260K on Shakespeare, nats a token: {:.3f} before, after 100 steps {:.3f} with rank 8 and {:.3f} with all weights: {:.0f}% of "
      "the drop.",
      before, rank8, full, 100 * (before - rank8) / (before - full));
}

void show_stories(Notebook& nb) { nb.show(story::Paragraph{told_of_stories(nb)}, kind_only); }

// %% [markdown]
// ## What did not appear
// - *A change of low rank.* Full fine-tuning's change is spread over half of all directions, and its first eight are worth little without
// the others. LoRA works because
//   among the many changes that do the job there is one of low rank, and training inside the eight finds it.
// - *LoRA forgets less.* At its best rate it does, and so does full fine-tuning at a gentler rate; at the same loss on the new task and at
// a gentle rate each, they are alike.
//
// ## What to say
// *LoRA freezes the weights and trains a low-rank change beside each matrix: 1.5·r/C of their numbers, so gradients and optimizer state
// shrink by as much, and merged it costs nothing. It is enough when the task re-uses what the base can do: here rank 8 reached nine tenths
// of full fine-tuning's gain, rank 1 seven. It is not when much is to be learnt that the base has not: then the rank is a limit, and full
// fine-tuning or more pretraining wins. Compare each at its own best rate, and forgetting at equal loss: the rate decides it more than the
// method. Over 4-bit weights the result is the same for a fraction of the memory.*
//
// On a model of your own: `glassformer lora train`, `glassformer lora inspect`, `glassformer explain lora --model DIR --adapter DIR`.

// %%
int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    const Task task = make_task(nb);
    show_sizes(nb, task.base);
    const double before = loss_on(task.base, task.report, nb.exec()), old_before = loss_on(task.base, task.old_text, nb.exec());
    std::vector<Tried> all;
    all.push_back(try_rates(nb, task, {"full", Kind::full, 0}, true));
    all.push_back(try_rates(nb, task, {"rank 1", Kind::adapter, 1}));
    all.push_back(try_rates(nb, task, {"rank 8", Kind::adapter, 8}, true));
    all.push_back(try_rates(nb, task, {"rank 32", Kind::adapter, 32}));
    all.push_back(try_rates(nb, task, {"last block", Kind::block, 0}));
    all.push_back(try_rates(nb, task, {"prompt tokens", Kind::prompt, 0}));
    show_learnt(nb, all, before);
    show_forgotten(nb, all[0], all[2], all[1], before, old_before);
    show_change(nb, task, all[0].best(), std::span(all).subspan(1, 3));
    show_merged(nb, task, all[2].best());
    show_others(nb, task, all, before);
    show_stories(nb);
  });
}
