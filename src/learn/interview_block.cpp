// Questions about what a decoder is made of: parameters, shapes, operations.
#include <cmath>

#include "glassformer/model/reading.hpp"
#include "learn/formulas.hpp"
#include "learn/interview.hpp"
#include "learn/operations.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }
double laid_out(const ModelConfig& c) { return number(make_decoder<float>(c).arena.layout().parameters()); }

// Parameters of one layer: those of two layers less those of one.
double laid_out_block(ModelConfig c) {
  c.layers = 1;
  const double one = laid_out(c);
  c.layers = 2;
  return laid_out(c) - one;
}

InterviewQuestion block_size(std::uint64_t seed) {
  Draws d(seed, "block-parameters");
  const Index C = d.one_of({32, 64, 100, 128, 256});
  const ModelConfig c = gpt2_like(1, 4, C, 16, 16);
  return {.id = "block-parameters",
          .text = fmt::format("About how many parameters has one block of a GPT-2 of width {}, its MLP four times as wide?", C),
          .unit = "parameters",
          .tolerance = {0.1, 0},
          .compute = [=] { return laid_out_block(c); },
          .formula = block_parameters(c),
          .derivation = fmt::format("Attention 4C², MLP 2·C·4C = 8C²: 12·{}² = {}. Biases 9C and two LayerNorms 4C add 13C = {}: {}.", C,
                                    grouped(number(12 * C * C)), grouped(number(13 * C)), grouped(block_parameters(c))),
          .carry_over = fmt::format("GPT-2, width 768: {} a block, 12 of them.", grouped(block_parameters(gpt2_small()))),
          .carry_over_number = block_parameters(gpt2_small()),
          .follow_up = "Double the width or double the layers: which adds more?",
          .follow_up_answer =
              "The width: parameters and operations of a block grow with C², with the number of layers only linearly. But layers run one "
              "after the other, so "
              "at equal parameters the wide model has the lower latency.",
          .read = {"docs/block.md", "glassformer explain block", "notebook 05"}};
}

InterviewQuestion gpt_size(std::uint64_t seed) {
  Draws d(seed, "block-gpt");
  const Index L = d.between(2, 6), C = d.one_of({64, 96, 128}), V = d.one_of({1000, 2000, 4000}), T = d.one_of({128, 256, 512});
  const ModelConfig c = gpt2_like(L, 4, C, T, V);
  return {.id = "block-gpt",
          .text = fmt::format(
              "A GPT-2 with {} layers, width {}, {} tokens, context {}, its head tied to the embedding. How many parameters, within 5%?", L,
              C, grouped(number(V)), T),
          .unit = "parameters",
          .tolerance = {0.05, 0},
          .compute = [=] { return laid_out(c); },
          .formula = parameters(c),
          .derivation = fmt::format("V·C + T·C + 12·L·C² = {} + {} + {}; biases and norms bring it to {}.", grouped(number(V * C)),
                                    grouped(number(T * C)), grouped(number(12 * L * C * C)), grouped(parameters(c))),
          .carry_over = fmt::format("GPT-2 small: 12 layers, width 768, V 50,257, context 1,024: {}, the \"124M\".",
                                    grouped(parameters(gpt2_small()))),
          .carry_over_number = parameters(gpt2_small()),
          .follow_up = "Which of these parameters cost no multiplication in a forward pass?",
          .follow_up_answer =
              "The two tables as inputs: a row is looked up, not multiplied. The token table counts nevertheless where it is also the "
              "head, and then it is one of the largest products. "
              "The position table never does, which is why FLOP formulas leave it out.",
          .read = {"docs/block.md", "glassformer explain block", "notebook 05"}};
}

InterviewQuestion llama_size(std::uint64_t seed) {
  Draws d(seed, "block-llama");
  const Index L = d.between(2, 5), C = d.one_of({64, 128}), G = d.one_of({2, 4, 8}), V = d.one_of({512, 1000, 2000}),
              F = C * d.one_of({2, 3, 4});
  const ModelConfig c = llama_like(L, 8, G, C, F, V);
  return {.id = "block-llama",
          .text = fmt::format("A Llama with {} layers, width {}, 8 heads over {} key-value heads, SwiGLU of hidden width {}, {} tokens, "
                              "and a head of its own. How many parameters, within 5%?",
                              L, C, G, F, grouped(number(V))),
          .unit = "parameters",
          .tolerance = {0.05, 0},
          .compute = [=] { return laid_out(c); },
          .formula = parameters(c),
          .derivation = fmt::format(
              "2·V·C = {}; a layer: attention 2C² + 2·C·G·D = {}, SwiGLU three matrices 3·C·F = {}; {} layers and the gains: {}.",
              grouped(number(2 * V * C)), grouped(attention_weights(c)), grouped(mlp_weights(c)), L, grouped(parameters(c))),
          .carry_over = fmt::format("Llama 2 7B: {}. Llama 3 8B: {}.", grouped(parameters(llama2_7b())), grouped(parameters(llama3_8b()))),
          .carry_over_number = parameters(llama3_8b()),
          .follow_up = "SwiGLU has three matrices where GELU has two. How are the two compared fairly?",
          .follow_up_answer =
              "At equal parameters: the hidden width is taken down from 4C to 8/3·C, rounded up to what the hardware likes. Llama 2 7B: "
              "8/3·4096 = 10,923, made 11,008.",
          .read = {"docs/block.md", "glassformer explain block", "notebook 05"}};
}

InterviewQuestion mlp_share(std::uint64_t seed) {
  Draws d(seed, "block-mlp-share");
  const Index C = d.one_of({64, 128, 256}), times = d.one_of({2, 4, 6, 8});
  ModelConfig c = gpt2_like(1, 4, C, 16, 16);
  c.hidden = times * C;
  const auto share = [](const ModelConfig& m) { return 100 * mlp_weights(m) / (mlp_weights(m) + attention_weights(m)); };
  return {
      .id = "block-mlp-share",
      .text = fmt::format(
          "A GPT-2 block of width {} whose MLP is {} times as wide. What share of its weights (biases not counted) is in the MLP, in %?", C,
          times),
      .unit = "%",
      .tolerance = {0, 2},
      .compute =
          [=] {
            const Decoder<float> model = make_decoder<float>(c);
            const auto& b = model.blocks[0];
            const double mlp = number(b.mlp.up.weight.size() + b.mlp.down.weight.size());
            return 100 * mlp / (mlp + number(b.attention.qkv.weight.size() + b.attention.out.weight.size()));
          },
      .formula = share(c),
      .agreement = {1e-12, 0},
      .derivation = fmt::format("Attention 4C², MLP 2·{}·C²: {}/({} + 4) = {}%.", times, 2 * times, 2 * times, digits(share(c))),
      .carry_over = fmt::format("GPT-2 (4 times): {}%. Llama 3 8B (grouped heads, SwiGLU 3.5 times): {}%.", digits(share(gpt2_small())),
                                digits(share(llama3_8b()))),
      .carry_over_number = share(llama3_8b()),
      .follow_up = "What does the MLP do that attention cannot?",
      .follow_up_answer =
          "Attention moves information between places, and what it moves is linear in the values. The MLP acts at each place alone and is "
          "where the non-linearity sits; what a model knows "
          "about facts is largely found in its MLPs.",
      .read = {"docs/block.md", "glassformer explain block", "notebook 05"}};
}

InterviewQuestion forward_flops(std::uint64_t seed) {
  Draws d(seed, "block-flops");
  const Index L = d.between(2, 4), C = d.one_of({48, 64, 96}), T = d.one_of({16, 32}), V = d.one_of({100, 200, 500});
  const ModelConfig c = gpt2_like(L, 4, C, T, V);
  const auto flops = [](const ModelConfig& m, double tokens) {
    return 2 * (tokens * (linear_multiplications(m) + number(m.vocab * m.width)) + score_multiplications(m, tokens, tokens));
  };
  const double there = 2 * (linear_multiplications(llama2_7b()) + number(llama2_7b().vocab * llama2_7b().width));
  return {
      .id = "block-flops",
      .text = fmt::format("A GPT-2 with {} layers, width {}, {} tokens of vocabulary reads {} tokens and gives logits for each. How many "
                          "floating-point operations, about? (A multiply-add is two.)",
                          L, C, V, T),
      .unit = "FLOPs",
      .tolerance = {0.2, 0},
      .compute =
          [=] {
            OperationCounter counter(c);
            decoder_read<float>(random_decoder(c, seed), random_ids(T, V, d.stream("ids")), {.trace = &counter});
            return number(counter.flops());
          },
      .formula = flops(c, number(T)),
      .derivation = fmt::format("Two for each weight and token: 2·{}·(12·{}·{}² + {}·{}) = {}; q·k and p·v add 4·L·T²·C = {} ({}% of all).",
                                T, L, C, V, C, grouped(2 * number(T) * (linear_multiplications(c) + number(V * C))),
                                grouped(2 * score_multiplications(c, number(T), number(T))),
                                digits(200 * score_multiplications(c, number(T), number(T)) / flops(c, number(T)))),
      .carry_over =
          fmt::format("Llama 2 7B: two for each of its weights, {} GFLOPs a token, before attention's own share.", digits(there / 1e9)),
      .carry_over_number = there,
      .follow_up = "And a training step?",
      .follow_up_answer =
          "Three times as much: backward computes a gradient for the input and one for the weight of every product, each as costly as the "
          "forward product. Hence 6·parameters·tokens. "
          "The optimizer adds next to nothing.",
      .read = {"docs/training.md", "glassformer bench train", "notebook 05"}};
}

InterviewQuestion attention_overtakes(std::uint64_t seed) {
  Draws d(seed, "block-crossover");
  const Index C = d.one_of({8, 12, 16, 20});
  const ModelConfig llama = llama2_7b();
  const double there = linear_multiplications(llama) / score_multiplications(llama, 1, 1);
  return {.id = "block-crossover",
          .text = fmt::format("A GPT-2 of width {}, MLP four times as wide. From how many tokens on do q·k and p·v (all T×T, masked or "
                              "not) cost as much as its linear layers?",
                              C),
          .unit = "tokens",
          .tolerance = {0.1, 0},
          .compute =
              [=] {  // the shortest text for which the counted operations are equal
                const auto dearer = [&](Index T) {
                  const ModelConfig c = gpt2_like(1, 1, C, T, 8);
                  OperationCounter counter(c);
                  decoder_read<float>(random_decoder(c, seed), random_ids(T, 8, d.stream("ids")), {.trace = &counter});
                  return counter.attention >= counter.linear;
                };
                Index low = 0, high = 16 * C;  // not yet; certainly
                while (high - low > 1) {
                  const Index middle = (low + high) / 2;
                  (dearer(middle) ? high : low) = middle;
                }
                return number(high);
              },
          .formula = number(6 * C),
          .derivation = fmt::format("A token costs 12C² in the linear layers and 2·T·C in attention: equal at T = 6C = {}.", 6 * C),
          .carry_over = fmt::format(
              "Llama 2 7B: (4C² + 3·C·F)/(2C) = {} tokens, six times its context. Attention's square is a problem of long contexts only.",
              grouped(there)),
          .carry_over_number = there,
          .follow_up = "Then why does everybody speak of quadratic attention?",
          .follow_up_answer =
              "Because of memory and of long contexts: the T×T weights, where a kernel holds them, outgrow the memory long before the "
              "operations dominate, and at 100,000 tokens these "
              "dominate too. At 2,000 tokens the linear layers are the cost.",
          .read = {"docs/attention.md", "docs/training.md", "notebook 05", "notebook 07"}};
}

InterviewQuestion normalized_length(std::uint64_t seed) {
  Draws d(seed, "block-norm");
  const Index C = d.one_of({36, 64, 100, 144, 256});
  const bool rms = d.between(0, 1) == 1;
  return {.id = "block-norm",
          .text = fmt::format("Width {}. What is the length (Euclidean norm) of a token's vector right after {}, its gain still 1?", C,
                              rms ? "RMSNorm" : "LayerNorm"),
          .unit = "",
          .tolerance = {0.05, 0},
          .compute =
              [=] {
                ModelConfig c = gpt2_like(1, 2, C, 16, 50);
                c.norm = rms ? ops::Norm::rms : ops::Norm::layer, c.embedding_std = 1;
                Recorder<float> recorder({"blocks.0.ln1.normalized"});
                decoder_read<float>(random_decoder(resolved(c), seed), random_ids(8, 50, d.stream("ids")), {.trace = &recorder});
                return static_cast<double>(recorder.at("blocks.0.ln1.normalized").row(3).norm());
              },
          .formula = std::sqrt(number(C)),
          .agreement = {1e-3, 0},
          .derivation =
              fmt::format("The mean square of its {} entries is made 1, so their sum is {} and the length √{} = {}, whatever came in.", C,
                          C, C, digits(std::sqrt(number(C)))),
          .carry_over = fmt::format("Llama, width 4,096: √4096 = {}.", digits(std::sqrt(4096.0))),
          .carry_over_number = std::sqrt(4096.0),
          .follow_up = "What does RMSNorm leave out, and what does that cost?",
          .follow_up_answer =
              "The mean is not taken off and there is no bias: fewer operations and parameters. Quality has been the same in most "
              "comparisons (Zhang, Sennrich 2019), so newer models use it.",
          .read = {"docs/ops.md", "glassformer explain block", "notebook 06"}};
}

InterviewQuestion residual_deviation(std::uint64_t seed) {
  Draws d(seed, "block-init");
  const Index L = d.one_of({2, 8, 18});
  const auto deviation = [](Index layers) { return 0.02 / std::sqrt(2 * number(layers)); };
  return {.id = "block-init",
          .text = fmt::format("GPT-2 draws weights with deviation 0.02, but those that write into the residual stream smaller. With {} "
                              "layers, what is their deviation?",
                              L),
          .unit = "",
          .tolerance = {0.08, 0},
          .compute =
              [=] {
                const Decoder<float> model = random_decoder(gpt2_like(L, 2, 48, 16, 16), seed);
                double squares = 0, count = 0;
                for (const auto& block : model.blocks) {
                  for (const auto& w : {block.attention.out.weight, block.mlp.down.weight})
                    squares += (*w).squaredNorm(), count += number(w.size());
                }
                return std::sqrt(squares / count);
              },
          .formula = deviation(L),
          .agreement = {0.04, 0},
          .derivation =
              fmt::format("2L = {} outputs are added to the stream; divided by √(2L) their sum keeps the variance of one: 0.02/√{} = {}.",
                          2 * L, 2 * L, digits(deviation(L))),
          .carry_over = fmt::format("GPT-2 small, 12 layers: 0.02/√24 = {}.", digits(deviation(12))),
          .carry_over_number = deviation(12),
          .follow_up = "What if all were drawn with 0.02?",
          .follow_up_answer =
              "The stream's variance would grow with depth, so late blocks would change it relatively little and early gradients would be "
              "large. With pre-norm and a warm-up a shallow model "
              "trains anyway; deep ones become unsteady.",
          .read = {"docs/training.md", "glassformer explain block", "notebook 06"}};
}

InterviewQuestion tying(std::uint64_t seed) {
  Draws d(seed, "block-tied");
  const Index L = d.between(1, 4), C = d.one_of({64, 128}), V = d.one_of({1000, 2000, 4000});
  const ModelConfig c = gpt2_like(L, 4, C, 64, V);
  const auto share = [](const ModelConfig& m) { return 100 * number(m.vocab * m.width) / parameters(m); };
  return {
      .id = "block-tied",
      .text = fmt::format("A GPT-2 with {} layer{}, width {}, {} tokens, context 64, tied head. What share of its parameters, in %, is the "
                          "token embedding?",
                          L, L == 1 ? "" : "s", C, grouped(number(V))),
      .unit = "%",
      .tolerance = {0.08, 0},
      .compute =
          [=] {
            const Decoder<float> model = make_decoder<float>(c);
            return 100 * number(model.embed.weight.size()) / number(model.arena.layout().parameters());
          },
      .formula = share(c),
      .agreement = {1e-12, 0},
      .derivation = fmt::format("V·C = {} of V·C + T·C + L·(12C² + 13C) + 2C = {}: {}%.", grouped(number(V * C)), grouped(parameters(c)),
                                digits(share(c))),
      .carry_over = fmt::format(
          "GPT-2 small: {}%, and untied it would be 163M parameters rather than 124M. In Llama 3 8B embedding and head are {}% together.",
          digits(share(gpt2_small())), digits(2 * share(llama3_8b()))),
      .carry_over_number = share(gpt2_small()),
      .follow_up = "When would you not tie them?",
      .follow_up_answer =
          "In a large model, where the saving is small: reading a token and predicting one are different tasks, and a head of its own fits "
          "a little better. "
          "In a small one the tied table is a third of the model and usually worth it.",
      .read = {"docs/block.md", "glassformer explain block", "notebook 05"}};
}

}  // namespace

void add_block_questions(Questions& all, std::uint64_t seed) {
  for (const auto make :
       {block_size, gpt_size, llama_size, mlp_share, forward_flops, attention_overtakes, normalized_length, residual_deviation, tying}) {
    all.push_back(make(seed)), all.back().topic = "block";
  }
}

}  // namespace glassformer::learn
