// Looking into a decoder: which sites fire, that looking changes nothing, and that editing does.
#include <doctest/doctest.h>

#include <algorithm>

#include "glassformer/model/sites.hpp"
#include "glassformer/trace/edits.hpp"
#include "model/models.hpp"

namespace glassformer {
using namespace test;

namespace {

// The sites of a block, forward.
std::set<std::string> block_sites(const ModelConfig& c, Index block) {
  std::set<std::string> sites;
  const std::string at = "blocks." + std::to_string(block) + ".";
  for (const char* s : {"resid_pre", "ln1.normalized", "attn.q", "attn.k", "attn.v", "attn.attn_scores", "attn.pattern", "attn.z", "attn_out", "resid_mid",
                        "ln2.normalized", "mlp.pre", "mlp.post", "mlp_out", "resid_post"}) {
    sites.insert(at + s);
  }
  if (c.position == Position::rope) sites.insert({at + "attn.rot_q", at + "attn.rot_k"});
  return sites;
}
std::set<std::string> forward_sites(const ModelConfig& c) {
  std::set<std::string> sites = {"embed", "logits"};
  if (c.placement == NormPlacement::pre) sites.insert("ln_final.normalized");
  if (c.position == Position::learned || c.position == Position::sinusoidal) sites.insert("pos_embed");
  for (Index i = 0; i < c.layers; ++i) sites.merge(block_sites(c, i));
  return sites;
}
std::set<std::string> names_of(const Recorder<float>& recorder, bool gradients) {
  std::set<std::string> names;
  for (const auto& [site, value] : recorder.values()) {
    if (site.name.ends_with(".grad") == gradients) names.insert(site.name);
  }
  return names;
}

}  // namespace

TEST_CASE("trace: every site fires in training, prefill and decode") {
  for (const auto& position : choices<Position>()) {
    for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
      ModelConfig c = tiny_config(position.value);
      c.placement = placement;
      const Decoder<float> m = random_decoder<float>(c);
      Recorder<float> training, prefill, decode;
      Runner<float> run{m, {}, &training};
      run.training = true;
      run.gradients(random_ids(9, 23), {6, 3});
      CHECK(names_of(training, false) == forward_sites(c));
      std::set<std::string> gradients = {"embed.grad", "logits.grad"};
      for (const std::string& site : forward_sites(c)) {
        const bool none = site == "pos_embed" || site.ends_with("attn_scores") || site.ends_with("pattern") || site.ends_with("normalized");
        if (!none) gradients.insert(site + ".grad");
      }
      if (placement == NormPlacement::pre) gradients.insert("ln_final.normalized.grad");
      CHECK(names_of(training, true) == gradients);
      CHECK(training.at("blocks.1.attn.pattern", 1, 3).rows() == 3);
      CHECK(training.at("blocks.1.attn.q").cols() == 16);
      CHECK(training.at("logits").rows() == 9);

      KvCache<float> cache = make_cache(m, 1);
      Runner<float> cached{m, {}, &prefill, &cache, {0}};
      cached.logits(random_ids(5, 23));
      CHECK(names_of(prefill, false) == forward_sites(c));
      cached.trace = &decode;
      cached.logits({3});
      CHECK(names_of(decode, false) == forward_sites(c));
      CHECK(decode.at("blocks.0.attn.pattern", 0, 0).cols() == 6);

      const std::vector<std::string> named = decoder_sites(c);
      CHECK(std::set<std::string>(named.begin(), named.end()) == forward_sites(c));
      CHECK(named.size() == forward_sites(c).size());
    }
  }
}

// Names in the order in which they fire, each once.
struct Order : Trace<float> {
  std::vector<std::string> names;
  bool wants(std::string_view) const override { return true; }
  void visit(const Site& site, MatrixRef<float>) override {
    if (names.empty() || names.back() != site.name) names.push_back(site.name);
  }
};

TEST_CASE("trace: decoder_sites names what fires, in its order, also without an MLP; another name is answered with these") {
  for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
    for (const Mlp mlp : {Mlp::gelu_tanh, Mlp::swiglu, Mlp::none}) {
      ModelConfig c = tiny_config(Position::rope);
      c.placement = placement, c.mlp = mlp;
      const Decoder<float> m = random_decoder<float>(c);
      Order order;
      Runner<float>{m, {}, &order}.logits(random_ids(7, 23));
      // Scores and patterns come in turn, head by head: once is enough.
      std::vector<std::string> once;
      for (const std::string& name : order.names) {
        if (std::ranges::find(once, name) == once.end()) once.push_back(name);
      }
      CHECK(once == decoder_sites(c));
    }
  }
  ModelConfig c = tiny_config(Position::alibi);
  c.mlp = Mlp::none;
  CHECK_NOTHROW(require_site(c, "blocks.1.attn.pattern"));
  for (const char* wrong : {"blocks.2.attn.q", "blocks.0.attn.rot_q", "blocks.0.mlp_out", "pos_embed", "resid_mid", ""}) {
    CHECK(message_of([&] { require_site(c, wrong); }) ==
          std::string("site: found ") + wrong +
              "; this model has embed, blocks.i.resid_pre, blocks.i.ln1.normalized, blocks.i.attn.q, blocks.i.attn.k, blocks.i.attn.v, "
              "blocks.i.attn.attn_scores, blocks.i.attn.pattern, blocks.i.attn.z, blocks.i.attn_out, blocks.i.resid_mid, "
              "blocks.i.resid_post, ln_final.normalized, logits; i from 0 to 1");
  }
}

TEST_CASE("trace: a sliding cache shows its keys as it turned them, and reads them as they were edited") {
  const Decoder<float> m = random_decoder<float>(tiny_config(Position::rope));
  const std::vector<Token> ids = random_ids(6, 23);
  KvCache<float> plain = make_cache(m, 1), sliding = make_cache(m, 1, 0, true, 1);
  Recorder<float> a, b;
  Runner<float>{m, {}, &a, &plain, {0}}.logits(ids);
  Runner<float>{m, {}, &b, &sliding, {0}}.logits(ids);
  CHECK(names_of(b, false) == forward_sites(m.config));  // before it slides, places are those of the text
  CHECK(largest_difference(a.at("blocks.1.attn.rot_k"), b.at("blocks.1.attn.rot_k")) < 1e-5);
  CHECK(largest_difference(b.at("blocks.0.attn.rot_k"), b.at("blocks.0.attn.k")) > 1e-2);
  const auto decode = [&](Trace<float>* trace) {
    KvCache<float> cache = make_cache(m, 1, 0, true, 1);
    Runner<float> run{m, {}, nullptr, &cache, {0}};
    run.logits(ids);
    run.trace = trace;
    return run.logits({3});
  };
  Recorder<float> look;
  Edit<float> edit("blocks.0.attn.rot_k", [](const Site&, MatrixRef<float> k) { k(0, 0) += 1; });
  CHECK(largest_difference(decode(nullptr), decode(&look)) < 1e-5);
  CHECK(largest_difference(decode(nullptr), decode(&edit)) > 1e-4);
}

TEST_CASE("trace: a decoder's hook edits every pass once, before the pass's own trace sees it") {
  const Decoder<double> m = random_decoder<double>(tiny_config());
  const std::vector<Token> ids = random_ids(9, 23);
  const auto half = std::make_shared<Edits<double>>();
  half->add({.site = {"blocks.0.attn_out"}, .factor = 0.5});
  half->add({.site = {"logits"}, .factor = 3});
  Decoder<double> hooked = random_decoder<double>(tiny_config());
  hooked.hook = half;
  Recorder<double> before, after, by_trace;
  const Matrix<double> plain = Runner<double>{m, {}, &before}.logits(ids), edited = Runner<double>{hooked, {}, &after}.logits(ids);
  CHECK(relative_error(before.at("blocks.0.attn_out") * 0.5, after.at("blocks.0.attn_out")) < 1e-15);
  CHECK(largest_difference(plain, edited) > 1e-3);
  CHECK(same_bits(Runner<double>{hooked}.logits(ids), Runner<double>{m, {}, half.get()}.logits(ids)));  // the same edits as the pass's own trace
  CHECK(same_bits(after.at("logits"), edited));
  Decoder<double> scaled = random_decoder<double>(tiny_config());
  (*scaled.blocks[0].attention.out.weight) *= 0.5;
  if (scaled.blocks[0].attention.out.bias) (*scaled.blocks[0].attention.out.bias) *= 0.5;
  CHECK(relative_error(logits_of(scaled, ids) * 3, edited) < 1e-13);
  CHECK(relative_error(*Runner<double>{hooked}.gradients(ids, {9}).embed.weight, *Runner<double>{m, {}, half.get()}.gradients(ids, {9}).embed.weight) < 1e-15);
}

TEST_CASE("trace: looking on changes nothing") {
  for (const auto& position : choices<Position>()) {
    const Decoder<float> m = random_decoder<float>(tiny_config(position.value));
    const std::vector<Token> ids = random_ids(20, 23);
    for (const Kernels kernels : all_kernels) {
      Recorder<float> recorder;
      Runner<float> plain{m, exec_of(kernels)}, watched{m, exec_of(kernels), &recorder};
      const Matrix<float> a = plain.logits(ids), b = watched.logits(ids);
      const auto da = plain.gradients(ids, {20}), db = watched.gradients(ids, {20});
      if (kernels == Kernels::reference) {
        CHECK(same_bits(a, b));
        CHECK(same_bits(as_row(da.arena), as_row(db.arena)));
      }
      CHECK(largest_difference(a, b) < 1e-5);
      CHECK(relative_error(as_row(da.arena), as_row(db.arena)) < 1e-5);
    }
    // A site that needs no other kernel: the same bits with fused kernels too.
    Recorder<float> one({"blocks.1.resid_mid"});
    Runner<float> plain{m}, watched{m, {}, &one};
    CHECK(same_bits(plain.logits(ids), watched.logits(ids)));
    CHECK(one.values().size() == 1);
  }
}

TEST_CASE("trace: the values are those of the formulas") {
  const Decoder<double> m = random_decoder<double>(tiny_config(Position::alibi));
  Recorder<double> r;
  const Matrix<double> logits = Runner<double>{m, {}, &r}.logits(random_ids(7, 23));
  const std::string at = "blocks.1.";
  CHECK(relative_error(r.at(at + "resid_mid"), r.at(at + "resid_pre") + r.at(at + "attn_out")) < 1e-14);
  CHECK(relative_error(r.at(at + "resid_post"), r.at(at + "resid_mid") + r.at(at + "mlp_out")) < 1e-14);
  CHECK(same_bits(r.at("blocks.0.resid_post"), r.at(at + "resid_pre")));
  CHECK(same_bits(r.at("logits"), logits));
  for (Index h = 0; h < 4; ++h) {
    const Matrix<double>& pattern = r.at(at + "attn.pattern", 0, h);
    CHECK((pattern.rowwise().sum().array() - 1).abs().maxCoeff() < 1e-14);
    CHECK(r.at(at + "attn.attn_scores", 0, h)(2, 3) == -std::numeric_limits<double>::infinity());
    const Matrix<double> z = pattern * r.at(at + "attn.v").middleCols(h / 2 * 4, 4);
    CHECK(relative_error(z, r.at(at + "attn.z").middleCols(h * 4, 4)) < 1e-14);
  }
}

TEST_CASE("trace: asked before it is shown, and shown only what it wants") {
  struct Asked : Trace<float> {
    mutable std::set<std::string> asked;
    std::size_t shown = 0;
    bool wants(std::string_view site) const override { return asked.insert(std::string(site)), false; }
    void visit(const Site&, MatrixRef<float>) override { ++shown; }
  } asked;
  const Decoder<float> m = random_decoder<float>(tiny_config());
  Runner<float>{m, {}, &asked}.logits(random_ids(7, 23));
  CHECK(asked.shown == 0);
  CHECK(asked.asked == forward_sites(m.config));
}

TEST_CASE("trace: editing any site changes the result") {
  const ModelConfig c = tiny_config();
  const Decoder<double> m = random_decoder<double>(c);
  const std::vector<Token> ids = random_ids(9, 23);
  const Matrix<double> before = Runner<double>{m}.logits(ids);
  for (const std::string& site : forward_sites(c)) {
    Edit<double> edit(site, [](const Site&, MatrixRef<double> x) {
      for (Index t = 0; t < x.rows(); ++t) x(t, 0) += static_cast<double>(t + 1);  // the same for all keys would be a shift, which softmax ignores
    });
    INFO(site);
    CHECK(relative_error(before, Runner<double>{m, {}, &edit}.logits(ids)) > 1e-4);
  }
  // Ablating every head of attn.z is the same as a zero output projection.
  Edit<double> ablate("blocks.1.attn.z", [](const Site&, MatrixRef<double> x) { x.setZero(); });
  Decoder<double> without = random_decoder<double>(c);
  (*without.blocks[1].attention.out.weight).setZero();
  CHECK(relative_error(Runner<double>{m, {}, &ablate}.logits(ids), logits_of(without, ids)) < 1e-14);
}

TEST_CASE("trace: gradients are those of the edited pass") {
  for (const Kernels kernels : all_kernels) {
    const ModelConfig c = tiny_config();
    const Decoder<double> m = random_decoder<double>(c);
    const std::vector<Token> ids = random_ids(9, 23);
    Edit<double> cut("blocks.0.attn.pattern", [](const Site& site, MatrixRef<double> p) {
      if (site.head == 1) p.setZero();
    });
    const auto edited = Runner<double>{m, exec_of(kernels), &cut}.gradients(ids, {9});
    // A head that is cut is a head that the output projection does not read.
    Decoder<double> deaf = random_decoder<double>(c);
    (*deaf.blocks[0].attention.out.weight).middleCols(4, 4).setZero();
    const auto expected = Runner<double>{deaf, exec_of(kernels)}.gradients(ids, {9});
    CHECK(relative_error(*edited.blocks[0].attention.qkv.weight, *expected.blocks[0].attention.qkv.weight) < 1e-12);
    CHECK(relative_error(*edited.embed.weight, *expected.embed.weight) < 1e-12);
  }
}

}  // namespace glassformer
