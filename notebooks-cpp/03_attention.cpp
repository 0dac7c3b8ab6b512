// %% [markdown]
// # 03 Why divide by √d? What does the mask do?
//
// Attention lets every token look at the others. A query $q$ is compared with each key $k_j$ by a dot product, the softmax turns these
// scores into weights that sum to one, and the weights mix the values $v_j$:
//
// $$z = \sum_j p_j v_j \qquad p = \mathrm{softmax}(s) \qquad s_j = \frac{q \cdot k_j}{\sqrt d} \quad (-\infty \text{ where masked})$$
//
// Two details of this line look like decoration: the division by $\sqrt d$, and the mask. We take each of them away from the engine and
// look at what breaks. Nothing here is a demonstration copy: the scores come from `attention_core_forward`, the kernel that also
// trains.

// %%
#include <cmath>

#include "glassformer/model/reading.hpp"
#include "glassformer/notebook/statistics.hpp"
#include "glassformer/notebook/toy.hpp"
#include "glassformer/ops/attention_core.hpp"
#include "glassformer/ops/loss.hpp"
#include "glassformer/sample/generate.hpp"
#include "program.hpp"

using namespace glassformer;

// A matrix of independent draws from N(0, 1).
static Matrix<double> normal(Index rows, Index columns, const RandomStream& stream) {
  Matrix<double> x(rows, columns);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = random_normal(stream, static_cast<std::uint64_t>(i));
  return x;
}

// What the engine's attention makes of q [n, d] and k [n·U, d]: each query reads U keys of its own, as a sequence of one query.
struct Heads {
  Matrix<double> scores, pattern;  // [n, U]
};
static Heads attend(Matrix<double> q, Matrix<double> k, double scale) {
  const Index n = q.rows(), d = q.cols(), U = k.rows() / n;
  const Matrix<double> v = Matrix<double>::Zero(U, d);
  Matrix<double> z(n, d);
  std::vector<ops::AttentionSequence<double>> sequences;
  for (Index i = 0; i < n; ++i)
    sequences.push_back({1, U, {q.row(i).data(), d, d}, {k.row(i * U).data(), d, d}, {v.data(), d, d}, {z.row(i).data(), d, d}});
  Heads seen{Matrix<double>(n, U), Matrix<double>(n, U)};
  ops::AttentionWatch<double> watch;
  watch.scores = [&](Index sequence, Index, MatrixRef<double> s) { seen.scores.row(sequence) = s; };
  watch.pattern = [&](Index sequence, Index, MatrixRef<double> p) { seen.pattern.row(sequence) = p; };
  ops::AttentionShape shape;
  shape.head_dim = d, shape.scale = scale;
  ops::attention_core_forward<double>(shape, sequences, watch, {});
  return seen;
}

static double deviation(const Matrix<double>& x) { return std::sqrt((x.array() - x.mean()).square().mean()); }
// −Σ p·log p of each row, in nats: log U when all weights are equal, 0 when one key has everything. The mean over the rows.
static double entropy(const Matrix<double>& p) { return -(p.array() * (p.array() + 1e-300).log()).rowwise().sum().mean(); }

int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    // %% [markdown]
    // ## How large is a dot product?
    // Let the $d$ numbers of $q$ and of $k$ be independent, with mean 0 and variance 1. Each product $q_i k_i$ then has mean 0 and
    // variance 1, and variances of independent terms add:
    //
    // $$\mathrm{Var}(q \cdot k) = \sum_{i=1}^{d} \mathrm{Var}(q_i k_i) = d$$
    //
    // So scores grow like $\sqrt d$, only because heads are wide. We draw 2,000 pairs for each width and let the engine score them with
    // scale 1.

    // %%
    const RandomStream dice = RandomStream{nb.seed()}.at("attention");
    const std::vector<Index> widths = {4, 16, 64, 256, 1024};
    story::Table variances{"variances", {"d", "Var(q·k)", "Var(q·k)/d", "standard error"}, {}};
    double furthest = 0;
    for (const Index d : widths) {
      const RandomStream stream = dice.at("pairs").at(static_cast<std::uint64_t>(d));
      const Matrix<double> score = attend(normal(2000, d, stream.at("q")), normal(2000, d, stream.at("k")), 1).scores;  // [2000, 1]
      const Matrix<double> square = (score.array() - score.mean()).square() / static_cast<double>(d);
      const Mean ratio = mean_with_error({square.data(), static_cast<std::size_t>(square.size())});
      furthest = std::max(furthest, std::abs(ratio.mean - 1) / ratio.standard_error);
      variances.rows.push_back({fmt::format("{}", d), ratio.mean * static_cast<double>(d), ratio.mean, ratio.standard_error});
    }
    nb.show(variances, within(0.01));
    nb.claim("Var(q·k)/d is 1 within three standard errors for d = 4, 16, 64, 256 and 1024", furthest < 3,
             fmt::format("the furthest is {:.1f} standard errors away", furthest));

    // %% [markdown]
    // ## What do large scores do to the softmax?
    // Now each query reads 64 keys. We look at the entropy of its weights, $-\sum_j p_j \ln p_j$: at most $\ln 64 = 4.16$ nats, when it
    // looks everywhere, and 0 when one key takes everything. And at what the softmax passes back, for a gradient $g$ of random numbers
    // at its output:
    //
    // $$\frac{\partial L}{\partial s_j} = p_j \Big(g_j - \sum_i g_i p_i\Big)$$
    //
    // When one $p_j$ is 1, every one of these is 0: the head has made up its mind and can no longer be taught.

    // %%
    story::Table softness{
        "softness",
        {"d", "entropy, divided", "entropy, not", "gradient, divided", "gradient, not", "root mean square, divided", "not"},
        {}};
    std::vector<double> x, entropy_scaled, entropy_plain, gradient_scaled, gradient_plain;
    struct Gradient {
      double median, root_mean_square;  // of ‖∂L/∂s‖, over the queries
    };
    const auto passed_back = [&](const Matrix<double>& p, Index d) {
      Matrix<double> ds(p.rows(), p.cols());
      ops::softmax_backward<double>(p, normal(p.rows(), p.cols(), dice.at("gradient").at(static_cast<std::uint64_t>(d))), ds, {});
      Vector<double> norms = ds.rowwise().norm().transpose();
      std::sort(norms.begin(), norms.end());
      return Gradient{norms[norms.size() / 2], std::sqrt(norms.array().square().mean())};
    };
    for (const Index d : widths) {
      const RandomStream stream = dice.at("keys").at(static_cast<std::uint64_t>(d));
      const Matrix<double> q = normal(200, d, stream.at("q")), k = normal(200 * 64, d, stream.at("k"));
      const Matrix<double> scaled = attend(q, k, 1 / std::sqrt(static_cast<double>(d))).pattern, plain = attend(q, k, 1).pattern;
      x.push_back(static_cast<double>(d));
      entropy_scaled.push_back(entropy(scaled)), entropy_plain.push_back(entropy(plain));
      const Gradient of_scaled = passed_back(scaled, d), of_plain = passed_back(plain, d);
      gradient_scaled.push_back(of_scaled.median), gradient_plain.push_back(of_plain.median);
      softness.rows.push_back({fmt::format("{}", d), entropy_scaled.back(), entropy_plain.back(), of_scaled.median, of_plain.median,
                               of_scaled.root_mean_square, of_plain.root_mean_square});
    }
    softness.decimals = 4;
    nb.show(softness, within(0.001));
    plot::Chart chart;
    chart.title = "Entropy of 64 weights", chart.x_label = "d", chart.y_label = "nats", chart.x_log = true, chart.x = x;
    chart.series = {{"q·k/√d", entropy_scaled}, {"q·k", entropy_plain}};
    nb.show(story::Chart{"entropy", chart}, within(0.001));

    // %%
    const auto [least, most] = std::minmax_element(entropy_scaled.begin(), entropy_scaled.end());
    nb.claim("with the division the entropy stays between 3.4 and 3.8 nats whatever the width", *least > 3.4 && *most < 3.8,
             fmt::format("{:.2f} to {:.2f} nats", *least, *most));
    const auto falls = [](const std::vector<double>& y) { return std::is_sorted(y.rbegin(), y.rend()) && y.back() < y.front(); };
    nb.claim("without it the entropy falls with every width, below 0.3 nats at d = 1024",
             falls(entropy_plain) && entropy_plain.back() < 0.3,
             fmt::format("{:.2f} nats at d = 4, {:.2f} at d = 1024", entropy_plain.front(), entropy_plain.back()));
    const auto [least_gradient, most_gradient] = std::minmax_element(gradient_scaled.begin(), gradient_scaled.end());
    nb.claim(
        "without it the median query's gradient falls with every width from d = 16 on, below a twentieth at d = 1024; with it it stays the "
        "same within a quarter",
        std::is_sorted(gradient_plain.rbegin(), gradient_plain.rend() - 1) && gradient_plain.back() < gradient_plain[1] / 20 &&
            *most_gradient < 1.25 * *least_gradient,
        fmt::format("{:.3f} at d = 16, {:.4f} at 1024; divided {:.3f} to {:.3f}", gradient_plain[1], gradient_plain.back(), *least_gradient,
                    *most_gradient));

    // %% [markdown]
    // What did *not* appear: the mean square of the gradient does not fall (the last two columns). A few queries stand between two keys
    // of nearly equal score, and these get all the gradient there is, in large kicks. Half of the queries get next to nothing. So the
    // textbook's "the gradient vanishes" is true of the median query, not of the mean.

    // %% [markdown]
    // ## But trained queries and keys have no unit variance
    // The argument holds when training begins: weights drawn with deviation $1/\sqrt C$ make $q$ and $k$ of unit variance out of a
    // normed stream. Nothing keeps them there. We train a small model on generated stories (2 layers, 4 heads of width 16, RoPE,
    // characters) and measure each head before and after.

    // %%
    const ToyText text = toy_text(CorpusKind::stories, 300'000, nb.seed());
    const ModelConfig config = {.context = 64,
                                .layers = 2,
                                .heads = 4,
                                .width = 64,
                                .position = Position::rope,
                                .bias = false,
                                .tied = false,
                                .init_std = 0.125,
                                .embedding_std = 1};
    const TrainOptions options = {.steps = 250, .batch = 16, .rate = 1e-2, .min_rate = 1e-3, .warmup = 20, .seed = nb.seed()};
    ModelConfig untrained_config = config;
    untrained_config.vocab = text.tokenizer.vocab_size();
    Decoder<float> untrained = make_decoder<float>(resolved(untrained_config));
    initialize(untrained, nb.seed());
    const ToyRun honest = train_toy(nb, "masked", config, options, text);

    // %%
    // Deviations of q and of k of one head over a text of 64 characters, and of q·k/√d where a query sees a key.
    const std::span<const Token> window(text.val.data(), 64);
    struct HeadSize {
      double q, k, score;
    };
    const auto head_sizes = [&](const Decoder<float>& model) {
      std::vector<HeadSize> all;
      Recorder<float> seen;
      decoder_read<float>(model, window, {.exec = nb.exec(), .trace = &seen});
      const Index d = model.config.head_dim;
      for (Index layer = 0; layer < model.config.layers; ++layer) {
        const std::string at = fmt::format("blocks.{}.attn.", layer);
        for (Index h = 0; h < model.config.heads; ++h) {
          const Matrix<float>& scores = seen.at(at + "attn_scores", 0, h);  // [T, T], −∞ where masked
          std::vector<double> seen_scores;
          for (const float s : scores.reshaped()) {
            if (std::isfinite(s)) seen_scores.push_back(s);
          }
          const auto of_head = [&](const char* site) { return deviation(seen.at(at + site).middleCols(h * d, d).cast<double>()); };
          all.push_back({of_head("q"), of_head("k"),
                         deviation(Eigen::Map<const Matrix<double>>(seen_scores.data(), 1, static_cast<Index>(seen_scores.size())))});
        }
      }
      return all;
    };
    const auto before = head_sizes(untrained), after = head_sizes(honest.model);
    story::Table sizes{"sizes", {"layer", "head", "q before", "k before", "score before", "q after", "k after", "score after"}, {}, 2};
    double highest = 0, begin = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
      sizes.rows.push_back({fmt::format("{}", i / 4), fmt::format("{}", i % 4), before[i].q, before[i].k, before[i].score, after[i].q,
                            after[i].k, after[i].score});
      highest = std::max(highest, after[i].score), begin = std::max(begin, std::abs(before[i].score - 1));
    }
    nb.show(sizes, kind_only);
    nb.claim("before training every head's scores deviate by 1 within 0.35; after it some head's scores deviate by more than 2",
             begin < 0.35 && highest > 2, fmt::format("before at most {:.2f} from 1, after up to {:.2f}", begin, highest));

    // %% [markdown]
    // So $\sqrt d$ is a good beginning and no law: a head that wants a sharp choice makes its $q$ and $k$ larger. Does a model learn
    // without the division at all? We set the scale of every head to 1 and train the same way, once with heads of width 16 and once
    // with a single head of width 64.

    // %%
    const auto train_with = [&](const char* name, Index heads, bool divided) {
      ModelConfig c = config;
      c.vocab = text.tokenizer.vocab_size(), c.heads = heads;
      Decoder<float> model = make_decoder<float>(resolved(c));
      initialize(model, nb.seed());
      if (!divided) {
        for (BlockParams<float>& block : model.blocks) block.attention.config.core.scale = 1;
      }
      return train_more(nb, name, model, options, text_batches(text.train, options.batch, config.context, options.seed));
    };
    const auto wide = train_with("d = 64, divided", 1, true), wide_plain = train_with("d = 64, not divided", 1, false);
    const auto narrow_plain = train_with("d = 16, not divided", 4, false);
    nb.show(loss_chart("undivided", "Loss with and without the division",
                       {{"d 16, q·k/√d", honest.losses}, {"d 16, q·k", narrow_plain}, {"d 64, q·k/√d", wide}, {"d 64, q·k", wide_plain}}),
            kind_only);
    const auto last = [](const std::vector<double>& losses) {
      return mean_of(losses, static_cast<Index>(losses.size()) - 50, static_cast<Index>(losses.size()));
    };
    const double lost_narrow = last(narrow_plain) - last(honest.losses), lost_wide = last(wide_plain) - last(wide);
    nb.show(story::Table{"lost",
                         {"head width", "loss with q·k/√d", "loss with q·k", "lost"},
                         {{"16", last(honest.losses), last(narrow_plain), lost_narrow}, {"64", last(wide), last(wide_plain), lost_wide}}},
            kind_only);
    nb.claim(
        "without the division training ends worse: by more than 0.05 nats with heads of width 16 and by more than 0.1 with one of width 64",
        lost_narrow > 0.05 && lost_wide > 0.1, fmt::format("{:.3f} and {:.3f} nats", lost_narrow, lost_wide));

    // %% [markdown]
    // ## What does the mask do?
    // Training asks for the next token at every place at once: the target of place $t$ is the token at place $t+1$. Without a mask
    // attention may look there. The mask sets the score of every later key to $-\infty$, so its weight is exactly 0.
    //
    // First the plain fact: change the last character of a text. With the mask nothing before it may notice.

    // %%
    const auto with_mask = [](Decoder<float> model, bool causal) {  // the same weights, the mask on or off
      model.config.causal = causal;
      for (BlockParams<float>& block : model.blocks) block.attention.config.core.causal = causal;
      return model;
    };
    std::vector<Token> changed(window.begin(), window.end());
    changed.back() = (changed.back() + 1) % static_cast<Token>(text.tokenizer.vocab_size());
    const auto noticed = [&](const Decoder<float>& model) {  // the largest change of any logit before the changed character
      const Matrix<float> a = decoder_read<float>(model, window, {.exec = nb.exec()}),
                          b = decoder_read<float>(model, changed, {.exec = nb.exec()});
      return static_cast<double>((a - b).topRows(63).cwiseAbs().maxCoeff());
    };
    const double notices_masked = noticed(with_mask(honest.model, true)), notices_unmasked = noticed(with_mask(honest.model, false));
    nb.show(story::Number{"noticed", "change of earlier logits, masked", notices_masked, 6}, exactly);
    nb.claim("with the mask no earlier logit changes by a single bit, without it they do", notices_masked == 0 && notices_unmasked > 0.01,
             fmt::format("{} with, {:.2f} without", notices_masked, notices_unmasked));

    // %% [markdown]
    // Now we train without it. The loss has a floor that no honest model goes below: the stories come from a grammar, so their entropy
    // is known.

    // %%
    ModelConfig open = config;
    open.causal = false;
    const ToyRun cheat = train_toy(nb, "no mask", open, options, text);
    nb.show(loss_chart("mask", "Loss with and without the mask", {{"masked", honest.losses}, {"no mask", cheat.losses}}), kind_only);
    const auto score = [&](const Decoder<float>& model) {
      return score_tokens(model, text.tokenizer, std::span(text.val).first(8192), 64, nb.exec()).loss_nats();
    };
    const double floor = text.source_bits_per_byte * std::log(2.0), honest_loss = score(honest.model), cheat_loss = score(cheat.model);
    const double cheat_writes = score(with_mask(cheat.model, true));
    nb.show(story::Table{"losses",
                         {"model", "nats a character"},
                         {{"the source itself: its entropy", floor},
                          {"trained with the mask", honest_loss},
                          {"trained without, scored without", cheat_loss},
                          {"trained without, scored as it must write: the next character does not exist yet", cheat_writes}}},
            kind_only);
    nb.claim("without the mask the loss falls below 0.1 nats a character, far below the entropy of the source",
             cheat_loss < 0.1 && cheat_loss < floor / 2, fmt::format("{:.3f} nats; the source has {:.3f}", cheat_loss, floor));
    nb.claim("asked to predict what does not exist yet, the same model is at least 1 nat worse than the one trained with the mask",
             cheat_writes > honest_loss + 1, fmt::format("{:.2f} against {:.2f} nats", cheat_writes, honest_loss));

    // %% [markdown]
    // A loss below the entropy of the source is no triumph, it is an alarm: the answer has leaked into the question. The text tells at
    // once.

    // %%
    const auto writes = [&](const Decoder<float>& model) {
      GenerateOptions o;
      o.max_tokens = 120, o.seed = nb.seed(), o.exec = nb.exec();
      return generate(model, text.tokenizer, "Once", o).text;
    };
    nb.show(
        story::Table{
            "texts", {"model", "Once …"}, {{"with the mask", writes(honest.model)}, {"without", writes(with_mask(cheat.model, true))}}},
        kind_only);

    // %% [markdown]
    // And where does the cheat look? We take each head's weight on the very next character, averaged over a text, and show the head
    // with most of it. Beside it a head of the masked model: above the diagonal its weights do not exist.

    // %%
    Recorder<float> of_cheat, of_honest;
    decoder_read<float>(cheat.model, window, {.exec = nb.exec(), .trace = &of_cheat});
    decoder_read<float>(honest.model, window, {.exec = nb.exec(), .trace = &of_honest});
    Site looks_ahead;
    double most_ahead = -1;
    for (const auto& [site, values] : of_cheat.values()) {
      if (!site.name.ends_with(".pattern")) continue;
      const double ahead = values.diagonal(1).mean();
      if (ahead > most_ahead) most_ahead = ahead, looks_ahead = site;
    }
    const auto corner = [&](const Recorder<float>& seen, bool masked) {  // the first 24 places
      Matrix<double> p = seen.at(looks_ahead.name, 0, looks_ahead.head).topLeftCorner(24, 24).cast<double>();
      for (Index t = 0; masked && t < 24; ++t) p.row(t).tail(23 - t).setConstant(NAN);
      return p;
    };
    std::vector<std::string> labels;
    for (Index t = 0; t < 24; ++t) labels.emplace_back(text.tokenizer.token_bytes(window[static_cast<std::size_t>(t)]));
    nb.show(story::Paragraph{"Trained without the mask: the head that looks ahead."}, exactly);
    nb.show(story::Picture{"looks_ahead", corner(of_cheat, false), labels, labels}, kind_only);
    nb.show(story::Paragraph{"Trained with the mask: the head at the same place."}, exactly);
    nb.show(story::Picture{"masked", corner(of_honest, true), labels, labels}, kind_only);
    nb.claim("a head of the unmasked model gives the next character more than half of its weight", most_ahead > 0.5,
             fmt::format("{:.2f} on average, by head {} of {}", most_ahead, looks_ahead.head, looks_ahead.name));

    // %% [markdown]
    // ## In an interview
    // - *Why $\sqrt d$?* The dot product of two vectors with independent entries of variance 1 has variance $d$. Undivided, wide heads
    //   begin saturated: their softmax is nearly one-hot and passes little gradient back. Training may enlarge $q$ and $k$ later; the
    //   division only sets where it begins.
    // - *What does the mask do?* It lets one pass train all $T$ predictions of a text, each seeing only what comes before. It makes
    //   training like writing.
    // - *How would you notice that it is missing?* A training loss too good to be true (below the entropy of the data), and text that
    //   is worthless. A direct test: change the last token, and no earlier logit may move.

    // %%
  });
}
