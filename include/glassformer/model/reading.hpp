// One text read by a decoder, for whoever needs no batch: the Pass is made here.
// Legend: N tokens, C channels, V vocabulary.
#pragma once
#include "glassformer/model/decoder.hpp"

namespace glassformer {

template <class S> struct Reading {
  Exec exec = {};
  Trace<S>* trace = nullptr;    // who watches, or edits
  KvCache<S>* cache = nullptr;  // the text goes on where slot 0 ends, and is added to it; null: it begins at place 0
};

// logits [N, V] of the tokens after each of `ids` [N]. Throws as decoder_forward does.
//   KvCache<float> cache = make_cache(model, 1);
//   decoder_read<float>(model, prompt, {.cache = &cache});                      prefill
//   logits = decoder_read<float>(model, std::array{token}, {.cache = &cache});  decode one token
template <class S> Matrix<S> decoder_read(const Decoder<S>&, std::span<const Token> ids, const Reading<S>& = {});

// The loss of each token but the first, predicted from those before it; N ≥ 2.
template <class S> Loss decoder_read_loss(const Decoder<S>&, std::span<const Token> ids, const Reading<S>& = {});

}  // namespace glassformer
