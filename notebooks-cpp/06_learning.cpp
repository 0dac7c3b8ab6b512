// %% [markdown]
// # 06 How does it learn? Pre-norm or post-norm?
//
// Learning is one loop: run the model on a piece of text, measure how surprised it was, ask for every parameter $\theta$ in which
// direction the surprise falls, and take a small step that way.
//
// $$L(\theta) = -\frac1N \sum_{n} \ln p_\theta(\text{next token}_n) \qquad \theta \leftarrow \theta - \eta \cdot
// \text{AdamW}\Big(\frac{\partial L}{\partial \theta}\Big)$$
//
// Three questions about it. Are the derivatives right? Why do some models need a warm-up? And when is a loss good?

// %%
#include <cmath>

#include "glassformer/autograd/tape.hpp"
#include "glassformer/explain/gradient_check.hpp"
#include "glassformer/notebook/toy.hpp"
#include "glassformer/ops/linear.hpp"
#include "glassformer/ops/loss.hpp"
#include "glassformer/ops/reference/linear.hpp"
#include "glassformer/ops/reference/loss.hpp"
#include "program.hpp"

using namespace glassformer;

static Matrix<double> normal(Index rows, Index columns, const RandomStream& stream) {
  Matrix<double> x(rows, columns);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = random_normal(stream, static_cast<std::uint64_t>(i));
  return x;
}
template <class S>
static MatrixView<S> view(Matrix<S>& x) {
  return {x.data(), x.rows(), x.cols()};
}
// ‖a − b‖/(‖a‖ + ‖b‖): 0 when equal, 1 when they have nothing in common.
static double error(const Matrix<double>& a, const Matrix<double>& b) { return (a - b).norm() / (a.norm() + b.norm()); }

int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    // %% [markdown]
    // ## One derivative, three ways
    // The smallest model of language: features $x$ [4, 3], logits $s = x W^\top$ over 5 tokens, and the cross-entropy of the right
    // ones.
    //
    // $$L = \frac14 \sum_n \Big(\ln \sum_j e^{s_{nj}} - s_{n,y_n}\Big)$$
    //
    // **By hand.** The chain rule, worked out on paper. The softmax and the logarithm together leave almost nothing:
    //
    // $$\frac{\partial L}{\partial s_{nj}} = \frac14 \left(p_{nj} - [j = y_n]\right) \qquad \frac{\partial L}{\partial W} =
    // \Big(\frac{\partial L}{\partial s}\Big)^{\!\top} x$$
    //
    // That is what the engine's kernels do, and what trains every model here.

    // %%
    const RandomStream dice = RandomStream{nb.seed()}.at("learning");
    const Matrix<double> x = normal(4, 3, dice.at("x"));
    Matrix<double> W = normal(5, 3, dice.at("W"));
    const std::vector<Token> targets = {2, 0, 4, 2};
    const auto loss_of = [&] {
      Matrix<double> s(4, 5);
      std::vector<double> losses(4);
      ops::linear_forward<double>(x, view(W), {}, s, {});
      ops::cross_entropy<double>(s, targets, losses, false, 1, {});
      return (losses[0] + losses[1] + losses[2] + losses[3]) / 4;
    };
    Matrix<double> s(4, 5), by_hand = Matrix<double>::Zero(5, 3);
    std::vector<double> losses(4);
    ops::linear_forward<double>(x, view(W), {}, s, {});
    ops::cross_entropy<double>(s, targets, losses, true, 0.25, {});                          // s becomes ∂L/∂s
    ops::linear_backward_parameters<double>(x, s, view(by_hand), MatrixView<double>{}, {});  // ∂L/∂W
    nb.show(story::Grid{"by_hand", by_hand, {}, {}, 6}, within(1e-5));

    // %% [markdown]
    // **By a tape.** The same formulas run on numbers that write down every operation and its local derivative; one sweep from the end
    // multiplies and adds. It knows nothing about softmax.

    // %%
    Tape tape;
    const Matrix<Var> X = x.unaryExpr([](double v) { return Var(v); });
    Matrix<Var> on_tape = tape.variables(W), S(4, 5);
    std::vector<Var> var_losses(4);
    ops::reference::linear_forward<Var>(X, view(on_tape), {}, S);
    ops::reference::cross_entropy<Var, Var>(S, targets, var_losses, false, Var(1));
    const Var L = (var_losses[0] + var_losses[1] + var_losses[2] + var_losses[3]) / 4;
    const Matrix<double> by_tape = tape.backward(L)(on_tape);
    nb.show(story::Number{"nodes", "operations on the tape", static_cast<double>(tape.size()), 0}, exactly);

    // %% [markdown]
    // **By differences.** No calculus at all: nudge one weight up and down by $h$ and see what the loss does, $\big(L(W_{ij}+h) -
    // L(W_{ij}-h)\big)/2h$. Slow, and only as good as $h$: too large and the curve is no line, too small and rounding drowns the
    // difference. The error has a valley.

    // %%
    const auto by_differences = [&](double h) {
      Matrix<double> d(5, 3);
      for (Index i = 0; i < d.size(); ++i) {
        const double w = W.data()[i];
        W.data()[i] = w + h;
        const double up = loss_of();
        W.data()[i] = w - h;
        d.data()[i] = (up - loss_of()) / (2 * h);
        W.data()[i] = w;
      }
      return d;
    };
    plot::Chart valley;
    valley.title = "Error of the differences by their step h", valley.x_label = "h",
    valley.y_label = "‖differences − by hand‖/sum of norms";
    valley.x_log = valley.y_log = true, valley.series = {{"error", {}}};
    for (double h = 1e-12; h < 2; h *= 10) valley.x.push_back(h), valley.series[0].y.push_back(error(by_differences(h), by_hand));
    nb.show(story::Chart{"valley", valley}, kind_only);
    const double of_tape = error(by_tape, by_hand), of_differences = error(by_differences(1e-5), by_hand);
    nb.claim("by hand, by tape and by differences (h = 1e-5) agree within 1e-6", of_tape < 1e-6 && of_differences < 1e-6,
             fmt::format("tape {:.1e}, differences {:.1e}", of_tape, of_differences));

    // %% [markdown]
    // The same test on a whole decoder: two layers, RoPE, RMSNorm, SwiGLU, two query heads on one key-value head. Here only the
    // differences are a second opinion (`tests/autograd` puts whole decoders on the tape). To see that the test can fail, we then plant
    // a mistake: the gradient of one layer's attention output is 1% too large on its way back.

    // %%
    GradientCheckOptions check;
    check.config = {.vocab = 11,
                    .context = 8,
                    .layers = 2,
                    .heads = 2,
                    .kv_heads = 1,
                    .width = 8,
                    .position = Position::rope,
                    .norm = ops::Norm::rms,
                    .mlp = Mlp::swiglu};
    check.seed = nb.seed(), check.entries = 8;
    const auto right = check_gradients(check);
    struct OnePercent : Trace<double> {
      bool wants(std::string_view site) const override { return site == "blocks.0.attn_out.grad"; }
      void visit(const Site&, MatrixRef<double> gradient) override { gradient *= 1.01; }
    } mistake;
    check.trace = &mistake;
    const auto wrong = check_gradients(check);
    story::Table tensors{"tensors", {"tensor", "gradient's norm", "log₁₀ of error", "with the planted mistake"}, {}, 1};
    for (std::size_t i = 0; i < right.size(); ++i) {
      if (!right[i].name.starts_with("blocks.1.ln")) {
        tensors.rows.push_back(
            {right[i].name, right[i].analytic_norm, std::log10(right[i].error + 1e-300), std::log10(wrong[i].error + 1e-300)});
      }
    }
    nb.show(tensors, kind_only);
    nb.claim("every tensor's gradient agrees with differences within 1e-6, and a gradient that is 1% wrong in one layer does not",
             worst_check(right).error < 1e-6 && worst_check(wrong).error > 1e-4,
             fmt::format("worst {:.1e}; with the mistake {:.1e} in {}", worst_check(right).error, worst_check(wrong).error,
                         worst_check(wrong).name));

    // %% [markdown]
    // The mistake shows in every tensor whose gradient comes back through layer 0's attention, and nowhere else: this is how a table of
    // errors leads to the line that is wrong.
    //
    // ## Before the norm, or after the sum?
    // A block adds what it computes to the stream. The first transformers normed the sum; nearly all since GPT-2 norm what the block
    // reads and leave the stream alone:
    //
    // $$\text{post-norm: } x \leftarrow \mathrm{norm}\big(x + f(x)\big) \qquad\qquad \text{pre-norm: } x \leftarrow x +
    // f(\mathrm{norm}(x))$$
    //
    // Post-norm came with a ritual: begin with a tiny learning rate and raise it over some steps, the *warm-up*, or training fails
    // (Xiong et al. 2020). We train 12 layers of width 32 for 150 steps: at a high rate (1e-2) with and without 75 steps of warm-up,
    // and at a gentle one (3e-3) without.

    // %%
    const ToyText text = toy_text(CorpusKind::stories, 300'000, 1);
    const ModelConfig deep = {.context = 32,
                              .layers = 12,
                              .heads = 2,
                              .width = 32,
                              .position = Position::rope,
                              .bias = false,
                              .tied = false,
                              .init_std = 1 / std::sqrt(32.0),
                              .embedding_std = 1};
    const auto score = [&](const Decoder<float>& model, Index context) {
      return score_tokens(model, text.tokenizer, std::span(text.val).first(8192), context, nb.exec()).loss_nats();
    };
    struct Run {
      std::vector<double> losses;
      double validation;
      Decoder<float> model;
    };
    const auto train = [&](NormPlacement placement, double rate, Index warmup) {
      ModelConfig c = deep;
      c.placement = placement;
      const TrainOptions o = {.steps = 150, .batch = 16, .rate = rate, .min_rate = rate / 10, .warmup = warmup, .seed = nb.seed()};
      const ToyRun run = train_toy(nb, fmt::format("{}-norm, rate {}, warm-up {}", choice_name(placement), rate, warmup), c, o, text);
      return Run{run.losses, score(run.model, c.context), run.model};
    };
    const Run pre = train(NormPlacement::pre, 1e-2, 0), pre_warm = train(NormPlacement::pre, 1e-2, 75);
    const Run post = train(NormPlacement::post, 1e-2, 0), post_warm = train(NormPlacement::post, 1e-2, 75);
    const Run gentle_pre = train(NormPlacement::pre, 3e-3, 0), gentle_post = train(NormPlacement::post, 3e-3, 0);

    // %% [markdown]
    // To read the numbers we need two marks. One is the loss of a model that has learned only how frequent each character is and
    // ignores the text before it, the *unigram* loss: the entropy of the counts. A model that stays there has learned nothing about
    // language.

    // %%
    std::vector<double> counts(static_cast<std::size_t>(text.tokenizer.vocab_size()));
    for (const Token t : text.train) counts[static_cast<std::size_t>(t)] += 1.0 / static_cast<double>(text.train.size());
    double unigram = 0;
    for (const double p : counts) unigram -= p > 0 ? p * std::log(p) : 0;
    nb.show(story::Number{"unigram", "unigram loss", unigram, 3, "nats a character"}, exactly);
    nb.show(
        loss_chart("placement", "12 layers at a rate of 1e-2",
                   {{"pre", pre.losses}, {"pre, warm-up", pre_warm.losses}, {"post", post.losses}, {"post, warm-up", post_warm.losses}}),
        kind_only);
    nb.show(story::Table{"placements",
                         {"norm", "rate", "warm-up", "validation loss"},
                         {{"pre", "3e-3", "none", gentle_pre.validation},
                          {"post", "3e-3", "none", gentle_post.validation},
                          {"pre", "1e-2", "none", pre.validation},
                          {"pre", "1e-2", "75 steps", pre_warm.validation},
                          {"post", "1e-2", "none", post.validation},
                          {"post", "1e-2", "75 steps", post_warm.validation}}},
            kind_only);
    nb.claim(
        "at a rate of 1e-2 without warm-up post-norm stays at the unigram loss within 0.05 nats, and pre-norm is at least 0.8 nats below "
        "it",
        std::abs(post.validation - unigram) < 0.05 && pre.validation < unigram - 0.8,
        fmt::format("post {:.3f}, pre {:.3f}, unigram {:.3f}", post.validation, pre.validation, unigram));
    nb.claim("with warm-up both learn: each at least 0.8 nats below the unigram loss",
             pre_warm.validation < unigram - 0.8 && post_warm.validation < unigram - 0.8,
             fmt::format("post {:.3f}, pre {:.3f}", post_warm.validation, pre_warm.validation));
    nb.claim("at a rate of 3e-3 post-norm needs no warm-up: it ends within 0.1 nats of pre-norm",
             std::abs(gentle_post.validation - gentle_pre.validation) < 0.1,
             fmt::format("post {:.3f}, pre {:.3f}", gentle_post.validation, gentle_pre.validation));

    // %% [markdown]
    // So "post-norm needs warm-up" is half of a sentence: it needs one *at a rate that pre-norm stands without*. Why? The paper's
    // reason is that before the first step post-norm's last blocks have much the larger gradients. We look at the gradient of each
    // block's last matrix: before the first step, and after the 150 steps without warm-up.

    // %%
    const auto block_gradients = [&](Decoder<float> model) {
      Trainer<float> trainer(
          model, {.steps = 1, .rate = 1e-9, .min_rate = 0, .warmup = 0, .weight_decay = 0, .seed = nb.seed(), .exec = nb.exec()});
      trainer.step(text_batches(text.train, 64, deep.context, nb.seed()));  // only for its gradients: the rate is next to nothing
      std::vector<double> norms;
      for (Index i = 0; i < deep.layers; ++i)
        norms.push_back((*trainer.gradients().arena.view(fmt::format("blocks.{}.mlp.down.weight", i))).norm());
      return norms;
    };
    const auto newborn = [&](NormPlacement placement) {
      ModelConfig c = deep;
      c.placement = placement, c.vocab = text.tokenizer.vocab_size();
      Decoder<float> model = make_decoder<float>(resolved(c));
      initialize(model, nb.seed());
      return model;
    };
    plot::Chart gradients;
    gradients.title = "Gradient of each block's last matrix", gradients.x_label = "block", gradients.y_label = "norm",
    gradients.y_log = true;
    gradients.series = {{"pre, at first", block_gradients(newborn(NormPlacement::pre))},
                        {"post, at first", block_gradients(newborn(NormPlacement::post))},
                        {"pre, trained", block_gradients(pre.model)},
                        {"post, stuck", block_gradients(post.model)}};
    for (plot::Series& series : gradients.series) {
      for (double& y : series.y) y = std::max(y, 1e-12);  // so that a logarithm exists
    }
    for (Index i = 0; i < deep.layers; ++i) gradients.x.push_back(static_cast<double>(i));
    nb.show(story::Chart{"gradients", gradients}, kind_only);
    const auto largest_ratio = [](const std::vector<double>& y) {
      return *std::max_element(y.begin(), y.end()) / *std::min_element(y.begin(), y.end());
    };
    const auto& at_first = gradients.series[1].y;
    const double pre_share = gradients.series[2].y.front() / gradients.series[2].y.back(),
                 post_share = gradients.series[3].y.front() / gradients.series[3].y.back();
    nb.claim("before the first step no block's gradient in post-norm is more than four times another's", largest_ratio(at_first) < 4,
             fmt::format("{:.2f} times", largest_ratio(at_first)));
    nb.claim(
        "in the stuck post-norm model the first block's gradient is less than a thousandth of the last's; in the trained pre-norm model "
        "more than a tenth",
        post_share < 1e-3 && pre_share > 0.1, fmt::format("post {:.1e}, pre {:.2f}", post_share, pre_share));

    // %% [markdown]
    // What did *not* appear: large gradients in the last blocks before the first step. Drawn as GPT-2 is, with each block's output
    // divided by $\sqrt{2L}$, post-norm begins as well as pre-norm. The damage comes from the first large steps. Afterwards the
    // gradient fades from the last block to the first by a constant factor a block, a straight line on this axis. (A norm's backward
    // pass divides by the deviation of what it normed, so sums that have grown pass on less.) The model stays where it is, at the
    // frequencies of the characters, which the head alone can learn. In pre-norm the stream leads past every block, and a gradient
    // always arrives.

    // %% [markdown]
    // ## When is a loss good?
    // The other mark is the floor. The stories come from a grammar, and the grammar's own surprise at its texts is known: the entropy
    // of the source. No model, however large, stays below it on new text. We train a broader model of two layers and watch its distance
    // to the floor.

    // %%
    const ModelConfig broad = {.context = 128,
                               .layers = 2,
                               .heads = 4,
                               .width = 64,
                               .position = Position::rope,
                               .bias = false,
                               .tied = false,
                               .init_std = 0.125,
                               .embedding_std = 1};
    const TrainOptions longer = {.steps = 500, .batch = 8, .rate = 1e-2, .min_rate = 1e-3, .warmup = 20, .muon = true, .seed = nb.seed()};
    const ToyRun run = train_toy(nb, "2 layers", broad, longer, text);
    const double floor = text.source_bits_per_byte * std::log(2.0),
                 reached = score(run.model, broad.context);  // ASCII: a character is a byte
    const std::vector<double> at_unigram(run.losses.size(), unigram), at_floor(run.losses.size(), floor);
    nb.show(
        loss_chart("floor", "Loss between its two marks", {{"unigram", at_unigram}, {"the model", run.losses}, {"the source", at_floor}}),
        kind_only);
    nb.show(story::Table{"marks",
                         {"", "nats a character", "bits a byte"},
                         {{"unigram", unigram, unigram / std::log(2.0)},
                          {"the model, on new text", reached, reached / std::log(2.0)},
                          {"the source", floor, text.source_bits_per_byte}}},
            kind_only);
    nb.claim("the model has closed more than two thirds of the way from the unigram loss to the entropy of the source, and is not below it",
             reached > floor && reached < unigram - (unigram - floor) * 2 / 3,
             fmt::format("{:.3f} nats, between {:.3f} and {:.3f}", reached, floor, unigram));

    // %% [markdown]
    // What is left of the distance? Partly training, partly sight: a story refers back further than 128 characters, and what the window
    // cut off cannot be known. The loss by place says how much seeing more helps.

    // %%
    const std::vector<double> places = loss_by_place(run.model, text.val, 128, 200, nb.exec());
    const double early = mean_of(places, 8, 24), late = mean_of(places, 112, 128);
    nb.show(
        story::Table{"sight", {"characters seen before", "nats a character"}, {{"0", places[0]}, {"8 to 23", early}, {"112 to 127", late}}},
        kind_only);
    nb.claim("the loss after 112 characters is lower than after 8 to 23", late < early,
             fmt::format("{:.3f} against {:.3f} nats", late, early));

    // %% [markdown]
    // ## In an interview
    // - *How do you know that a backward pass is right?* Compare it with something that cannot share its mistake: differences of the
    //   loss, in double precision, tensor by tensor, and see the comparison fail on a planted mistake.
    // - *Pre- or post-norm?* Pre-norm trains deep stacks at high rates without warm-up. Post-norm can be as good, but wants warm-up,
    //   because large first steps can leave its first blocks without any gradient. At a gentle rate there is no difference.
    // - *Is a loss of 1.2 good?* Only against marks: the unigram loss above, the entropy of the data below. Below the entropy is not
    //   better, it is a leak.

    // %%
  });
}
