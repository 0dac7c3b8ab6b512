// The backward pass as a story: its differences agree with the engine, its sums can be redone by hand, and a planted mistake is found.
#include "glassformer/explain/backward.hpp"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "../model/models.hpp"
#include "glassformer/plot/text.hpp"

namespace glassformer {
namespace {

using doctest::Approx;

template <class T>
const T& datum(const Story& s, std::string_view key) {
  for (const auto& [name, value] : s.data) {
    if (name == key) return std::get<T>(value);
  }
  throw std::invalid_argument(fmt::format("no data {}", key));
}
bool agrees(const Story& s) { return datum<bool>(s, "agrees"); }
std::vector<std::string> disagreeing(const Story& s) { return datum<std::vector<std::string>>(s, "disagreeing"); }

ExplainedText text_of(const ModelConfig& c, Index tokens) {
  ExplainedText text;
  text.ids = test::random_ids(tokens, c.vocab);
  for (const Token id : text.ids) text.tokens.push_back(fmt::format("t{}", id));
  text.model = "random";
  return text;
}

void check_lines(const Story& s) {
  for (const Index width : {60, 80}) {
    std::istringstream lines(story_text(s, plot::Colour::none, width));
    for (std::string line; std::getline(lines, line);) {
      CHECK_MESSAGE(plot::display_width(line) <= width, line);
      CHECK_MESSAGE((line.find("nan") == std::string::npos && line.find("NaN") == std::string::npos), line);
    }
  }
}

struct Case {
  const char* name;
  ModelConfig config;
};
std::vector<Case> cases() {
  ModelConfig gpt2 = test::tiny_config(Position::learned);
  ModelConfig llama = test::tiny_config(Position::rope);
  llama.norm = ops::Norm::rms, llama.mlp = Mlp::swiglu, llama.bias = llama.norm_bias = false, llama.tied = false;
  ModelConfig post = test::tiny_config(Position::alibi);
  post.placement = NormPlacement::post, post.mlp = Mlp::gelu_exact, post.window = 3, post.kv_heads = 1;
  ModelConfig bare = test::tiny_config(Position::none);
  bare.mlp = Mlp::none, bare.kv_heads = 4, bare.causal = false;
  ModelConfig sinusoidal = test::tiny_config(Position::sinusoidal);
  sinusoidal.placement = NormPlacement::post, sinusoidal.norm = ops::Norm::rms, sinusoidal.norm_bias = false, sinusoidal.tied = false;
  return {{"gpt2", gpt2}, {"llama", llama}, {"post", post}, {"bare", bare}, {"sinusoidal", sinusoidal}};
}

}  // namespace

TEST_CASE("the example agrees with its differences at every number of every site") {
  const Story s = explain_backward_example();
  CHECK(agrees(s));
  CHECK(datum<std::vector<std::string>>(s, "sites").size() == 22);  // 18, and a weight of each matrix
  CHECK(s.number("worst_error") < 1e-9);
  CHECK(s.number("worst_error") > 0);
  CHECK(s.number("deviation") < 1e-13);
  for (const std::string& site : datum<std::vector<std::string>>(s, "sites")) {
    INFO(site);
    const Matrix<double>&d = s.matrix(site + ".grad"), &difference = s.matrix(site + ".difference");
    CHECK(difference.allFinite());  // all of them were made
    CHECK(test::relative_error(d, difference) < 1e-9);
    CHECK(d.norm() > 1e-3);
  }
  check_lines(s);
  for (const Index token : {0, 1, 2}) {
    const Story other = explain_backward_example({.token = token});
    CHECK(agrees(other));
    check_lines(other);
  }
}

TEST_CASE("the example, redone by hand") {
  const Story s = explain_backward_example();
  const auto grad = [&](const char* site) { return Vector<double>(s.matrix(fmt::format("{}.grad", site)).row(2)); };
  // Attention of "sat", x = (0, 0.5, 1, 0.5): x̂ = x·r with r = 1/√(mean(x²) + ε), and so for the others.
  const double eps = 1e-5;
  const auto normed = [&](Vector<double> x) { return Vector<double>(x / std::sqrt(x.squaredNorm() / 4 + eps)); };
  const Vector<double> the = normed(Vector<double>{{1, 0, 0, 0.5}}), cat = normed(Vector<double>{{0, 1, 0.5, 0}}),
                       sat = normed(Vector<double>{{0, 0.5, 1, 0.5}});
  const double q0 = sat(1) + sat(2), q1 = 0.5 * sat(0) + sat(3);
  const auto k = [](const Vector<double>& x) { return std::pair(x(1), x(0) + 0.5 * x(3)); };
  const auto v = [](const Vector<double>& x) { return std::pair(x(1) + 0.5 * x(3), x(0) + 0.5 * x(2)); };
  double e[3], p[3], sum = 0;
  const Vector<double>* rows[3] = {&the, &cat, &sat};
  for (int u = 0; u < 3; ++u) sum += e[u] = std::exp((q0 * k(*rows[u]).first + q1 * k(*rows[u]).second) / std::sqrt(2.0));
  double z0 = 0, z1 = 0;
  for (int u = 0; u < 3; ++u) p[u] = e[u] / sum, z0 += p[u] * v(*rows[u]).first, z1 += p[u] * v(*rows[u]).second;
  const Vector<double> mid{{0 + 0.5 * z0, 0.5 + z1, 1 + z0, 0.5 + 0.5 * z1}};
  // The MLP: three hidden units.
  const Vector<double> y = normed(mid);
  const double pre[3] = {0.5 * y(1) + y(2), 0.5 * y(0) - 0.5 * y(3), -0.5 * y(0) + 0.5 * y(2) + y(3)};
  double post[3], slope[3];
  for (int f = 0; f < 3; ++f) {
    const double cumulative = 0.5 * (1 + std::erf(pre[f] / std::sqrt(2.0)));
    post[f] = pre[f] * cumulative;
    slope[f] = cumulative + pre[f] * std::exp(-pre[f] * pre[f] / 2) / std::sqrt(2 * std::numbers::pi);
  }
  const Vector<double> out = mid + Vector<double>{{post[1], 0.5 * post[0], 0.5 * post[1] + 0.5 * post[2], post[0] + 0.5 * post[2]}};
  const Vector<double> head = normed(out);
  const Matrix<double> E{{1, 0, 0, 0.5}, {0, 1, 0.5, 0}, {0, 0.5, 1, 0.5}, {0.5, 0, 0.5, 1}};
  const Vector<double> logits = head * E.transpose(), exponentials = logits.array().exp();
  Vector<double> dlogits = exponentials / exponentials.sum();
  CHECK(s.number("loss_nats") == Approx(-std::log(dlogits(3))).epsilon(1e-12));
  // And back.
  dlogits(3) -= 1;
  const auto near = [](const Vector<double>& a, const Vector<double>& b) { return test::relative_error(a, b) < 1e-12; };
  CHECK(near(grad("logits"), dlogits));
  const Vector<double> dhead = dlogits * E;
  CHECK(near(grad("ln_final.normalized"), dhead));
  const auto norm_back = [&](const Vector<double>& x, const Vector<double>& dy) {
    const double r = 1 / std::sqrt(x.squaredNorm() / 4 + eps);
    return Vector<double>(r * (dy - x * r * (dy.dot(x) * r / 4)));
  };
  const Vector<double> dout = norm_back(out, dhead);
  CHECK(near(grad("blocks.0.resid_post"), dout));
  CHECK(near(grad("blocks.0.mlp_out"), dout));
  const Vector<double> dpost{{0.5 * dout(1) + dout(3), dout(0) + 0.5 * dout(2), 0.5 * dout(2) + 0.5 * dout(3)}};
  CHECK(near(grad("blocks.0.mlp.post"), dpost));
  const Vector<double> dpre{{dpost(0) * slope[0], dpost(1) * slope[1], dpost(2) * slope[2]}};
  CHECK(near(grad("blocks.0.mlp.pre"), dpre));
  const Vector<double> dy{{0.5 * dpre(1) - 0.5 * dpre(2), 0.5 * dpre(0), dpre(0) + 0.5 * dpre(2), -0.5 * dpre(1) + dpre(2)}};
  CHECK(near(grad("blocks.0.ln2.normalized"), dy));
  const Vector<double> dmid = dout + norm_back(mid, dy);
  CHECK(near(grad("blocks.0.resid_mid"), dmid));
  const double dz0 = 0.5 * dmid(0) + dmid(2), dz1 = dmid(1) + 0.5 * dmid(3);
  CHECK(near(grad("blocks.0.attn.z"), Vector<double>{{dz0, dz1}}));
  CHECK(near(grad("blocks.0.attn.v"), Vector<double>{{p[2] * dz0, p[2] * dz1}}));
  double dp[3], inner = 0, dq0 = 0, dq1 = 0;
  for (int u = 0; u < 3; ++u) dp[u] = dz0 * v(*rows[u]).first + dz1 * v(*rows[u]).second, inner += dp[u] * p[u];
  CHECK(near(grad("blocks.0.attn.pattern"), Vector<double>{{dp[0], dp[1], dp[2]}}));
  for (int u = 0; u < 3; ++u) {
    const double ds = p[u] * (dp[u] - inner);
    CHECK(grad("blocks.0.attn.attn_scores")(u) == Approx(ds).epsilon(1e-10));
    CHECK(s.matrix("jacobian")(u, u) == Approx(p[u] * (1 - p[u])).epsilon(1e-12));
    CHECK(s.matrix("jacobian")(u, (u + 1) % 3) == Approx(-p[u] * p[(u + 1) % 3]).epsilon(1e-12));
    dq0 += ds * k(*rows[u]).first / std::sqrt(2.0), dq1 += ds * k(*rows[u]).second / std::sqrt(2.0);
  }
  CHECK(near(grad("blocks.0.attn.q"), Vector<double>{{dq0, dq1}}));
}

TEST_CASE("models of every kind agree, at every layer, head and token") {
  for (const Case& c : cases()) {
    const Decoder<double> m = test::random_decoder<double>(c.config);
    const ExplainedText text = text_of(m.config, 7);
    for (const Index layer : {0, 1}) {
      for (const Index token : {-1, 0, 2, 6}) {  // the first sees one key; the last is not scored: with a causal mask nothing depends on it
        for (const Kernels kernels : test::all_kernels) {
          const Story s = explain_backward(m, text, {.layer = layer, .head = 3, .token = token, .exec = test::exec_of(kernels)});
          INFO(c.name, " layer ", layer, " token ", token);
          CHECK(agrees(s));
          CHECK(disagreeing(s).empty());
          CHECK(s.number("worst_error") < 1e-6);
          CHECK(s.number("deviation") < 1e-12);
          if (kernels == Kernels::fused && token != 2) check_lines(s);
        }
      }
    }
  }
}

TEST_CASE("a token that sees one key: its query's gradient is zero, and noise gets no relative error") {
  ModelConfig c = test::tiny_config(Position::rope);
  c.width = 64, c.heads = 8, c.kv_heads = 4, c.head_dim = 8;  // large enough that its kernels leave some rounding where nothing is
  const Decoder<double> m = test::random_decoder<double>(c);
  const Story s = explain_backward(m, text_of(m.config, 7), {.layer = 0, .token = 0});
  CHECK(agrees(s));
  CHECK(s.number("worst_error") < 1e-6);
  const auto& errors = datum<Vector<double>>(s, "errors");
  CHECK(errors.maxCoeff() == s.number("worst_error"));
  const std::string text = story_json(s);
  CHECK(text.find("zero, as far as differences can see; all") != std::string::npos);
  CHECK(text.find("sees one key alone, so its query") != std::string::npos);
}

TEST_CASE("a planted mistake is reported, at the site where it is made") {
  const auto planted = [](const std::string& name) {
    return test::Edit<double>(name, [](const Site&, MatrixRef<double> x) { x *= 1.001; });
  };
  const Story whole = explain_backward_example();
  int found = 0;
  for (const std::string& site : datum<std::vector<std::string>>(whole, "sites")) {
    test::Edit<double> edit = planted(site + ".grad");
    const Story s = explain_backward_example({.trace = &edit});
    INFO(site);
    if (site.ends_with("weight") || site.ends_with("attn_scores") || site.ends_with("pattern") || site.find("ln1") != std::string::npos ||
        site.find("ln2") != std::string::npos) {
      CHECK(agrees(s));  // no pass shows a gradient there, so there is nothing to edit
      continue;
    }
    CHECK_FALSE(agrees(s));
    CHECK(disagreeing(s).front() == site);
    CHECK(s.number("worst_error") > 1e-4);
    CHECK(story_text(s).find("DISAGREE") != std::string::npos);
    CHECK(story_text(s).find(fmt::format("On the way back {} is the first", site)) != std::string::npos);
    ++found;
  }
  CHECK(found == 14);
  // In a model, where few numbers are compared one by one: one wrong number among all.
  const Decoder<double> m = test::random_decoder<double>(test::tiny_config(Position::rope));
  const ExplainedText text = text_of(m.config, 7);
  for (const char* site :
       {"logits", "blocks.1.resid_post", "blocks.1.mlp.pre", "blocks.1.attn.z", "blocks.1.attn.rot_k", "blocks.1.attn.v"}) {
    test::Edit<double> edit(fmt::format("{}.grad", site), [](const Site&, MatrixRef<double> x) { x(1, 5) += 0.01 * x.norm(); });
    const Story s = explain_backward(m, text, {.layer = 1, .trace = &edit});
    INFO(site);
    CHECK_FALSE(agrees(s));
    CHECK(disagreeing(s).front() == site);
  }
  // A gradient that is not handed on at all.
  test::Edit<double> missing("blocks.1.attn.q.grad", [](const Site&, MatrixRef<double> x) { x.setZero(); });
  CHECK(disagreeing(explain_backward(m, text, {.layer = 1, .trace = &missing})).front() == "blocks.1.attn.q");
  test::Edit<double> broken("blocks.1.mlp.pre.grad", [](const Site&, MatrixRef<double> x) { x(0, 0) = std::nan(""); });
  CHECK(disagreeing(explain_backward(m, text, {.layer = 1, .trace = &broken})).front() == "blocks.1.mlp.pre");
}

TEST_CASE("the JSON holds every gradient") {
  const Decoder<double> m = test::random_decoder<double>(test::tiny_config());
  for (const Story& s : {explain_backward_example(), explain_backward(m, text_of(m.config, 5))}) {
    const auto j = nlohmann::json::parse(story_json(s));
    CHECK(j["agrees"].get<bool>());
    CHECK(j["component"] == "backward");
    for (const auto& site : j["sites"]) CHECK(j.contains(site.get<std::string>() + ".grad"));
    CHECK(j["errors"].size() == j["sites"].size());
    CHECK(j["loss_nats"].get<double>() > 0);
  }
}

TEST_CASE("what does not exist is answered with what does") {
  const Decoder<double> m = test::random_decoder<double>(test::tiny_config());
  const ExplainedText text = text_of(m.config, 5);
  const auto message = [&](const BackwardQuestion& q, const ExplainedText& t) {
    return test::message_of([&] { explain_backward(m, t, q); });
  };
  CHECK(message({.layer = 2}, text) == "layer: expected 0 … 1, found 2");
  CHECK(message({.head = 4}, text) == "head: expected 0 … 3, found 4");
  CHECK(message({.token = 5}, text) == "token: expected a place, 0 … 4, found 5");
  CHECK(message({.entries = 0}, text) == "entries: expected at least one, found 0");
  CHECK(message({.step = 0}, text) == "step: expected a number above 0 and below 0.1, found 0");
  CHECK(message({}, text_of(m.config, 1)) == "prompt: expected at least two tokens, one to predict the other, found 1");
  CHECK(message({}, text_of(m.config, 33)) == "prompt: expected at most 32 tokens (the model's context), found 33");
  CHECK(test::message_of([] { explain_backward_example({.layer = 1}); }) == "layer: expected 0 … 0, found 1");
}

}  // namespace glassformer
