// %% [markdown]
// # 05 What is in an LLM, and what does a forward pass cost?
//
// A language model is a list of matrices, and reading a text with it is mostly multiplying by them. So three questions have exact answers: how
// many numbers does it hold, which shapes flow through it, and how many multiplications does a token cost? Here each formula stands beside what
// the engine did: the parameters as they lie in its memory, the shapes as a trace saw them pass, the multiplications **as the kernels counted them**.
//
// Letters: V tokens in the vocabulary, T tokens read, L layers, C width, H query heads, G key-value heads, D width of a head, F hidden width of the MLP.

// %%
#include "glassformer/model/decoder.hpp"

#include <chrono>
#include <map>
#include <memory>

#include "glassformer/core/random.hpp"
#include "glassformer/model/sites.hpp"
#include "glassformer/notebook/notebook.hpp"
#include "glassformer/ops/count.hpp"
#include "program.hpp"

using namespace glassformer;

double real(Index n) { return static_cast<double>(n); }

// %% [markdown]
// ## The formulas
// A layer has four matrices: one for queries, keys and values, (H + 2G)·D × C; one that brings the heads back, C × H·D; and the MLP's two, F × C and C × F
// (SwiGLU has a gate as well: 2F × C). Before and after stand tables: V × C for the tokens, T × C for learned positions, and V × C for the output,
// unless the output uses the tokens' table again ("tied").

// %%
Index attention_matrices(const ModelConfig& c) { return (c.heads + 2 * c.kv_heads) * c.head_dim * c.width + c.width * c.heads * c.head_dim; }
Index mlp_matrices(const ModelConfig& c) { return (c.mlp == Mlp::swiglu ? 3 : 2) * c.hidden * c.width; }
Index tables(const ModelConfig& c) { return c.vocab * c.width * (c.tied ? 1 : 2) + (c.position == Position::learned ? c.context * c.width : 0); }
Index gains_and_biases(const ModelConfig& c) {
  const Index norm = c.norm == ops::Norm::layer && c.norm_bias ? 2 * c.width : c.width;
  const Index biases = (c.heads + 2 * c.kv_heads) * c.head_dim + c.width + (c.mlp == Mlp::swiglu ? 2 : 1) * c.hidden + c.width;
  return (2 * c.layers + 1) * norm + (c.bias ? c.layers * biases : 0);
}
Index parameters(const ModelConfig& c) { return tables(c) + c.layers * (attention_matrices(c) + mlp_matrices(c)) + gains_and_biases(c); }

// %% [markdown]
// Five models, three of which you know. The shapes are those that their makers published; the engine lays out each one's memory (it does not need to
// fill it) and counts.

// %%
ModelConfig gpt_like(Index layers, Index heads, Index width, Index context, Index vocab) {
  ModelConfig c;
  c.layers = layers, c.heads = heads, c.width = width, c.context = context, c.vocab = vocab;
  return resolved(c);
}
ModelConfig llama_like(Index layers, Index heads, Index kv_heads, Index width, Index hidden, Index vocab, bool tied = false) {
  ModelConfig c;
  c.layers = layers, c.heads = heads, c.kv_heads = kv_heads, c.width = width, c.hidden = hidden, c.vocab = vocab, c.context = 256;
  c.position = Position::rope, c.norm = ops::Norm::rms, c.mlp = Mlp::swiglu, c.bias = false, c.tied = tied;
  return resolved(c);
}

struct Named {
  std::string name;
  ModelConfig config;
  Index published;  // 0: nobody did
};
const std::vector<Named> kModels = {{"a toy like GPT-2", gpt_like(4, 4, 128, 64, 65), 0},
                                    {"a toy like Llama, grouped heads", llama_like(4, 8, 2, 128, 344, 512, true), 0},
                                    {"GPT-2 small (2019)", gpt_like(12, 12, 768, 1024, 50257), 124'439'808},
                                    {"Llama 2 7B (2023)", llama_like(32, 32, 32, 4096, 11008, 32000), 6'738'415'616},
                                    {"Llama 3 8B (2024)", llama_like(32, 32, 8, 4096, 14336, 128256), 8'030'261'248}};

void show_parameters(Notebook& nb) {
  story::Table table{"parameters", {"model", "in the engine's memory", "by the formula", "published"}, {}, 0};
  plot::Chart shares{plot::Chart::Kind::bars, "Where the parameters are, % of the model"};
  shares.series = {{"token and position tables", {}}, {"attention", {}}, {"MLP", {}}};
  std::string wrong, most;  // the first that differs, and the largest
  bool published_right = true;
  for (const auto& [name, c, published] : kModels) {
    const Index counted = decoder_layout(c)->parameters();
    const std::string seen = fmt::format("{}: {} parameters, by the formula {}", name, counted, parameters(c));
    if (counted != parameters(c) && wrong.empty()) wrong = seen;
    most = seen;
    published_right = published_right && (published == 0 || counted == published);
    table.rows.push_back({name, real(counted), real(parameters(c)), published ? fmt::format("{}", published) : "–"});
    shares.names.push_back(name);
    const Index parts[] = {tables(c), c.layers * attention_matrices(c), c.layers * mlp_matrices(c)};
    for (std::size_t i = 0; i < 3; ++i) shares.series[i].y.push_back(100 * real(parts[i]) / real(counted));
  }
  nb.show(table, exactly);
  nb.show(story::Chart{"shares", shares}, exactly);
  nb.claim("the engine's memory holds as many parameters as the formula says, for each model", wrong.empty(), wrong.empty() ? most : wrong);
  nb.claim("and as many as their makers published for GPT-2 small, Llama 2 7B and Llama 3 8B", published_right,
           fmt::format("{}, {}, {}", decoder_layout(kModels[2].config)->parameters(), decoder_layout(kModels[3].config)->parameters(),
                       decoder_layout(kModels[4].config)->parameters()));
}

// %% [markdown]
// Read the bars: the MLP is the largest part of every model here, and about twice what attention holds where heads are not grouped. The tables
// depend on the vocabulary: 65 characters weigh little, 50,257 tokens are a third of a model as small as GPT-2, and 128,256 are still an eighth
// of Llama 3. Eight key-value heads instead of 32 make its attention lighter.

// %%
int main(int argc, char** argv) {
  return run_notebook(argc, argv, [](Notebook& nb) {
    show_parameters(nb);

    // %% [markdown]
    // ## The shapes of a pass
    // The second toy reads seven tokens. A trace that wants every site writes down what passes: T × C all the way (the *residual stream*), wider only inside
    // attention and MLP, and V numbers a token at the end. Scores and patterns are T × T, one for each head.

    // %%
    const ModelConfig toy = kModels[1].config;
    Decoder<float> model = make_decoder<float>(toy);
    initialize(model, nb.seed());
    const auto ids_of = [&](const ModelConfig& c, Index T) {
      std::vector<Token> ids;
      for (Index t = 0; t < T; ++t) ids.push_back(static_cast<Token>(random_below(RandomStream{nb.seed()}.at("ids"), static_cast<std::uint64_t>(t), static_cast<std::uint64_t>(c.vocab))));
      return ids;
    };
    Workspace workspace;
    // Reads T tokens and makes the logits of each.
    const auto read = [&](const Decoder<float>& m, Index T, Trace<float>* trace = nullptr, Kernels kernels = Kernels::fused) {
      const std::vector<Token> ids = ids_of(m.config, T);
      const std::vector<Index> starts = {0, T};
      Pass<float> pass;
      pass.exec = nb.exec(), pass.exec.kernels = kernels;
      pass.starts = starts, pass.workspace = &workspace, pass.trace = trace;
      Matrix<float> hidden(T, m.config.width), logits(T, m.config.vocab);
      decoder_forward<float>(m, pass, ids, hidden);
      decoder_logits<float>(m, pass, hidden, logits);
    };
    Recorder<float> recorder;
    read(model, 7, &recorder);

    const Index T = 7, C = toy.width, H = toy.heads, G = toy.kv_heads, D = toy.head_dim, F = toy.hidden, V = toy.vocab;
    const std::map<std::string, std::tuple<std::string, Index, Index, Index>> formula = {
        {"embed", {"T × C", T, C, 1}}, {"resid_pre", {"T × C", T, C, 1}}, {"ln1.normalized", {"T × C", T, C, 1}}, {"attn.q", {"T × H·D", T, H * D, 1}},
        {"attn.k", {"T × G·D", T, G * D, 1}}, {"attn.v", {"T × G·D", T, G * D, 1}}, {"attn.rot_q", {"T × H·D", T, H * D, 1}}, {"attn.rot_k", {"T × G·D", T, G * D, 1}},
        {"attn.attn_scores", {"T × T", T, T, H}}, {"attn.pattern", {"T × T", T, T, H}}, {"attn.z", {"T × H·D", T, H * D, 1}}, {"attn_out", {"T × C", T, C, 1}},
        {"resid_mid", {"T × C", T, C, 1}}, {"ln2.normalized", {"T × C", T, C, 1}}, {"mlp.pre", {"T × 2F", T, 2 * F, 1}}, {"mlp.post", {"T × F", T, F, 1}},
        {"mlp_out", {"T × C", T, C, 1}}, {"resid_post", {"T × C", T, C, 1}}, {"ln_final.normalized", {"T × C", T, C, 1}}, {"logits", {"T × V", T, V, 1}}};
    story::Table shapes{"shapes", {"site", "by the formula", "seen", "how many"}, {}, 0};
    std::string wrong_shape, last_shape;  // the first that differs, and the last
    for (const std::string& site : decoder_sites(toy)) {
      const bool in_block = site.starts_with("blocks.");
      if (in_block && !site.starts_with("blocks.0.")) continue;  // all layers are alike
      const auto& [text, rows, columns, times] = formula.at(in_block ? site.substr(9) : site);
      Index seen = 0;
      bool right = true;
      std::string found;
      for (const auto& [where, value] : recorder.values()) {
        if (where.name != site) continue;
        ++seen, right = right && value.rows() == rows && value.cols() == columns;
        found = fmt::format("{} × {}", value.rows(), value.cols());
      }
      last_shape = fmt::format("{}: {} of {}, by the formula {} of {} × {}", site, seen, found, times, rows, columns);
      if ((!right || seen != times) && wrong_shape.empty()) wrong_shape = last_shape;
      shapes.rows.push_back({site, text, found, real(seen)});
    }
    nb.show(shapes, exactly);
    nb.claim("every value of the pass has the shape of the formula", wrong_shape.empty(),
             wrong_shape.empty() ? fmt::format("at {} sites, the last {}", shapes.rows.size(), last_shape) : wrong_shape);

    // %% [markdown]
    // ## What a pass costs
    // A matrix of O × I costs O·I multiply-adds a token: each weight is used once. So the linear layers of a pass cost T times the number of their weights, and the
    // output head T·V·C. Attention adds what no weight explains: each query multiplies with each key that it may see, D multiply-adds, and as many to
    // weigh the value. Under the causal mask query t sees t keys, so there are T(T+1)/2 pairs a head.
    //
    // `ops::CountOperations` makes the kernels say what they did: each block of a matrix product its rows·columns·inner length, the attention kernel
    // every score that the mask let through.

    // %%
    struct Read {
      Named what;
      Index T;
      Kernels kernels;
    };
    const std::vector<Read> reads = {{kModels[0], 64, Kernels::fused},   {kModels[0], 64, Kernels::reference}, {kModels[1], 1, Kernels::fused},
                                     {kModels[1], 33, Kernels::fused},   {kModels[1], 250, Kernels::fused},    {kModels[1], 250, Kernels::reference},
                                     {{"one head for all queries", llama_like(2, 6, 1, 96, 200, 300), 0}, 100, Kernels::fused}};
    story::Table costs{"multiply_adds", {"model", "T", "kernels", "linear, counted", "by the formula", "pairs, counted", "by the formula"}, {}, 0};
    std::string wrong_linear, most_linear, wrong_pairs, most_pairs;  // the first that differ, and the largest
    Index largest_linear = 0, largest_pairs = 0;
    for (const Read& r : reads) {
      const ModelConfig& c = r.what.config;
      Decoder<float> m = make_decoder<float>(c);
      initialize(m, nb.seed());
      const ops::CountOperations counting;
      read(m, r.T, nullptr, r.kernels);
      const ops::OperationCount n = counting.count();
      const Index linear = r.T * (c.layers * (attention_matrices(c) + mlp_matrices(c)) + c.vocab * c.width);
      const Index pairs = c.layers * c.heads * r.T * (r.T + 1) / 2;
      const auto seen = [&](Index count, Index by_formula) { return fmt::format("{} of {}, T = {}, by the formula {}", count, r.what.name, r.T, by_formula); };
      if (n.linear > largest_linear) largest_linear = n.linear, most_linear = "up to " + seen(n.linear, linear);
      if (n.pairs > largest_pairs) largest_pairs = n.pairs, most_pairs = "up to " + seen(n.pairs, pairs);
      if (n.linear != linear && wrong_linear.empty()) wrong_linear = seen(n.linear, linear);
      if (n.pairs != pairs && wrong_pairs.empty()) wrong_pairs = seen(n.pairs, pairs);
      costs.rows.push_back({r.what.name, real(r.T), r.kernels == Kernels::fused ? "fused" : "reference", real(n.linear), real(linear), real(n.pairs), real(pairs)});
    }
    nb.show(costs, exactly);
    nb.claim("the kernels' count of linear multiply-adds is T·(L·(attention + MLP matrices) + V·C), exactly", wrong_linear.empty(),
             wrong_linear.empty() ? most_linear : wrong_linear);
    nb.claim("their count of (query, key) pairs is L·H·T(T+1)/2, exactly", wrong_pairs.empty(),
             wrong_pairs.empty() ? most_pairs : wrong_pairs);

    // %% [markdown]
    // ## A training step costs three times a forward pass
    // Backward multiplies twice where forward did once: dx = dy·W, and dW = dyᵀ·x. That is where the usual estimate comes from, **6·N FLOPs a token** for a model of N
    // weights: 2 (a multiply and an add) × 3.

    // %%
    const ModelConfig trained = kModels[0].config;
    Decoder<float> student = make_decoder<float>(trained);
    initialize(student, nb.seed());
    DecoderGrads<float> gradients = make_gradients(student);
    DecoderSaved<float> saved;
    const std::vector<Token> ids = ids_of(trained, 65);
    const std::vector<Index> starts = {0, 64};
    Pass<float> pass;
    pass.exec = nb.exec(), pass.starts = starts, pass.workspace = &workspace;
    const Index forward = 64 * (trained.layers * (attention_matrices(trained) + mlp_matrices(trained)) + trained.vocab * trained.width);
    Index step = 0;
    {
      const ops::CountOperations counting;
      decoder_loss<float>(student, pass, std::span(ids).first(64), std::span(ids).last(64), &saved, &gradients, 1.0F);
      step = counting.count().linear;
    }
    const double estimate = 6.0 * real(parameters(trained)) * 64;
    nb.show(story::Number{"step_flops", "FLOPs of the linear layers in one step of 64 tokens, counted", 2 * real(step), 0}, exactly);
    nb.show(story::Number{"estimate_flops", "6·N·T, N all parameters", estimate, 0}, exactly);
    nb.show(story::Number{"estimate_ratio", "the estimate over the count (tables of positions, gains and biases are no products)", estimate / (2 * real(step)), 4}, exactly);
    nb.claim("forward and backward together do exactly three times the linear multiply-adds of forward", step == 3 * forward,
             fmt::format("{} against 3·{}", step, forward));

    // %% [markdown]
    // ## When does attention matter?
    // A token's linear layers cost the same wherever it stands; its attention grows with the number of keys. Counted for one layer of the second toy's
    // shape (C = 128), per token of a text of T: attention catches up only beyond a thousand. That is why a model's cost is
    // mostly its weights until the context is long. In the mean of a text attention costs (T+1)·H·D multiply-adds a token; at its last place it is twice that.

    // %%
    ModelConfig one_layer = toy;
    one_layer.layers = 1, one_layer.context = 8192;
    Decoder<float> single = make_decoder<float>(one_layer);
    initialize(single, nb.seed());
    plot::Chart growth;
    growth.title = "Multiply-adds a token, one layer of width 128, mean over a text of T tokens";
    growth.x_label = "T", growth.y_label = "multiply-adds a token", growth.x_log = true, growth.y_log = true;
    growth.series = {{"linear layers", {}}, {"attention", {}}};
    Index crossing = 0;
    bool growth_right = true;
    for (Index length = 8; length <= 4096; length *= 2) {
      nb.progress(fmt::format("reading {} tokens", length));
      const ops::CountOperations counting;
      read(single, length);
      const ops::OperationCount n = counting.count();
      const double linear = real(n.linear) / real(length) - real(one_layer.vocab * C), attention = 2 * real(n.pairs * D) / real(length);
      growth_right = growth_right && attention == real((length + 1) * H * D);
      growth.x.push_back(real(length)), growth.series[0].y.push_back(linear), growth.series[1].y.push_back(attention);
      if (attention > linear && crossing == 0) crossing = length;
    }
    nb.show(story::Chart{"growth", growth}, exactly);
    const double meet = real(attention_matrices(one_layer) + mlp_matrices(one_layer)) / real(H * D) - 1;
    nb.show(story::Number{"meet", "T at which both are equal, by the formula", meet, 0, "tokens"}, exactly);
    nb.claim("attention costs (T+1)·H·D multiply-adds a token in the mean of a text, exactly, and passes the linear layers where the formula says",
             growth_right && real(crossing) >= meet && real(crossing) / 2 < meet, fmt::format("first above at T = {}, by the formula at {:.0f}", crossing, meet));

    // %% [markdown]
    // ## What it takes
    // Counting says what must be done; how fast it is done depends on the machine. (Not compared: your machine is another one.)

    // %%
    const Index length = 256;
    read(model, length);
    const auto start = std::chrono::steady_clock::now();
    const int times = 20;
    for (int i = 0; i < times; ++i) read(model, length);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / times;
    const double flops = 2 * (real(length * (toy.layers * (attention_matrices(toy) + mlp_matrices(toy)) + toy.vocab * toy.width)) +
                              2 * real(toy.layers * H * D) * real(length * (length + 1) / 2));
    nb.show(story::Number{"forward_ms", "the second toy reads 256 tokens in", 1e3 * seconds, 2, "ms"}, kind_only);
    nb.show(story::Number{"gflops", "that is", flops / seconds / 1e9, 1, "GFLOP/s"}, kind_only);

    // %% [markdown]
    // ## In an interview
    // *How many parameters does a layer have?* About 12·C²: 4·C² in attention (less with grouped heads), 8·C² in the MLP. *What does a token cost?* Two FLOPs a
    // weight to read, six to train on, plus attention, which costs the last token as much at T = 6·C, and the mean of a text at T = 12·C. *What is the first
    // thing to compute for a new model?* Its parameters by the formula: if they are not what is published, a shape is wrong.
    //
    // Next: `glassformer explain block` shows one layer's numbers; notebook 07 counts what a KV cache saves.

    // %%
  });
}
