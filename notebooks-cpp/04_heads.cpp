// %% [markdown]
// # 04 What do heads do? What do grouped heads cost?
//
// A layer has several heads because one softmax can look at one thing. What do they look *for*? The clearest case known is induction:
// having seen "… A B … A", expect B (Elhage et al. 2021; Olsson et al. 2022). We give a model nothing else to learn, look for the heads
// that do it, and cut them out. Then we make heads share their keys and values, as most language models now do, and weigh what that
// saves and costs.

// %%
#include <cmath>

#include "glassformer/model/reading.hpp"
#include "glassformer/notebook/toy.hpp"
#include "glassformer/trace/edits.hpp"
#include "program.hpp"

using namespace glassformer;

// %% [markdown]
// ## The task
// Random tokens of a vocabulary of 32. Somewhere in the text a stretch of random length comes a second time, right after the first:
//
//     5 17 | 3 30 9 … 21 | 3 30 9 … 21 | 8 2 …
//
// Nothing but the repetition can be predicted: any other token costs $\ln 32 = 3.47$ nats. Only the second copy is scored. Length and
// place must be random. With one length a head could always look the same distance back, and need not read anything: we shall see that
// too.

// %%
struct Repeats {
  Index shortest = 8, longest = 16;  // of the stretch
  Index vocab = 32, context = 48;    // T
};
struct Sequence {
  std::vector<Token> tokens;    // T + 1
  Index begin = 0, period = 0;  // the second copy begins at begin + period
};
static Sequence repeated(const Repeats& task, const RandomStream& stream) {
  Sequence s;
  s.period = task.shortest +
             static_cast<Index>(random_below(stream.at("period"), 0, static_cast<std::uint64_t>(task.longest - task.shortest + 1)));
  s.begin = static_cast<Index>(random_below(stream.at("begin"), 0, static_cast<std::uint64_t>(task.context - 2 * s.period + 1)));
  for (Index t = 0; t <= task.context; ++t) {
    const bool copies = t >= s.begin + s.period && t < s.begin + 2 * s.period;
    s.tokens.push_back(
        copies ? s.tokens[static_cast<std::size_t>(t - s.period)]
               : static_cast<Token>(random_below(stream, static_cast<std::uint64_t>(t), static_cast<std::uint64_t>(task.vocab))));
  }
  return s;
}
// Sequences of the task as a batch. The first token of the second copy cannot be known, so it is not scored.
static Batch repeats_batch(const Repeats& task, Index sequences, const RandomStream& stream) {
  Batch b;
  b.starts = {0};
  for (Index i = 0; i < sequences; ++i) {
    const Sequence s = repeated(task, stream.at(static_cast<std::uint64_t>(i)));
    for (Index t = 0; t < task.context; ++t) {
      const bool scored = t >= s.begin + s.period && t + 1 < s.begin + 2 * s.period;
      b.inputs.push_back(s.tokens[static_cast<std::size_t>(t)]);
      b.targets.push_back(scored ? s.tokens[static_cast<std::size_t>(t + 1)] : -1);
    }
    b.starts.push_back(static_cast<Index>(b.inputs.size()));
  }
  return b;
}
// The loss on the second copies of a batch, while `edits` change the pass.
static double second_copy_loss(const Decoder<float>& model, const Batch& batch, const Exec& exec, Trace<float>* edits = nullptr) {
  Workspace workspace;
  Pass<float> pass;
  pass.exec = exec, pass.starts = batch.starts, pass.workspace = &workspace, pass.trace = edits;
  return decoder_loss<float>(model, pass, batch.inputs, batch.targets, nullptr, nullptr, 1.0F).mean();
}

int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    // %% [markdown]
    // ## One layer or two?
    // The models are attention alone: no MLP, two heads of width 32 a layer, RoPE.

    // %%
    const Repeats task;
    ModelConfig config = {.vocab = task.vocab,
                          .context = task.context,
                          .layers = 2,
                          .heads = 2,
                          .width = 64,
                          .position = Position::rope,
                          .mlp = Mlp::none,
                          .bias = false,
                          .tied = false,
                          .init_std = 0.125,
                          .embedding_std = 1};
    const TrainOptions options = {.steps = 600, .batch = 32, .rate = 1e-2, .min_rate = 1e-3, .warmup = 50, .seed = nb.seed()};
    const auto batches_of = [&](const Repeats& t) {
      return [&nb, t, batch = options.batch](Index step, Index) {
        return repeats_batch(t, batch, RandomStream{nb.seed()}.at("repeats").at(static_cast<std::uint64_t>(step)));
      };
    };
    const ToyRun two = train_toy(nb, "two layers", config, options, batches_of(task));
    config.layers = 1;
    const ToyRun one = train_toy(nb, "one layer", config, options, batches_of(task));
    const Repeats fixed{.shortest = 12, .longest = 12};
    const ToyRun cheat = train_toy(nb, "one layer, one period", config, options, batches_of(fixed));

    const RandomStream fresh = RandomStream{nb.seed()}.at("fresh");
    const Batch test = repeats_batch(task, 128, fresh), fixed_test = repeats_batch(fixed, 128, fresh);
    const double of_two = second_copy_loss(two.model, test, nb.exec()), of_one = second_copy_loss(one.model, test, nb.exec());
    const double of_cheat = second_copy_loss(cheat.model, fixed_test, nb.exec()),
                 of_cheat_moved = second_copy_loss(cheat.model, test, nb.exec());
    nb.show(loss_chart("layers", "Loss on the second copy",
                       {{"two layers", two.losses}, {"one layer", one.losses}, {"one layer, period 12", cheat.losses}}),
            kind_only);
    nb.show(story::Table{"layer_losses",
                         {"model", "trained on periods", "scored on periods", "nats"},
                         {{"two layers", "8 to 16", "8 to 16", of_two},
                          {"one layer", "8 to 16", "8 to 16", of_one},
                          {"one layer", "12", "12", of_cheat},
                          {"one layer", "12", "8 to 16", of_cheat_moved}}},
            kind_only);
    nb.claim("two layers have at most half of one layer's loss on the second copy", of_two <= of_one / 2,
             fmt::format("{:.3f} against {:.3f} nats", of_two, of_one));
    nb.claim("with one fixed period one layer is enough, by counting places: it fails when the period changes",
             of_cheat < of_one / 2 && of_cheat_moved > of_one / 2,
             fmt::format("{:.3f} nats at its own period, {:.3f} at others", of_cheat, of_cheat_moved));

    // %% [markdown]
    // The fall of two layers is sudden, and when it comes depends on the seed: in some it is over after 250 steps, in others it begins
    // after 400. Before it, nothing in the loss tells that it is near.
    //
    // One layer does learn something: which tokens occurred at all ($\ln 12 = 2.5$ nats for twelve candidates). To know which of them
    // comes *next* takes two steps, and so two layers. A head of the first layer tells each token who came before it. A head of the
    // second then looks for the place whose *predecessor* is the current token, and copies what stands there.
    //
    // ## Find the heads
    // Two scores for each head, means of its attention pattern over 32 fresh sequences:
    //
    // $$\text{previous} = \overline{p_{t,\,t-1}} \qquad \text{induction} = \overline{p_{t,\,t-\text{period}+1}} \;\text{ for } t \text{
    // in the second copy}$$
    //
    // Beside them, what happens to the loss when the head's output ($z$) is set to 0.

    // %%
    const Index L = 2, H = 2, D = two.model.config.head_dim;
    Matrix<double> previous = Matrix<double>::Zero(L, H), induction = Matrix<double>::Zero(L, H), without = Matrix<double>::Zero(L, H);
    const Index samples = 32;
    for (Index n = 0; n < samples; ++n) {
      const Sequence s = repeated(task, RandomStream{nb.seed()}.at("look").at(static_cast<std::uint64_t>(n)));
      Recorder<float> seen;
      decoder_read<float>(two.model, s.tokens, {.exec = nb.exec(), .trace = &seen});
      for (Index l = 0; l < L; ++l) {
        for (Index h = 0; h < H; ++h) {
          const Matrix<float>& p = seen.at(fmt::format("blocks.{}.attn.pattern", l), 0, h);  // [T, T]
          previous(l, h) += p.diagonal(-1).mean() / static_cast<double>(samples);
          induction(l, h) += p.diagonal(1 - s.period).segment(s.begin + 1, s.period - 1).mean() / static_cast<double>(samples);
        }
      }
    }
    using Head = std::pair<Index, Index>;  // layer, head
    const auto loss_without = [&](const std::vector<Head>& heads) {
      Edits<float> edits;
      for (const auto& [l, h] : heads)
        edits.add({.site = {fmt::format("blocks.{}.attn.z", l)}, .factor = 0, .first_column = h * D, .columns = D});
      return second_copy_loss(two.model, test, nb.exec(), &edits);
    };
    story::Table heads{"heads", {"layer", "head", "previous", "induction", "loss without it"}, {}};
    std::vector<Head> inducing;  // those with a score above a half
    for (Index l = 0; l < L; ++l) {
      for (Index h = 0; h < H; ++h) {
        without(l, h) = loss_without({{l, h}});
        if (induction(l, h) > 0.5) inducing.push_back({l, h});
        heads.rows.push_back({fmt::format("{}", l), fmt::format("{}", h), previous(l, h), induction(l, h), without(l, h)});
      }
    }
    nb.show(heads, kind_only);
    Head best, teller;
    induction.maxCoeff(&best.first, &best.second), previous.maxCoeff(&teller.first, &teller.second);
    const double without_all = loss_without(inducing);
    nb.show(story::Table{"cut",
                         {"cut out", "loss on the second copy"},
                         {{"nothing", of_two},
                          {"the head with the highest induction score", without(best.first, best.second)},
                          {"all heads with an induction score above 0.5", without_all},
                          {"the head with the highest score for the previous token", without(teller.first, teller.second)},
                          {"the second layer was never there (the one-layer model)", of_one}}},
            kind_only);
    nb.claim("the induction heads sit in the second layer and the previous-token head in the first",
             best.first == 1 && teller.first == 0 && induction.row(0).maxCoeff() < 0.2,
             fmt::format("induction at most {:.2f} in the first layer, {:.2f} in the second; previous {:.2f}", induction.row(0).maxCoeff(),
                         induction(best.first, best.second), previous(teller.first, teller.second)));
    nb.claim("without the head with the highest induction score the loss on the second copy is at least twice as high",
             without(best.first, best.second) > 2 * of_two,
             fmt::format("{:.3f} against {:.3f} nats", without(best.first, best.second), of_two));
    nb.claim(
        "without all heads whose induction score is above 0.5 induction is undone: the loss is at least that of one layer, less 0.3 nats",
        !inducing.empty() && without_all > of_one - 0.3, fmt::format("{} heads: {:.2f} nats; one layer {:.2f}", inducing.size(), without_all, of_one));
    nb.claim(
        "without the head that looks most at the previous token the loss is at least four times as high, although its own induction score "
        "is below 0.2",
        without(teller.first, teller.second) > 4 * of_two && induction(teller.first, teller.second) < 0.2,
        fmt::format("{:.2f} nats; its induction score {:.2f}", without(teller.first, teller.second),
                    induction(teller.first, teller.second)));

    // %% [markdown]
    // What did *not* appear: the textbook's single induction head. Both heads of the second layer learn it, and when one is cut out the
    // other still does most of the work. Ablating one head therefore *understates* what it does; only cutting all of them shows it. And
    // a head can matter without ever attending to the answer: the previous-token head feeds the induction heads their keys. Attention
    // patterns show where a head looks, ablations what is lost without it, and neither alone is the whole story.
    //
    // The pattern of the strongest induction head, on a sequence with a period of 12. The second copy begins at place 16; from there a
    // stripe runs, 11 places back.

    // %%
    const Sequence shown = [&] {
      Sequence s;
      for (std::uint64_t n = 0; s.period != 12 || s.begin != 4; ++n)
        s = repeated({.shortest = 12, .longest = 12}, RandomStream{nb.seed()}.at("shown").at(n));
      return s;
    }();
    Recorder<float> seen;
    decoder_read<float>(two.model, std::span(shown.tokens).first(30), {.exec = nb.exec(), .trace = &seen});
    const auto picture_of = [&](const std::string& key, const Head& head) {
      Matrix<double> p = seen.at(fmt::format("blocks.{}.attn.pattern", head.first), 0, head.second).cast<double>();
      for (Index t = 0; t < p.rows(); ++t) p.row(t).tail(p.cols() - 1 - t).setConstant(NAN);  // masked: does not exist
      return story::Picture{key, p};
    };
    nb.show(story::Paragraph{"The strongest induction head:"}, exactly);
    nb.show(picture_of("induction_pattern", best), kind_only);
    nb.show(story::Paragraph{"The strongest previous-token head, in the layer below:"}, exactly);
    nb.show(picture_of("previous_pattern", teller), kind_only);

    // %% [markdown]
    // ## Heads that share keys and values
    // While a model writes, the keys and values of all tokens so far stay in memory. With $L$ layers, $T$ tokens, heads of width $D$
    // and 4 bytes a number:
    //
    // $$\text{bytes} = 2 \cdot L \cdot T \cdot G \cdot D \cdot 4$$
    //
    // $G$ is the number of key-value heads: $G = H$ is multi-head attention, $G = 1$ multi-query (Shazeer 2019), between them lies
    // grouped-query attention (Ainslie et al. 2023). Query heads of a group share one set of keys and values.
    //
    // To compare fairly all models have equally many parameters: what keys and values save goes to the MLP. The fourth model saves its
    // memory the old way, with only one head at all.

    // %%
    const ToyText text = toy_text(CorpusKind::stories, 300'000, 1);
    struct Shape {
      const char* name;
      Index heads, kv_heads, hidden;
    };
    const std::vector<Shape> shapes = {{"multi-head, H 4, G 4", 4, 4, 192},
                                       {"grouped, H 4, G 2", 4, 2, 216},
                                       {"multi-query, H 4, G 1", 4, 1, 228},
                                       {"one head, H 1, G 1", 1, 1, 264}};
    story::Table grouped{"grouped", {"model", "parameters", "cache bytes", "by the formula"}, {}, 0},
        grouped_loss{"grouped_loss", {"model", "nats a character"}, {}};
    std::vector<double> reached;
    bool bytes_agree = true, equally_many = true;
    Index parameters = 0;
    for (const Shape& shape : shapes) {
      const ModelConfig c = {.context = 48,
                             .layers = 2,
                             .heads = shape.heads,
                             .kv_heads = shape.kv_heads,
                             .width = 48,
                             .head_dim = 12,
                             .hidden = shape.hidden,
                             .position = Position::rope,
                             .bias = false,
                             .tied = false,
                             .init_std = 1 / std::sqrt(48.0),
                             .embedding_std = 1};
      const TrainOptions o = {.steps = 500, .batch = 16, .rate = 1e-2, .min_rate = 1e-3, .warmup = 20, .muon = true, .seed = nb.seed()};
      const ToyRun run = train_toy(nb, shape.name, c, o, text);
      reached.push_back(score_tokens(run.model, text.tokenizer, std::span(text.val).first(8192), c.context, nb.exec()).loss_nats());
      const Index bytes = make_cache(run.model, 1).bytes(), formula = 2 * c.layers * c.context * c.kv_heads * c.head_dim * 4;
      bytes_agree = bytes_agree && bytes == formula;
      parameters = parameters == 0 ? run.model.arena.layout().parameters() : parameters;
      equally_many = equally_many && run.model.arena.layout().parameters() == parameters;
      grouped.rows.push_back({shape.name, static_cast<double>(run.model.arena.layout().parameters()), static_cast<double>(bytes),
                              static_cast<double>(formula)});
      grouped_loss.rows.push_back({shape.name, reached.back()});
    }
    nb.show(grouped, exactly);
    nb.show(grouped_loss, kind_only);
    nb.claim("each cache takes exactly the bytes of the formula, at equally many parameters", bytes_agree && equally_many,
             fmt::format("{} parameters each", parameters));
    const double cost = reached[2] - reached[0], cost_of_one = reached[3] - reached[0];
    nb.claim("a quarter of the cache by sharing (H 4, G 1) costs less than half of what it costs by having one head (H 1, G 1)",
             cost < cost_of_one / 2, fmt::format("{:+.3f} against {:+.3f} nats", cost, cost_of_one));

    // %% [markdown]
    // How close do the first three come? With seeds 1 to 5 sharing one set of keys and values cost between −0.01 and +0.03 nats, about
    // what another seed changes, so a toy cannot tell it from nothing, and we do not claim that it is free. But for the same bytes it
    // is far better than fewer heads (+0.07 to +0.22): four queries may still ask four different questions of one set of keys.
    //
    // ## In an interview
    // - *Why several heads?* Each has its own softmax and so its own choice. Heads of different layers compose: previous-token and
    //   induction together copy from context, which neither can alone.
    // - *What does grouped-query attention save?* Cache bytes by the factor $H/G$, and with them memory traffic while decoding. Llama 3
    //   8B has 32 query and 8 key-value heads: 128 KiB a token in 16 bits instead of 512.
    // - *What does ablation prove?* That something was needed, given all the rest. If a second head does the same, either alone looks
    //   unimportant.

    // %%
  });
}
