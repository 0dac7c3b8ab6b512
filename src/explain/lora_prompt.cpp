// A soft prompt as a story. Legend: P rows of the prompt, T tokens of the text, C channels, V vocabulary.
#include <cmath>

#include "explain/lora_values.hpp"
#include "explain/teller.hpp"
#include "glassformer/explain/change.hpp"
#include "glassformer/model/reading.hpp"

namespace glassformer {
namespace {

using plot::number;

// How much of their attention the text's tokens pay to the prompt's rows, a layer; and how much it would be if they attended evenly.
struct Attended {
  Vector<double> share;  // [layers]
  double even = 0;
};
Attended attended(const Decoder<float>& m, std::span<const Token> ids, const Exec& exec) {
  const Index P = m.prompt.rows, T = static_cast<Index>(ids.size()) - P;
  std::set<std::string, std::less<>> sites;
  for (Index layer = 0; layer < m.config.layers; ++layer) sites.insert(fmt::format("blocks.{}.attn.pattern", layer));
  Recorder<float> seen(sites);
  decoder_read<float>(m, ids, {.exec = exec, .trace = &seen});
  Attended a{Vector<double>::Zero(m.config.layers), 0};
  for (Index layer = 0; layer < m.config.layers; ++layer) {
    for (Index h = 0; h < m.config.heads; ++h) {
      const Matrix<float>& pattern = seen.at(fmt::format("blocks.{}.attn.pattern", layer), 0, h);  // [P + T, P + T]
      a.share(layer) += pattern.bottomRows(T).leftCols(P).cast<double>().sum() / static_cast<double>(T * m.config.heads);
    }
  }
  for (Index t = 0; t < T; ++t) a.even += static_cast<double>(P) / static_cast<double>((P + t + 1) * T);
  return a;
}

class PromptTeller : Teller {
 public:
  PromptTeller(const Decoder<float>& base, const Adapter<float>& adapter, const ExplainedText& text, const Exec& exec)
      : base_(base), with_(base), adapter_(adapter), text_(text), exec_(exec), P_(adapter.prompt_tokens()) {
    attach(with_, adapter);
    ids_ = soft_prompt_ids(with_);
    ids_.insert(ids_.end(), text.ids.begin(), text.ids.end());
  }

  Story tell() {
    const Matrix<double> rows = in_double(with_.prompt);
    out_.component = "lora", out_.title = fmt::format("A soft prompt, step by step: {} rows before the text", P_);
    out_.opening.push_back(fmt::format("Model: {}", text_.model));
    out_.opening.insert(out_.opening.end(), text_.notes.begin(), text_.notes.end());
    out_.opening.push_back(
        "The model is as it was. Trained were rows that it reads before every text as if they were the embeddings of tokens.");

    step("The rows", fmt::format("x = [prompt; W[tokens]]   prompt [{}, {}]", P_, rows.cols()));
    put(story::Grid{.key = "prompt_rows", .values = rows, .rows = numbered("p", P_), .columns = numbered("ch", rows.cols())});
    const Index few = rows.size(), all = decoder_parameters(base_);
    lines({fmt::format("{}·{} = {} parameters of the model's {}: {:.3f}%", P_, rows.cols(), few, all,
                       100 * static_cast<double>(few) / static_cast<double>(all)),
           fmt::format("each text has {} places of the context less: {} of {}", P_, base_.config.context - P_, base_.config.context)});
    add("trainable_parameters", few), add("model_parameters", all);
    nearest();
    attention();
    gradients();
    the_text();
    add("model", text_.model), add("example", false), add("tokens", text_.tokens), add("ids", text_.ids), add("prompt_tokens", P_);
    add("deviation", deviation_);
    out_.closing.push_back("Every number comes from the engine's own passes.");
    return std::move(out_);
  }

 private:
  std::string token_text(Token id) const {
    const auto i = static_cast<std::size_t>(id);
    return i < text_.vocabulary.size() ? quoted_bytes(text_.vocabulary[i]) : fmt::format("token {}", id);
  }

  void nearest() {
    step("Nearest tokens", "cos = p·e/(‖p‖‖e‖)");
    say("A row is no token: it may lie anywhere. The tokens whose embeddings point most like it, and its length over the mean length of an "
        "embedding:");
    story::Table table{
        .key = "nearest", .columns = {"row", "length", "nearest", "cos", "then", "cos", "then", "cos"}, .rows = {}, .decimals = 2};
    const std::vector<PromptRow> rows = prompt_neighbours(base_, adapter_, 3);
    Vector<double> closest(P_);
    for (std::size_t p = 0; p < rows.size(); ++p) {
      std::vector<story::Cell> cells = {fmt::format("p{}", p), rows[p].norm};
      for (std::size_t i = 0; i < rows[p].nearest.size(); ++i)
        cells.emplace_back(plot::fit(token_text(rows[p].nearest[i]), 12)), cells.emplace_back(rows[p].cosines[i]);
      cells.resize(table.columns.size(), std::string());
      closest(static_cast<Index>(p)) = rows[p].cosines.front();
      table.rows.push_back(std::move(cells));
    }
    put(std::move(table));
    add("nearest_cosine", closest);
  }

  void attention() {
    step("Who attends to it", "Σ of the pattern over the prompt's rows, mean of heads and tokens");
    const Attended a = attended(with_, ids_, exec_);
    story::Chart chart{.key = "", .chart = {.kind = plot::Chart::Kind::bars, .title = "", .x_label = "", .y_label = ""}};
    chart.chart.series.push_back({"share", {}});
    for (Index layer = 0; layer < a.share.size(); ++layer)
      chart.chart.names.push_back(fmt::format("layer {}", layer)), chart.chart.series[0].y.push_back(a.share(layer));
    put(std::move(chart));
    say(fmt::format("Attending evenly to all that it sees, the text would pay {:.3f} to the prompt.", a.even));
    add("attention_share", a.share), add("attention_even", a.even);
  }

  void gradients() {
    Decoder<float> m = base_;
    attach(m, adapter_);
    DecoderGrads<float> grads = make_adapter_gradients(m, adapter_);
    std::vector<Token> targets(static_cast<std::size_t>(P_), -1);
    targets.insert(targets.end(), text_.ids.begin() + 1, text_.ids.end());
    targets.push_back(-1);
    const std::array<Index, 2> starts = {0, static_cast<Index>(ids_.size())};
    Workspace workspace;
    Pass<float> pass;
    pass.exec = exec_, pass.starts = starts, pass.workspace = &workspace;
    DecoderSaved<float> saved;
    loss_with_ = decoder_loss<float>(m, pass, ids_, targets, &saved, &grads, 1 / static_cast<float>(text_.ids.size() - 1)).mean();
    const Matrix<double> d = in_double(grads.prompt);
    step("What is trained", "dprompt = d loss/dx, of its rows");
    say("The gradient of the text's mean loss goes back through every block, and stops at the rows: no weight gets one.");
    put(story::Grid{.key = "", .values = d.rowwise().norm().transpose(), .rows = {"‖dp‖"}, .columns = numbered("p", P_), .decimals = 5});
    add("dprompt", d);
  }

  void the_text() {
    const Matrix<float> y = decoder_read<float>(base_, text_.ids, {.exec = exec_}),
                        yp = decoder_read<float>(with_, ids_, {.exec = exec_}).bottomRows(y.rows());
    const double without = decoder_read_loss<float>(base_, text_.ids, {.exec = exec_}).mean();
    const auto next = [&](const Matrix<float>& logits) { return token_text(first_choice(logits, logits.rows() - 1)); };
    step("The text with it and without", "");
    const double change = (yp - y).cwiseAbs().maxCoeff();
    lines({fmt::format("loss of the text     {} nats a token without, {} with the prompt", number(without), number(loss_with_)),
           fmt::format("next token           {} without, {} with", next(y), next(yp)),
           fmt::format("logits               change by {} at most", number(change))});
    add("loss_base_nats", without), add("loss_adapted_nats", loss_with_), add("next_base", next(y)), add("next_adapted", next(yp)),
        add("logits_change", change);
  }

  const Decoder<float>& base_;
  Decoder<float> with_;
  const Adapter<float>& adapter_;
  const ExplainedText& text_;
  const Exec& exec_;
  Index P_;
  std::vector<Token> ids_;  // the prompt's, then the text's
  double loss_with_ = 0;
};

}  // namespace

Story soft_prompt_story(const Decoder<float>& base, const Adapter<float>& adapter, const ExplainedText& text,
                        const LoraQuestion& question) {
  require_text(text, base.config.context - adapter.prompt_tokens());
  require(text.ids.size() >= 2, "prompt: expected at least two tokens, so that one can be predicted, found {}", text.ids.size());
  require(question.target.empty() && question.token < 0, "target: expected none, and no token: a soft prompt has no matrices");
  return PromptTeller(base, adapter, text, question.exec).tell();
}

}  // namespace glassformer
