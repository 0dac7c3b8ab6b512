// What a learner is told of each fault. The quoted lines and tests exist: tests/learn/fault_list.cpp looks for them.
#include <algorithm>
#include <array>
#include <cctype>

#include "glassformer/core/require.hpp"
#include "glassformer/learn/fault.hpp"

namespace glassformer {
namespace {

const char* const kHeldOut = "loss on held-out text";

std::vector<Fault> attention_faults() {
  return {
      {1,
       "scale",
       "attention",
       "the scale 1/√D of the scores is missing",
       "This model was better when it was saved: the log of its training ended at a lower loss on the same text.",
       Probe::evaluation,
       kHeldOut,
       {"Every weight is as it was trained, and eval is worse all the same. Something between the weights is not as it was in training.",
        "Look at a pattern: heads are surer of themselves than a softmax over such queries and keys would be.",
        "trace blocks.0.attn.attn_scores and work one entry out: q·k, and what then?"},
       "The scores are q·k and not q·k/√D. The sum of D products grows like √D, so the softmax sees scores √D times too large, saturates, "
       "and attends to one "
       "place where it was trained to mix several. Text still looks like text: attention's order of preference has not changed.",
       "src/model/layout.cpp",
       "a.core.scale = 1 / std::sqrt(static_cast<double>(c.head_dim));",
       "tests/train/goldens.cpp",
       "PyTorch: a GPT-2-style decoder's logits, loss and gradients",
       {"scale 1/", "scale of", "missing scale", "scaling", "sqrt", "√", "square root"}},
      {9,
       "next",
       "attention",
       "the causal mask is one off: a token sees the next one",
       "Training goes splendidly. The loss is far below the entropy of the text's source, which is impossible, and what the model writes "
       "is rubbish.",
       Probe::training,
       kHeldOut,
       {"No model can predict better than the source allows. So it does not predict.",
        "What does a position get to see in training that is not there yet when text is written?",
        "trace blocks.0.attn.pattern: how far to the right of the diagonal is there weight?"},
       "Query t sees the keys up to t + 1: the token that it is to predict. It learns to copy it, and the loss tends to zero. While "
       "writing there is no next "
       "token to copy. A loss below the source's entropy always means a leak.",
       "include/glassformer/ops/attention_core.hpp",
       "(!causal || key_place <= query_place)",
       "tests/model/decoder.cpp",
       "decoder: a token is seen where mask, window and document bounds let it be seen, and nowhere else",
       {"mask", "next token", "future", "causal", "leak"}},
      {13,
       "axis",
       "attention",
       "softmax over the queries instead of the keys",
       "The model scores a text far worse than its training log says, and writes rubbish, though its weights are those that were saved.",
       Probe::evaluation,
       kHeldOut,
       {"One of the operations inside is not the operation it is taken for.", "Some numbers in here should be probabilities. Are they?",
        "trace blocks.0.attn.pattern: which sums are 1, those of rows or those of columns?"},
       "The softmax ran along the wrong axis: the weights that all queries give to one key sum to 1, and a query's own weights to "
       "anything. It also leaks: what "
       "a later query scores changes what an earlier one gets.",
       "include/glassformer/ops/reference/attention.hpp",
       "softmax_forward<S>(scores, pattern);",
       "tests/ops/attention.cpp",
       "attention by hand: one head, two places, causal",
       {"axis", "columns", "softmax over", "wrong dimension", "over the queries"}},
      {22,
       "groups",
       "attention",
       "query heads read the wrong group of keys and values",
       "A model with grouped heads is worse here than in its training log. Models whose heads have keys of their own are fine.",
       Probe::evaluation,
       kHeldOut,
       {"Only grouped-query models suffer. What is done to them that others do not need?",
        "4 query heads, 2 heads of keys and values: write down which query head should read which.",
        "trace blocks.0.attn.z: the sum it should be is pattern·v of head h/(H/G). Which heads fit?"},
       "Query head h read key-value head h mod G. It should be h/(H/G): neighbouring query heads share one. With as many key-value heads "
       "as query heads, or "
       "with one, both rules agree, so nobody else notices.",
       "include/glassformer/ops/reference/attention.hpp",
       "return head / (shape.heads / shape.kv_heads);",
       "tests/train/goldens.cpp",
       "PyTorch: a Llama-style decoder's logits, loss and gradients",
       {"group", "gqa", "kv head", "key-value head", "wrong heads"}},
      {24,
       "head",
       "attention",
       "a head is switched off",
       "Somebody experimented with this engine yesterday. Since then the model is a little worse, and it repeats itself.",
       Probe::evaluation,
       kHeldOut,
       {"Nothing is computed wrongly, but something is missing.",
        "The patterns are all right. Follow what they gather: what does each head hand on?",
        "trace blocks.1.attn.z: look at the columns of the last head."},
       "The output z of the last head of the last layer is set to zero: an ablation that somebody left switched on. Its pattern is whole, "
       "since the head is cut "
       "behind it. What the model loses tells what the head was for.",
       "src/attention/attention.cpp",
       "pass.visit(\"attn.z\", *z);",
       "tests/model/trace.cpp",
       "trace: the values are those of the formulas",
       {"ablat", "head off", "switched off", "head is zero", "zeroed head", "missing head", "dead head"}},
  };
}

std::vector<Fault> position_and_cache_faults() {
  return {
      {8,
       "pairs",
       "position",
       "RoPE turns neighbours (2i, 2i + 1) and not halves (i, i + D/2)",
       "The weights came from another program, where the model works. Every tensor was read without complaint, and here it is hardly "
       "better than guessing.",
       Probe::evaluation,
       kHeldOut,
       {"Both programs are right in their own way. They agree about the weights, and not about what to do with them.",
        "How bad is the very first letter of a text? And the later ones? eval shows the loss by place.",
        "trace blocks.0.attn.rot_q: a rotation keeps the length of each pair that it turns. Which pairs kept theirs?"},
       "There are two conventions for RoPE's pairs: neighbours (2i, 2i+1), as in the paper and llama2.c, and halves (i, i + D/2), as in "
       "Hugging Face's Llama. "
       "A model trained in one and run in the other turns channels together that do not belong together. Place 0 is not turned, so it "
       "alone is right. "
       "Converters permute the rows of q and k for this.",
       "src/position/position.cpp",
       "S* __restrict b = a + half;",
       "tests/position/position.cpp",
       "RoPE by hand: half-split pairs turn by place·θ",
       {"pairs", "interleav", "half-split", "half split", "neighbours"}},
      {18,
       "place",
       "cache",
       "RoPE's place is one off while decoding with the cache",
       "With the KV cache the model writes another text than without. The prompt's logits are the same to six digits.",
       Probe::cache,
       "the same, the tokens written after it",
       {"Reading the prompt is right, writing is not. What differs between the two?",
        "mode decode, then trace: compare the sites of layer 0 with those of mode full, in the order in which they fire.",
        "attn.q and attn.k agree in both modes, attn.rot_q and attn.rot_k do not. What is the rotation's argument?"},
       "A decoded token was turned as if it stood one place further. All tokens of the prompt seem one step more distant than they are; "
       "among themselves the "
       "decoded ones are right, so short prompts hide it.",
       "src/model/decoder.cpp",
       "places[static_cast<std::size_t>(n)] = first + n - begin;",
       "tests/model/adapter.cpp",
       "cache: a prompt in two pieces and then token by token gives the logits of one pass",
       {"place", "position", "rope one", "wrong rotation"}},
      {4,
       "stale",
       "cache",
       "stale cache rows: a decoded row gets its predecessor's key and value",
       "With the KV cache the text soon falls to pieces; without it is fine. The prompt itself is read the same either way.",
       Probe::cache,
       "the same, the tokens written after it",
       {"Prefill is right and decoding is not, so the weights are innocent.",
        "mode decode, then trace blocks.0.attn.k and blocks.0.attn.rot_k against mode full.",
        "In mode decode, compare row n of attn.rot_k and attn.v with row n − 1 of mode full."},
       "Each decoded row of the cache received the key and value of the token before it: the last prompt token is there twice, the newest "
       "not at all. Every query of decoding looks for its own token and finds an older one.",
       "src/attention/attention.cpp",
       "pass.cache->write(pass.layer, slot, length + t, row + at.k, row + at.v);",
       "tests/sample/cache_agreement.cpp",
       "logits over 512 tokens: cached and uncached within 1e-5, for every position and head grouping",
       {"stale", "cache row", "row of the cache", "old key", "not written", "overwrit", "token before"}},
      {16,
       "bounds",
       "data",
       "document bounds are ignored: tokens attend to the documents before",
       "The loss of a text depends on which other texts lie in its batch. One by one they are all fine.",
       Probe::neighbours,
       "difference",
       {"Texts in one batch should not know of each other.", "data shows how a batch is packed; sites shows the shapes of the patterns.",
        "How many keys has the pattern of a document of 70 tokens, when two of them are packed together?"},
       "All documents of a batch were run as one sequence: the list of starts had a beginning and an end and nothing between. Tokens "
       "attended across documents "
       "and stood at places far beyond those of training. Padding that is not masked does the same.",
       "src/attention/attention.cpp",
       "const Index begin = pass.starts[static_cast<std::size_t>(s)], T = pass.starts[static_cast<std::size_t>(s) + 1] - begin;",
       "tests/model/decoder.cpp",
       "decoder: a packed sequence gets the logits that it gets alone",
       {"bound", "across documents", "document mask", "starts", "padding", "packed", "other documents", "one sequence"}},
  };
}

std::vector<Fault> model_faults() {
  return {
      {5,
       "residual",
       "block",
       "the residual connection around attention is dropped in the last block",
       "The model is much worse than its training log says. Some of its words are still right.",
       Probe::evaluation,
       kHeldOut,
       {"Follow the residual stream from block to block.", "What does a block do to what enters it: replace it, or add to it?",
        "trace blocks.1.resid_mid: is it resid_pre + attn_out?"},
       "In the last block x ← attention(ln(x)) took the place of x ← x + attention(ln(x)). All that the stream had gathered before, the "
       "token itself included, was "
       "thrown away; only what attention carries over survived.",
       "src/model/block.cpp",
       "ops::add<S>(*a, x, pass.exec);",
       "tests/model/trace.cpp",
       "trace: the values are those of the formulas",
       {"residual", "skip connection"}},
      {19,
       "epsilon",
       "norm",
       "the norm's ε is 1 instead of 1e-5",
       "A configuration was written by hand. The weights fit, nothing complains, and the model is bad.",
       Probe::evaluation,
       kHeldOut,
       {"The weights are right; not everything that makes a model is a weight.", "Where would a small number hide that all layers share?",
        "trace blocks.0.ln1.normalized: what should the variance of a normalised row be, before gain and bias?"},
       "LayerNorm divides by √(var + ε). The stream's variance at the first block is far below 1, so with ε = 1 rows were hardly "
       "normalised and everything behind "
       "them was too quiet. ε also differs between families: 1e-5 (GPT-2, Llama 2) and 1e-6 (others); that much can cost a digit.",
       "src/model/block.hpp",
       "static_cast<S>(c.norm_epsilon)",
       "tests/ops/norm.cpp",
       "norms by hand",
       {"epsilon", "ε"}},
      {12,
       "untied",
       "head",
       "the output head is not tied to the embedding: it holds random weights",
       "The model was saved and loaded again, and is now worse than knowing nothing at all.",
       Probe::evaluation,
       kHeldOut,
       {"Compare the loss with ln V, that of a model that knows nothing. What does it take to be worse than that?",
        "Everything up to ln_final is as it should be.", "trace logits: are they the hidden row times the embedding?"},
       "The file holds one matrix for embedding and head, because they are tied. The loader did not tie them, so the head kept its initial "
       "random weights: a good "
       "hidden state, read by a head that speaks another language.",
       "src/model/layout.cpp",
       "m.unembed.weight = c.tied ? m.embed.weight : weight(\"unembed.weight\");",
       "tests/model/config.cpp",
       "tied: the head is the embedding, and its gradient is the sum of both uses",
       {"tied", "untied", "unembed", "output head", "lm_head", "lm head", "tying"}},
      {21,
       "transposed",
       "files",
       "a projection's weights are transposed: attn.out of the first block",
       "One of the checkpoints that were converted last week is bad. Its shapes are all right and so are the norms of its tensors.",
       Probe::evaluation,
       kHeldOut,
       {"Right numbers, right shapes, wrong places.", "Only a square matrix can hide this. Which ones are square here?",
        "Block 0 hands the wrong thing on: its z is right, its attn_out is not what training had."},
       "GPT-2's files hold [in, out] where this engine has [out, in], so a reader must transpose. For attn.out, [C, C], nothing complains "
       "when it does not. Sums of "
       "squares agree; the product is another one.",
       "src/io/tensor_names.cpp",
       "t.add(theirs + \".weight\", ours + \".weight\", transposed);",
       "tests/io/model_directory.cpp",
       "GPT-2's file has GPT-2's names and [in, out]",
       {"transpos"}},
      {2,
       "alpha",
       "LoRA",
       "the adapter is scaled by α instead of α/r",
       "An adapter makes the model worse on the very text that it was trained on. Merged into the weights, the same adapter is fine.",
       Probe::adapter,
       "with the adapter attached",
       {"Merged and attached should be one and the same model.", "Both read the same A and B. What else is in the formula?",
        "The change is too large by a factor. The rank is 4."},
       "y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ with s = α/r; the attached adapter took s = α. With r = 4 its change was four times too large. At rank 1 "
       "nobody would have noticed, "
       "and a rank that grows makes it worse.",
       "src/model/adapter.cpp",
       "static_cast<S>(a.config.scale(t.rank, t.alpha))",
       "tests/model/adapter.cpp",
       "adapter: a fresh one changes nothing to the bit; attached equals merged; restore gives the bits back",
       {"alpha", "α", "lora scale", "adapter scale", "rank"}},
  };
}

std::vector<Fault> training_faults() {
  return {
      {3,
       "targets",
       "data",
       "targets are shifted by two: a token is asked for the one after the next",
       "Training converges, but to a loss well above what this corpus allows, and the text it writes looks like every other letter of "
       "something.",
       Probe::training,
       kHeldOut,
       {"The engine is fine: it learns well what it is asked to learn.", "data shows what is asked. Read inputs and targets side by side.",
        "Which target stands under the first letter?"},
       "targets[t] = ids[t + 2]. The model learns to say the letter after the next, and since that is less certain than the next one the "
       "loss stays high. While "
       "writing, its answer is used as the next letter, so every other letter is lost.",
       "src/data/dataset.cpp",
       "append_window(result, ids, begin, sequence_end(ids, begin, context, document_separator));",
       "tests/data/dataset_test.cpp",
       "random_batch: windows by counter, each offset equally likely",
       {"target", "shift", "label"}},
      {6,
       "uncleared",
       "training",
       "gradients are not cleared between steps",
       "The first step is like that of a healthy run, to the last digit. After that the loss soon stops falling and the gradient's norm "
       "grows and grows.",
       Probe::training,
       "gradient norm, last 10 steps",
       {"Step 1 is right. What does step 2 have that step 1 had not?", "gradcheck passes: each backward pass is right.",
        "train shows the norm at each step. What would it be if nothing were ever taken away?"},
       "Backward accumulates into the parameters' gradients, so a step begins by clearing them; here it did not. Each update followed the "
       "sum of all gradients so "
       "far, most of them of weights that are long gone. Accumulating is wanted within a step, over micro-batches, and nowhere else.",
       "src/train/trainer.cpp",
       "arena_of(grads).set_zero(options_.exec.threads);",
       "tests/train/goldens.cpp",
       "PyTorch: five AdamW steps with clipping",
       {"clear", "not zeroed", "zeroed grad", "zero_grad", "zero grad", "accumulat", "set_zero", "reset", "old gradients"}},
      {11,
       "rate",
       "training",
       "the learning rate is thirty times too high, and there is no warm-up",
       "The loss falls for a moment, then stays at what counting letters would give. The text is the same few letters again and again.",
       Probe::training,
       kHeldOut,
       {"Gradients are right: gradcheck passes.", "The model is thrown somewhere in the first steps and never comes back.",
        "train prints the rate of each step."},
       "The rate was 0.3 from the first step. Adam's steps have about the size of the rate in every weight, whatever the gradient, so a "
       "few of them carry "
       "weights of size 0.1 to where softmax and GELU are saturated. What is left to learn is how often each letter occurs.",
       "src/train/trainer.cpp",
       "double schedule(const TrainOptions& o, Index step) {",
       "tests/train/trainer.cpp",
       "schedule: a linear rise over the warm-up, then a cosine down to the lowest rate",
       {"learning rate", "rate", "warm-up", "warmup", "warm up"}},
      {14,
       "gelu",
       "backward",
       "the backward pass leaves out the derivative of GELU",
       "Training works, only not as well as it did: the loss after the same steps is higher than in last week's log.",
       Probe::training,
       "loss, mean of the last 10 steps",
       {"A wrong gradient need not stop a model from learning.",
        "gradcheck: which tensors pass, and which do not? Backward runs from the end to the beginning.",
        "mlp.down of the last block passes, mlp.up does not. What lies between them?"},
       "post = gelu(pre), so d pre = d post ⊙ gelu'(pre); here d pre = d post. The direction is often good enough to learn from, which is "
       "what makes "
       "such mistakes live long. Everything in front of the GELU gets a wrong gradient, mlp.down and what comes after it a right one.",
       "src/mlp/mlp.cpp",
       "ops::activation_backward<S>(",
       "tests/explain/gradients.cpp",
       "gradients: every choice and every pair of choices, analytic equals numeric",
       {"gelu", "activation", "derivative"}},
      {20,
       "unturned",
       "backward",
       "the backward pass does not turn the gradients of q and k back (RoPE)",
       "Training is slower than in last week's log. With learned positions in place of RoPE it is as good as ever.",
       Probe::training,
       "loss, mean of the last 10 steps",
       {"A forward pass with RoPE is right: models trained elsewhere work.", "gradcheck, and read which tensors fail in the last block.",
        "Only attn.qkv and what lies before it fail. Compare trace blocks.1.attn.rot_q.grad and blocks.1.attn.q.grad."},
       "q was turned by its place before it met the keys, so its gradient must be turned back by the same angle. Left out, the gradient of "
       "every weight of q and k "
       "is turned by the angle of its token, right at place 0 and arbitrary further on. v needs no turning, so something is still learned.",
       "src/attention/attention.cpp",
       "rope_rotate<S>(*p.rope, pass.places, c.core.heads, true, dq, pass.exec);",
       "tests/explain/gradients.cpp",
       "gradients: every choice and every pair of choices, analytic equals numeric",
       {"turned back", "turn back", "rotated back", "rotate back", "not turn", "rope backward", "rope's backward", "rope gradient",
        "inverse"}},
      {23,
       "sum",
       "training",
       "the loss is summed over tokens instead of averaged",
       "The loss falls as it should. But the gradient's norm is in the thousands, clipping acts at every step, and a batch twice as large "
       "has twice the norm.",
       Probe::training,
       "gradient norm at the first step",
       {"Adam does not care how long a gradient is, so the loss hides this.", "gradcheck: all tensors fail, and all by the same amount.",
        "Divide the norm by that of the healthy run. How many tokens are scored in a batch?"},
       "The gradient is that of the sum of all tokens' losses and not of their mean, so it is as many times too long as there are tokens. "
       "AdamW divides by the "
       "gradient's own size and clipping cuts it to 1, so training looks well; with plain SGD, or micro-batches of different lengths, it "
       "would not.",
       "src/train/trainer.cpp",
       "const S scale = static_cast<S>(1.0 / static_cast<double>(scored));",
       "tests/train/trainer.cpp",
       "trainer: a step's gradient is that of the mean loss of its own batch",
       {"sum", "mean", "averag", "number of tokens", "divided"}},
  };
}

std::vector<Fault> use_faults() {
  return {
      {10,
       "start",
       "prompt",
       "the start token is missing before the text",
       "In production the model begins badly and then recovers. In the evaluation of its makers every text began well.",
       Probe::beginning,
       "loss of a text's letters 2 to 8",
       {"The model is the same. What it reads is not.", "eval shows the loss by place: what stands at place 0?",
        "data: with what does every document of training begin?"},
       "Each document of training began with the start token; here the text came without it. The first token takes its place, and the "
       "model has never seen one "
       "there. It costs nats on every short text, and no error is ever raised.",
       "src/sample/prompt.cpp",
       "prompt.has_start = bos && (config.prepend_bos || text.empty());",
       "tests/sample/generate.cpp",
       "what a text starts from",
       {"start token", "bos", "begin token", "beginning token", "separator", "missing start", "no start"}},
      {7,
       "nucleus",
       "sampling",
       "top-p keeps the tail: the mass is counted from the unlikely end",
       "Greedy text is perfect. Sampled with top-p 0.9 it is rubbish, and the likeliest letter never comes.",
       Probe::drawing,
       "how often it was drawn, of 2000",
       {"The model is fine: its loss and its greedy text are.", "Compare how often the likeliest letter comes with how often it should.",
        "trace logits of the sampler: which letters did it forbid (−∞)?"},
       "Top-p keeps the smallest set of the most probable tokens whose mass reaches p. Counted from the wrong end the same loop keeps the "
       "least probable ones and "
       "drops the head: with a sure model, all that made sense.",
       "src/sample/filters.cpp",
       "while (before + bins_[border] < target && border + 1 < bins_.size()) before += bins_[border++];",
       "tests/sample/filters.cpp",
       "each filter by hand",
       {"top-p", "top_p", "top p", "nucleus"}},
      {17,
       "temperature",
       "sampling",
       "the temperature is applied twice",
       "Texts are less varied than the temperature of 0.5 should make them. Greedy text is right, and so is the loss.",
       Probe::drawing,
       "how often it was drawn, of 2000",
       {"Each text is a good one. It is their distribution that is wrong.", "The likeliest letter comes too often. By how much?",
        "p ∝ exp(z/τ). Which τ explains the share that was counted?"},
       "The logits were divided by τ = 0.5 before they were handed to the sampler, which divides by τ once more: in effect τ² = 0.25. At τ "
       "= 1 nobody notices.",
       "src/sample/filters.cpp",
       "shift_and_divide(greedy ? 1 : options_.temperature);",
       "tests/sample/filters.cpp",
       "draws follow the distribution: chi-squared of 20,000, and 1.1 times the temperature is told apart",
       {"temperature"}},
      {15,
       "dropout",
       "evaluation",
       "dropout is left on in evaluation",
       "The same model scores the same text twice, and gets two losses. Both are higher than its training log said.",
       Probe::repetition,
       "difference",
       {"A forward pass is arithmetic. Where could chance come in?", "Chance belongs to training.",
        "trace an output twice and compare; then look for zeros in it."},
       "The evaluation ran as a training pass, so dropout set a tenth of the values to zero, others at each call. The mean is kept, so "
       "nothing looks wrong but the "
       "noise, and a loss that is a little too high.",
       "include/glassformer/pass/pass.hpp",
       "if (!training || rate <= 0) return {};",
       "tests/model/decoder.cpp",
       "decoder: dropout acts in training only, by its stream",
       {"dropout", "training mode", "eval mode"}},
  };
}

std::string lower(std::string_view text) {
  std::string all;
  for (const char c : text) all += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return all;
}

// "rate" is not in "generate".
bool begins_word(std::string_view text, std::string_view keyword) {
  for (auto at = text.find(keyword); at != std::string_view::npos; at = text.find(keyword, at + 1)) {
    if (at == 0 || !std::isalnum(static_cast<unsigned char>(text[at - 1]))) return true;
  }
  return false;
}

}  // namespace

const std::vector<Fault>& faults() {
  static const std::vector<Fault> all = [] {
    std::vector<Fault> list;
    for (const auto& part : {attention_faults(), position_and_cache_faults(), model_faults(), training_faults(), use_faults()}) {
      list.insert(list.end(), part.begin(), part.end());
    }
    std::ranges::sort(list, {}, &Fault::number);
    return list;
  }();
  return all;
}

const Fault& fault(Index number) {
  const auto count = static_cast<Index>(faults().size());
  require(number >= 1 && number <= count, "expected a fault from 1 to {}, found {}", count, number);
  return faults()[static_cast<std::size_t>(number - 1)];
}

const Fault& fault(std::string_view id) {
  std::string ids;
  for (const Fault& f : faults()) {
    if (f.id == id) return f;
    ids += (ids.empty() ? "" : ", ") + f.id;
  }
  require(false, "expected a fault of {}, found {}", ids, id);
  return faults().front();
}

std::vector<const Fault*> faults_named(std::string_view words) {
  const std::string text = lower(words);
  std::vector<std::pair<const Fault*, std::string_view>> held;  // keywords in the text
  for (const Fault& f : faults()) {
    if (text == lower(f.title)) return {&f};
    for (const std::string& keyword : f.keywords) {
      if (begins_word(text, keyword)) held.emplace_back(&f, keyword);
    }
  }
  std::vector<const Fault*> named;
  for (const auto& [f, keyword] : held) {
    const bool inside = std::ranges::any_of(held, [&, f = f, keyword = keyword](const auto& other) {
      return other.first != f && other.second.size() > keyword.size() && begins_word(other.second, keyword);
    });
    if (!inside && (named.empty() || named.back() != f)) named.push_back(f);
  }
  return named;
}

bool denies(std::string_view words) {
  const std::string text = lower(words);
  return std::ranges::any_of(std::array{"not the", "not a ", "n't the", "n't a ", "not because", "neither"},
                             [&](const char* part) { return text.find(part) != std::string::npos; });
}

}  // namespace glassformer
