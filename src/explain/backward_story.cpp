// From the loss to the block, from the block to the embedding, and what came of it. Legend: N tokens, C channels, V vocabulary.
#include <numeric>

#include "explain/backward_teller.hpp"
#include "glassformer/explain/gradient_check.hpp"
#include "glassformer/ops/loss.hpp"

namespace glassformer {

using plot::number;

// The one asked for, or the one whose successor was predicted worst: there the gradients are large.
void BackwardTeller::choose_token() {
  if (q_.token != -1) {
    row_ = checked_place(q_.token, text_);
    return;
  }
  Matrix<double> p = value("logits");
  ops::softmax_forward<double>(p, p, p_.exec());
  double worst = 2;
  for (Index n = 0; n < p_.tokens(); ++n) {
    if (p_.target(n) >= 0 && p(n, p_.target(n)) < worst) worst = p(n, p_.target(n)), row_ = n;
  }
  if (p_.scored() > 1) why_ = ", whose successor was predicted worst";
}

Story BackwardTeller::tell() {
  choose_token();
  opening();
  forward();
  logits();
  unembedding();
  last_norm();
  blocks_above();
  const BlockParams<double>& b = block();
  if (config().mlp != Mlp::none) {
    const Half half{"MLP", site("resid_mid"), site("mlp_out"), site("resid_post"), site("ln2.normalized"), "ln2", b.ln2};
    half_out(half);
    half_in(half, mlp());
  }
  const Half half{"attention", site("resid_pre"), site("attn_out"), site("resid_mid"), site("ln1.normalized"), "ln1", b.ln1};
  half_out(half);
  half_in(half, attention());
  embedding();
  weights();
  summary();
  data();
  return std::move(out_);
}

void BackwardTeller::opening() {
  out_.component = "backward";
  out_.title = fmt::format("The backward pass, step by step: layer {} of {}", q_.layer, config().layers);
  out_.opening.push_back(example_ ? "A tiny example, small enough to redo by hand."
                                  : fmt::format("Model: {}, in double precision.", text_.model));
  out_.opening.insert(out_.opening.end(), text_.notes.begin(), text_.notes.end());
  out_.opening.push_back(
      "The chain rule asks at each step for one thing, the local derivative: how what comes out changes with what goes in. The gradient "
      "that "
      "arrives from behind, times this, is the gradient that goes on.");
  out_.opening.push_back(
      fmt::format("At each site: its value; d, the gradient that the engine's backward pass recorded there, dx = ∂L/∂x; and Δ, the same "
                  "measured without "
                  "any backward pass: the forward pass again with that one number changed by ±h and ±2h. The token that is followed: {}{}.",
                  quoted_token(text_, row_), why_));
}

void BackwardTeller::forward() {
  const bool one = p_.scored() == 1;
  step("Forward", one ? "L = −log p[target]" : fmt::format("L = mean of −log p[target] over {} tokens", p_.scored()));
  std::vector<std::string> sites = {"embed", site("resid_pre")};
  const bool pre = config().placement == NormPlacement::pre;
  if (pre) sites.push_back(site("ln1.normalized"));
  for (const char* part : {"attn.q", "attn.k", "attn.v", "attn.z", "attn_out", "resid_mid"}) sites.push_back(site(part));
  if (config().mlp != Mlp::none) {
    if (pre) sites.push_back(site("ln2.normalized"));
    for (const char* part : {"mlp.pre", "mlp.post", "mlp_out", "resid_post"}) sites.push_back(site(part));
  }
  if (pre) sites.push_back("ln_final.normalized");
  say(fmt::format("What {} has at each site{}:", quoted_token(text_, row_), example_ ? "" : ", the first four numbers"));
  story::Table table{"forward", {"site", "value"}, {}};
  for (const std::string& name : sites) {
    const Matrix<double>& x = value(name);
    std::string numbers;
    for (Index c = 0; c < std::min<Index>(x.cols(), 4); ++c) numbers += plot::pad_left(number(x(row_, c)), c == 0 ? 7 : 9);
    table.rows.push_back({name, numbers + (x.cols() > 4 ? "  …" : "")});
  }
  put(std::move(table));
  put(story::Number{"loss_nats", one ? "the loss" : "the mean loss", p_.loss(), 6, "nats"});
}

void BackwardTeller::logits() {
  const std::string n = p_.scored() == 1 ? "" : fmt::format("/{}", p_.scored());
  step("Logits", fmt::format("dlogitⱼ = (pⱼ − 1[j = target]){}", n));
  const Matrix<double>& z = value("logits");
  Matrix<double> p(z.rows(), z.cols());
  ops::softmax_forward<double>(z, p, p_.exec());
  const Token target = p_.target(row_);
  if (target < 0) {
    say("The loss does not score this token, so its row is zero.");
  } else {
    say(fmt::format(
        "L = log Σⱼ exp(logitⱼ) − logit[target]. The first term's derivative is the softmax, the second's is −1 at the target, {}. "
        "So what is too likely is pushed down, the target up, and the row adds up to 0.",
        quoted_bytes(text_.vocabulary.empty() ? "?" : text_.vocabulary[static_cast<std::size_t>(target)])));
  }
  std::vector<Index> shown(static_cast<std::size_t>(z.cols()));
  std::iota(shown.begin(), shown.end(), Index{0});
  if (!example_) {  // the target, then the likeliest
    std::stable_sort(shown.begin(), shown.end(), [&](Index a, Index b) { return p(row_, a) > p(row_, b); });
    if (target >= 0) std::stable_partition(shown.begin(), shown.end(), [&](Index j) { return j == target; });
    shown.resize(std::min(shown.size(), static_cast<std::size_t>(q_.entries)));
  }
  std::vector<Entry> entries = entries_of(z);
  if (!example_) {
    entries.clear();
    for (const Index j : shown) entries.emplace_back(row_, j);
  }
  const Matrix<double>& d = grad("logits");
  checks_.push_back(p_.check("logits", entries, !example_));
  const SiteCheck& c = checks_.back();
  story::Table table{"logits", {"token", "logit", "p", target < 0 ? "d" : "(p − 1[target])" + n + " = d", "Δ"}, {}};
  for (const Index j : shown) {
    const double hit = j == target ? 1 : 0, by_hand = target < 0 ? 0 : (p(row_, j) - hit) / static_cast<double>(p_.scored());
    hold(by_hand, d(row_, j), 1);
    const std::string sum = target < 0 ? "" : fmt::format("({} − {}){} = ", number(p(row_, j), 4), hit, n);
    const std::string name = text_.vocabulary.empty() ? fmt::format("{}", j) : quoted_bytes(text_.vocabulary[static_cast<std::size_t>(j)]);
    table.rows.push_back({name, number(z(row_, j)), number(p(row_, j), 4), sum + digits(d(row_, j)), digits(c.differences(row_, j))});
  }
  put(std::move(table));
  verdict(c);
}

void BackwardTeller::unembedding() {
  const bool pre = config().placement == NormPlacement::pre;
  const std::string name = pre ? "ln_final.normalized" : fmt::format("blocks.{}.resid_post", config().layers - 1);
  step("Unembedding", "logits = x·Uᵀ, so dx = dlogits·U");
  say(fmt::format("∂logitⱼ/∂x_c = U_jc: every logit that reads x_c hands back its gradient times the weight. The site is {}.", name));
  weight("U", p_.model().unembed.weight.dense);
  const SiteCheck& c = check(name);
  show(c);
  write_linear("dx", grad("logits"), p_.model().unembed.weight.dense, c.gradient);
  verdict(c);
}

void BackwardTeller::last_norm() {
  if (config().placement == NormPlacement::post) return;
  const std::string name = fmt::format("blocks.{}.resid_post", config().layers - 1);
  const NormParams<double>& ln = p_.model().ln_final;
  step("The last norm", config().norm == ops::Norm::rms ? "y = x̂ ⊙ g, x̂ = x·r, r = 1/√(mean(x²) + ε)" : "y = x̂ ⊙ g + b, x̂ = (x − mean)·r");
  say(fmt::format(
      "A norm reads the whole row: x_c reaches every y{} through r. With dx̂ = dy ⊙ g: {}. What would only make the row longer is "
      "taken off, for the norm undoes it.",
      config().norm == ops::Norm::rms ? "" : " through the mean and",
      config().norm == ops::Norm::rms ? "dx = r·(dx̂ − x̂·mean(dx̂ ⊙ x̂))" : "dx = r·(dx̂ − mean(dx̂) − x̂·mean(dx̂ ⊙ x̂))"));
  const SiteCheck& c = check(name);
  norm_rows(ln, c.value, grad("ln_final.normalized"), c.gradient);
  show(c);
  verdict(c);
}

void BackwardTeller::blocks_above() {
  if (q_.layer == config().layers - 1) return;
  step("Through the blocks above", "dx ← dx + (∂f/∂x)ᵀ·dx, twice a block");
  say(fmt::format("Each of layers {} … {} hands the gradient down as the one below does, step by step. What arrives at {}:",
                  config().layers - 1, q_.layer + 1, site("resid_post")));
  const SiteCheck& c = check(site("resid_post"));
  show(c);
  verdict(c);
}

void BackwardTeller::embedding() {
  step("The embedding", "x = E[id], so dE[id] += dx");
  if (q_.layer > 0) say(fmt::format("Layers {} … 0 hand the gradient down in the same way. What arrives at the bottom:", q_.layer - 1));
  const SiteCheck& c = check("embed");
  example_ ? show_tokens(c) : show(c);
  say(fmt::format("A row of the table gets the gradients of all places where its token stands{}.",
                  config().tied ? ", and since the table is also U, those of the logits: dE += dlogitsᵀ·x" : ""));
  const MatrixView<double> dE = p_.parameter_gradients().embed.weight;
  const Index best = largest_column(c.gradient);
  const Token id = p_.id(row_);
  std::vector<std::pair<double, double>> terms;
  for (Index n = 0; n < p_.tokens(); ++n) {
    if (p_.id(n) == id) terms.emplace_back(c.gradient(n, best), 1);
  }
  if (config().tied) {
    const Matrix<double>& head = config().placement == NormPlacement::pre ? value("ln_final.normalized")
                                                                          : value(fmt::format("blocks.{}.resid_post", config().layers - 1));
    for (Index n = 0; n < p_.tokens(); ++n) {
      if (grad("logits")(n, id) != 0) terms.emplace_back(grad("logits")(n, id), head(n, best));
    }
  }
  write_sum(fmt::format("dE[{}] number {}", quoted_bytes(text_.tokens[static_cast<std::size_t>(row_)]), best), terms, (*dE)(id, best));
  verdict(c);
}

void BackwardTeller::summary() {
  step("All of them, on the way back", "‖d − Δ‖/(‖d‖ + ‖Δ‖)");
  story::Table table{"checks", {"site", "compared", "‖d‖", "error", ""}, {}};
  for (const SiteCheck& c : checks_) {
    table.rows.push_back({c.site, fmt::format("{}{}", c.compared, c.has_direction ? " + a direction" : ""), digits(c.gradient.norm()),
                          c.zero ? "–" : fmt::format("{:.1e}", c.error),
                          !c.agrees ? "DISAGREES"
                          : c.zero  ? "both zero"
                                    : "agrees"});
  }
  put(std::move(table));
  const auto wrong = std::ranges::find_if(checks_, [](const SiteCheck& c) { return !c.agrees; });
  const auto count = std::ranges::count_if(checks_, [](const SiteCheck& c) { return !c.agrees; });
  if (wrong == checks_.end()) {
    say(fmt::format("All {} agree, to {} or to what differences of the loss can see.", checks_.size(), kGradientTolerance));
  } else {
    say(
        fmt::format("{} of {} DISAGREE. On the way back {} is the first: the mistake is made where this gradient is made, and what comes "
                    "after it inherits it.",
                    count, checks_.size(), wrong->site));
  }
  out_.closing.push_back(deviation_sentence());
  out_.closing.push_back("Every weight of every kind of model, the same way: glassformer gradcheck.");
}

void BackwardTeller::data() {
  std::vector<std::string> sites, disagreeing;
  Vector<double> errors(static_cast<Index>(checks_.size())), norms = errors;
  double worst = 0;
  for (std::size_t i = 0; i < checks_.size(); ++i) {
    const SiteCheck& c = checks_[i];
    sites.push_back(c.site);
    if (!c.agrees) disagreeing.push_back(c.site);
    errors(static_cast<Index>(i)) = c.error, norms(static_cast<Index>(i)) = c.gradient.norm();
    if (!c.zero) worst = std::max(worst, std::isnan(c.error) ? std::numeric_limits<double>::infinity() : c.error);
    add((c.site + ".grad").c_str(), Matrix<double>(example_ || c.gradient.rows() == 1 ? c.gradient : Matrix<double>(c.gradient.row(row_))));
    if (example_) add((c.site + ".difference").c_str(), c.differences);
  }
  add("agrees", disagreeing.empty());
  add("worst_error", worst);
  add("disagreeing", disagreeing);
  add("sites", sites);
  add("errors", errors);
  add("norms", norms);
  add("tolerance", kGradientTolerance);
  add("deviation", deviation_);
  add("layer", q_.layer), add("head", q_.head), add("token", row_);
  add("tokens", text_.tokens), add("ids", text_.ids);
}

}  // namespace glassformer
