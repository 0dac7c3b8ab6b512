// The two grammars, in the notation of data/grammar.hpp.
#pragma once

namespace glassformer {

extern const char* const kStoriesGrammar;
extern const char* const kSupportGrammar;

}  // namespace glassformer
