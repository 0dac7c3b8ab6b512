// Text from a model: the prompt is read in one pass (prefill), then one token after another is drawn and read (decoding).
//
// Past the context T = config.context (PastContext::slide):
//   RoPE, ALiBi, none         the cache slides: it forgets the oldest token but keeps the first `sinks` (Xiao et al. 2023); places are
//                             counted in the cache. A prompt longer than T is read in a first piece of T tokens and then in pieces of an
//                             eighth of the window. Without the cache: the last T tokens, read again at each step (not the same numbers:
//                             a cached key has seen what was forgotten since).
//   learned, sinusoidal       the place is baked into the token's embedding, so what was read cannot move: the last T/2 tokens of the text
//                             are read afresh whenever T are full; the same without the cache.
//
// Drafting (speculative decoding: Leviathan, Kalman, Matias 2023; Chen et al. 2023): a smaller model draws the next k tokens, one by one
// from its q; the model reads them in one pass. Draft x is accepted with probability min(1, p(x)/q(x)), and the first that is not is drawn
// anew from max(0, p − q)/Σ max(0, p − q); when all are, one more is drawn from p. p and q are what sampling_distribution leaves of each
// model's logits. What is written has the distribution that it has without, and greedy text is the same text: the pass gives each row the
// bits that it has alone. Only a window that can still be cut is drafted in: a cache that slides cannot take back what it forgot.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "glassformer/model/decoder.hpp"
#include "glassformer/sample/filters.hpp"
#include "glassformer/sample/text_stream.hpp"
#include "glassformer/tokenizer/tokenizer.hpp"

namespace glassformer {

enum class PastContext { slide, stop };

struct GenerateOptions {
  SamplingOptions sampling;
  Index max_tokens = 200;                         // tokens to draw, at most
  std::vector<std::string> stop;                  // the text ends before the first of these; they may span tokens
  std::uint64_t seed = 1;                         // token i of sequence s draws number i of RandomStream{seed}.at("sample").at(s)
  std::uint64_t first_sequence = 0;               // s of the first prompt: a prompt of a batch, alone, with its own s gives the same
  bool use_cache = true;                          // false: read everything again for each token
  CacheKind cache_kind = CacheKind::floating;     // int8: a quarter of the memory and a little (4 bytes a row), and slightly other logits
  PastContext past_context = PastContext::slide;  // stop: end when the context is full
  Index sinks = 4;                                // first tokens that a sliding cache keeps, as in the paper; at most half of the context
  Matrix<float> mix = {};  // [prompts, adapters]: of each attached adapter how much (of a soft prompt 0 or 1); empty: as attached
  Exec exec;               // decoding sets row_exact itself
  const Decoder<float>* draft = nullptr;  // a model of the same vocabulary that drafts; none: every token costs a pass
  Index draft_tokens = 4;                 // drafted before each pass, at most
  // Called with each new piece of text: whole characters of valid UTF-8, never past a stop string. What it throws passes through.
  std::function<void(std::string_view piece)> on_text;
  // Sees every pass of the model: each prefill, then each decoding step. The head reads only the last row, so `logits` is [sequences, V];
  // with a draft [rows, V], one for each token that a step reads.
  Trace<float>* trace = nullptr;
};

struct Generation {
  std::vector<Token> prompt_ids;    // with the start token, if one was added
  std::vector<Token> ids;           // drawn, without the end token
  std::string text;                 // of `ids`, bytes as decoded (valid_utf8 makes them fit for JSON), cut before a stop string
  double prefill_ms = 0;            // reading the prompt
  double decode_ms = 0;             // all later passes, and drawing
  Index decode_steps = 0;           // passes in decode_ms: without a draft one for each token but the first
  Index drafted = 0, accepted = 0;  // tokens
  std::string stopped_by;           // "length", "stop", "eos" (the model's end or start token), "context"
  std::vector<std::string> notes;   // sentences for the user: what was done about the start or the context
  double tokens_per_s() const { return decode_ms > 0 ? static_cast<double>(decode_steps + accepted) / decode_ms * 1e3 : 0; }
  double acceptance_rate() const { return drafted > 0 ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0; }
};

// Continues the prompt. Before it comes the start token when config.prepend_bos. An empty prompt starts from the model's or the
// tokenizer's start token, else from a newline (with a note). An attached soft prompt is read before all that. It takes places of the
// context, and a sliding cache keeps it, but it is no part of the text: neither `prompt_ids` nor penalties know it. Throws
// std::invalid_argument: options out of range; a mix of another shape or with numbers that are not finite; a prompt that the tokenizer
// cannot encode, or an empty one with nothing to start from; a tokenizer with more tokens than the model (with fewer, the model's other
// tokens are never drawn); a model that is not causal; logits that are NaN; a draft without the cache, of fewer tokens than the tokenizer
// has, or that is not causal.
Generation generate(const Decoder<float>&, const Tokenizer&, std::string_view prompt, const GenerateOptions&);

// Continues several prompts together, each in its own slot of one cache: every prompt is read alone, then all decode in one pass a step.
// Each gets the bits that it gets alone. options.on_text must be empty; this one also gets the number of the prompt.
std::vector<Generation> generate_batch(const Decoder<float>&, const Tokenizer&, const std::vector<std::string>& prompts,
                                       const GenerateOptions&,
                                       const std::function<void(Index sequence, std::string_view piece)>& on_text = {});

}  // namespace glassformer
