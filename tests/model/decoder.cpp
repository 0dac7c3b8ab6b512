// What a decoder's logits may depend on, and that neither threads nor kernels nor packing change them.
#include <doctest/doctest.h>

#include "model/models.hpp"

namespace glassformer {
using namespace test;

TEST_CASE_TEMPLATE("decoder: a packed sequence gets the logits that it gets alone", S, float, double) {
  for (const auto& position : choices<Position>()) {
    const Decoder<S> m = random_decoder<S>(tiny_config(position.value));
    const std::vector<Token> ids = random_ids(30, 23);
    const std::vector<Index> lengths = {7, 1, 0, 22};
    for (const Kernels kernels : all_kernels) {
      const Matrix<S> packed = logits_of(m, ids, lengths, exec_of(kernels));
      Index begin = 0;
      for (const Index length : lengths) {
        INFO(position.name, " length ", length);
        const std::vector<Token> own(ids.begin() + begin, ids.begin() + begin + length);
        if (length > 0) CHECK(relative_error(packed.middleRows(begin, length), logits_of(m, own, {}, exec_of(kernels))) < kernel_tolerance<S>());
        begin += length;
      }
    }
  }
}

// The logits after the token at `place` is exchanged: for each row, whether it changed.
std::vector<bool> rows_changed(const Decoder<float>& m, std::vector<Token> ids, const std::vector<Index>& lengths, std::size_t place) {
  const Matrix<float> before = logits_of(m, ids, lengths);
  ids[place] = (ids[place] + 1) % 23;
  const Matrix<float> after = logits_of(m, ids, lengths);
  std::vector<bool> changed;
  for (Index n = 0; n < before.rows(); ++n) changed.push_back(!same_bits(before.row(n), after.row(n)));
  return changed;
}

TEST_CASE("decoder: a token is seen where mask, window and document bounds let it be seen, and nowhere else") {
  const std::vector<Token> ids = random_ids(20, 23);
  const std::vector<Index> lengths = {5, 12, 3};
  for (const auto& position : choices<Position>()) {
    for (const bool causal : {true, false}) {
      for (const Index window : {Index{0}, Index{3}}) {
        ModelConfig c = tiny_config(position.value);
        c.layers = 1, c.causal = causal, c.window = window;
        const std::vector<bool> changed = rows_changed(random_decoder<float>(c), ids, lengths, 9);
        for (Index n = 0; n < 20; ++n) {
          INFO(position.name, causal ? " causal" : " not causal", " window ", window, " row ", n);
          const bool seen = n >= 5 && n < 17 && (!causal || n >= 9) && (window == 0 || n < 9 + window);
          CHECK(changed[static_cast<std::size_t>(n)] == seen);
        }
      }
    }
  }
  // Two layers of a window of 3 reach twice as far.
  ModelConfig c = tiny_config();
  c.window = 3;
  const std::vector<bool> changed = rows_changed(random_decoder<float>(c), ids, lengths, 9);
  for (std::size_t n = 0; n < 20; ++n) CHECK(changed[n] == (n >= 9 && n <= 13));
}

TEST_CASE("decoder: without positions and mask, permuting the input permutes the output") {
  for (const Kernels kernels : all_kernels) {
    ModelConfig c = tiny_config(Position::none);
    c.layers = 1, c.causal = false;
    const std::vector<Token> ids = random_ids(16, 23);
    std::vector<Token> permuted(16);
    const auto to = [](Index n) { return (5 * n + 3) % 16; };
    for (Index n = 0; n < 16; ++n) permuted[static_cast<std::size_t>(to(n))] = ids[static_cast<std::size_t>(n)];
    const auto difference = [&] {
      const Decoder<float> m = random_decoder<float>(c);
      const Matrix<float> a = logits_of(m, ids, {}, exec_of(kernels)), b = logits_of(m, permuted, {}, exec_of(kernels));
      Matrix<float> expected(16, 23);
      for (Index n = 0; n < 16; ++n) expected.row(to(n)) = a.row(n);
      return relative_error(expected, b);
    };
    CHECK(difference() < 1e-6);
    for (const auto& position : choices<Position>()) {  // and each position encoding, and the mask, tell places apart
      c.position = position.value;
      if (position.value != Position::none) CHECK(difference() > 1e-2);
    }
    c.position = Position::none, c.causal = true;
    CHECK(difference() > 1e-2);
  }
}

TEST_CASE("decoder: 1, 2 and 4 threads give the same bits, logits and gradients") {
  for (const auto& mlp : choices<Mlp>()) {
    ModelConfig c;
    c.vocab = 300, c.context = 130, c.layers = 2, c.heads = 6, c.kv_heads = 2, c.width = 96, c.dropout = 0.1, c.mlp = mlp.value;
    c.position = mlp.value == Mlp::swiglu ? Position::rope : Position::learned;
    const Decoder<float> m = random_decoder<float>(c);
    const std::vector<Token> ids = random_ids(201, c.vocab);
    const std::vector<Index> lengths = {130, 1, 70};
    CHECK(same_bits_on_any_threads([&](const Exec& exec) { return logits_of(m, ids, lengths, exec); }));
    CHECK(same_bits_on_any_threads([&](const Exec& exec) {
      Runner<float> run{m, exec};
      run.training = true;
      return Vector<float>(as_row(run.gradients(ids, lengths).arena));
    }));
    LoraConfig lora;
    lora.dropout = 0.1;
    const Adapter<float> adapter = random_adapter<float>(c, lora);
    Decoder<float> adapted = m;
    attach(adapted, adapter);
    CHECK(same_bits_on_any_threads([&](const Exec& exec) {
      Runner<float> run{adapted, exec};
      run.training = true;
      return Vector<float>(as_row(run.gradients(ids, lengths, &adapter).adapter));
    }));
  }
}

TEST_CASE_TEMPLATE("decoder: fused kernels give what the formulas give", S, float, double) {
  const double tolerance = std::is_same_v<S, float> ? 1e-4 : 1e-9;
  double worst = 0;
  for (const auto& position : choices<Position>()) {
    for (const auto& mlp : choices<Mlp>()) {
      for (const bool other : {false, true}) {
        ModelConfig c = tiny_config(position.value);
        c.vocab = 130, c.context = 90, c.width = 40, c.hidden = 52, c.dropout = 0.1, c.mlp = mlp.value;
        if (other) c.norm = ops::Norm::rms, c.placement = NormPlacement::post, c.causal = false, c.window = 20, c.tied = false, c.bias = false;
        const Decoder<S> m = random_decoder<S>(c);
        const std::vector<Token> ids = random_ids(100, c.vocab);
        const std::vector<Index> lengths = {83, 1, 16};
        INFO(position.name, " ", mlp.name, other ? " rms, post" : "");
        const double of_logits = relative_error(logits_of(m, ids, lengths), logits_of(m, ids, lengths, exec_of(Kernels::reference)));
        CHECK(of_logits < tolerance);
        Runner<S> fused{m}, reference{m, exec_of(Kernels::reference)};
        fused.training = reference.training = true;
        const auto a = fused.gradients(ids, lengths), b = reference.gradients(ids, lengths);
        worst = std::max(worst, of_logits);
        for (const TensorInfo& t : m.arena.layout().tensors()) {
          const double error = relative_error(*a.arena.view(t), *b.arena.view(t));
          INFO(t.name);
          CHECK(error < tolerance);
          worst = std::max(worst, error);
        }
      }
    }
  }
  MESSAGE("worst ", worst);
}

TEST_CASE("decoder: loss without gradients is the loss with them; masked targets count nothing") {
  const Decoder<double> m = random_decoder<double>(tiny_config());
  const std::vector<Token> ids = random_ids(12, 23), targets = random_ids(12, 23, 2);
  Runner<double> run{m};
  DecoderSaved<double> saved;
  auto grads = make_gradients(m);
  std::vector<double> each(12);
  const Loss with = decoder_loss<double>(m, run.pass({12}), ids, targets, &saved, &grads, 1.0, each);
  const Loss without = decoder_loss<double>(m, run.pass({12}), ids, targets, nullptr, nullptr, 1.0);
  CHECK(with.sum_nats == doctest::Approx(without.sum_nats).epsilon(1e-14));
  CHECK(with.count == 12);
  CHECK(std::accumulate(each.begin(), each.end(), 0.0) == doctest::Approx(with.sum_nats).epsilon(1e-14));
  const Matrix<double> logits = logits_of(m, ids);
  const double expected = std::log(logits.row(3).array().exp().sum()) - logits(3, targets[3]);
  CHECK(each[3] == doctest::Approx(expected).epsilon(1e-12));

  std::vector<Token> masked = targets;
  for (std::size_t i = 0; i < 6; ++i) masked[i] = -1;
  const Loss half = decoder_loss<double>(m, run.pass({12}), ids, masked, nullptr, nullptr, 1.0);
  CHECK(half.count == 6);
  CHECK(half.sum_nats == doctest::Approx(std::accumulate(each.begin() + 6, each.end(), 0.0)).epsilon(1e-12));
  grads.arena.set_zero();
  decoder_loss<double>(m, run.pass({12}), ids, std::vector<Token>(12, -1), &saved, &grads, 1.0);
  CHECK(as_row(grads.arena).isZero(0));

  // Gradients accumulate, and scale with `scale`.
  auto once = make_gradients(m), twice = make_gradients(m);
  decoder_loss<double>(m, run.pass({12}), ids, targets, &saved, &once, 3.0);
  decoder_loss<double>(m, run.pass({12}), ids, targets, &saved, &twice, 1.0);
  decoder_loss<double>(m, run.pass({12}), ids, targets, &saved, &twice, 2.0);
  CHECK(relative_error(as_row(once.arena), as_row(twice.arena)) < 1e-14);
}

TEST_CASE("decoder: the same loss when the head's logits are cut into blocks of rows, and a trace sees them whole") {
  ModelConfig c = tiny_config();
  c.vocab = 40000, c.layers = 1;  // at most 2²³/40000 = 209 rows at once: blocks of 116 and 115
  const Decoder<float> m = random_decoder<float>(c);
  const std::vector<Token> ids = random_ids(231, c.vocab), targets = random_ids(231, c.vocab, 2);
  const std::vector<Index> lengths = {31, 200};
  Runner<float> run{m};
  DecoderSaved<float> saved;
  auto cut = make_gradients(m), whole = make_gradients(m);
  const Loss a = decoder_loss<float>(m, run.pass(lengths), ids, targets, &saved, &cut, 1.f);
  Recorder<float> recorder({"logits", "logits.grad"});
  run.trace = &recorder;
  const Loss b = decoder_loss<float>(m, run.pass(lengths), ids, targets, &saved, &whole, 1.f);
  CHECK(recorder.at("logits").rows() == 231);
  CHECK(recorder.at("logits.grad").rows() == 231);
  CHECK(a.sum_nats == doctest::Approx(b.sum_nats).epsilon(1e-6));
  CHECK(relative_error(as_row(cut.arena), as_row(whole.arena)) < 1e-5);
}

TEST_CASE("decoder: dropout acts in training only, by its stream") {
  ModelConfig c = tiny_config();
  c.dropout = 0.3;
  const Decoder<float> m = random_decoder<float>(c);
  const std::vector<Token> ids = random_ids(12, 23);
  c.dropout = 0;
  const Matrix<float> plain = logits_of(random_decoder<float>(c), ids);
  CHECK(same_bits(logits_of(m, ids), plain));
  Runner<float> run{m};
  run.training = true;
  const Matrix<float> dropped = run.logits(ids);
  CHECK(relative_error(dropped, plain) > 1e-2);
  CHECK(same_bits(run.logits(ids), dropped));
}

TEST_CASE("decoder: bad input is refused in one sentence") {
  const Decoder<float> m = random_decoder<float>(tiny_config(Position::learned));
  const auto says = [&](const std::vector<Token>& ids, const std::vector<Index>& starts, auto&& change) {
    Runner<float> run{m};
    Pass<float> pass = run.pass({1});
    pass.starts = starts;
    change(pass);
    Matrix<float> hidden(static_cast<Index>(ids.size()), 16);
    return message_of([&] { decoder_forward<float>(m, pass, ids, hidden); });
  };
  const auto nothing = [](Pass<float>&) {};
  CHECK(says({1, 2}, {0, 2}, nothing).empty());
  CHECK(says({1, 23}, {0, 2}, nothing) == "expected a token in 0 … 22, found 23");
  CHECK(says({-1, 2}, {0, 2}, nothing) == "expected a token in 0 … 22, found -1");
  CHECK(says({1, 2}, {0, 3}, nothing) == "bounds of 3 tokens, but 2 tokens");
  const std::string ascending = "a pass needs ascending bounds that start with 0";
  CHECK(says({1, 2}, {1, 2}, nothing) == ascending);
  CHECK(says({1, 2}, {0, 3, 2}, nothing) == ascending);
  CHECK(says({1, 2}, {0}, nothing) == ascending);
  CHECK(says({1, 2}, {}, nothing) == ascending);
  CHECK(says({1, 2}, {0, 2}, [](Pass<float>& p) { p.workspace = nullptr; }) == "a pass needs a workspace");
  CHECK(says(random_ids(33, 23), {0, 33}, nothing) == "place 32 is beyond the learned position table of 32 places");
  CHECK(says(random_ids(33, 23), {0, 1, 33}, nothing).empty());

  KvCache<float> cache = make_cache(m, 2, 40);
  const std::vector<Index> one = {0}, twice = {0, 0}, outside = {2};
  CHECK(says({1, 2}, {0, 1, 2}, [&](auto& p) { p.cache = &cache, p.slots = one; }) == "2 sequences, but 1 slots of the cache");
  CHECK(says({1, 2}, {0, 1, 2}, [&](auto& p) { p.cache = &cache, p.slots = twice; }) == "two sequences share slot 0 of the cache");
  CHECK(says({1, 2}, {0, 2}, [&](auto& p) { p.cache = &cache, p.slots = outside; }) == "KV cache: expected a slot below 2, found 2");
  CHECK(cache.length(0) == 0);
  CHECK(says(random_ids(32, 23), {0, 32}, [&](auto& p) { p.cache = &cache, p.slots = one; }).empty());
  CHECK(says({1}, {0, 1}, [&](auto& p) { p.cache = &cache, p.slots = one; }) == "place 32 is beyond the learned position table of 32 places");
  CHECK(cache.length(0) == 32);

  ModelConfig wide = tiny_config();
  wide.kv_heads = 4;
  KvCache<float> misfit = make_cache(make_decoder<float>(wide), 1);
  CHECK(says({1}, {0, 1}, [&](auto& p) { p.cache = &misfit, p.slots = one; }) == "KV cache: its shape does not fit the model's attention");

  Runner<float> run{m};
  DecoderSaved<float> saved;
  auto grads = make_gradients(m);
  DecoderGrads<float> empty;
  const std::vector<Token> ids = {1, 2};
  const auto loss = [&](std::vector<Token> targets, DecoderSaved<float>* s, DecoderGrads<float>* g, std::size_t room = 0) {
    std::vector<double> losses(room);
    return message_of([&] { decoder_loss<float>(m, run.pass({2}), ids, targets, s, g, 1.f, losses); });
  };
  CHECK(loss({1}, nullptr, nullptr) == "2 tokens, but 1 targets");
  CHECK(loss({1, 23}, nullptr, nullptr) == "cross_entropy: expected a target in −1 … 22, found 23");
  CHECK(loss({1, 2}, nullptr, nullptr, 3) == "2 tokens, but room for 3 losses");
  CHECK(loss({1, 2}, nullptr, &grads) == "gradients need what the forward pass saves");
  CHECK(loss({1, 2}, &saved, &empty) == "gradients of 0 blocks, but the model has 2");
}

}  // namespace glassformer
