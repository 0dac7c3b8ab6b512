// The program: finds the command and turns whatever goes wrong into one line and an exit code.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "cli/command.hpp"
#include "cli/terminal.hpp"

namespace glassformer::cli {

namespace {

std::vector<Command> commands() {
  return {
      {"demo", "the whole story in two minutes", demo_command},
      {"corpus", "text from a small grammar, whose true entropy is known", corpus_command},
      {"tokenizer", "trains a tokenizer; text to ids and back", tokenizer_command},
      {"train", "trains a decoder on a text", train_command},
      {"sample", "writes text with a model", sample_command},
      {"eval", "loss, perplexity, bits per byte and accuracy on a text", eval_command},
      {"lora", "adapts a model by a low-rank change: train, merge, inspect", lora_command},
      {"quantize", "a model in few bits a weight, and what that costs", quantize_command},
      {"convert", "a model in another format", convert_command},
      {"explain", "shows what happens inside, number by number", explain_command},
      {"interview", "asks for your number first, then computes it: learn by predicting", interview_command},
      {"debug", "plants a mistake in the engine, for you to find: learn by repair", debug_command},
      {"gradcheck", "the backward pass against numeric gradients, per tensor", gradcheck_command},
      {"bench", "speed against this machine's measured limits", bench_command},
  };
}

int complain(const std::string& what, int code) {
  std::string line = what;
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::fprintf(stderr, "glassformer: %s\n", line.c_str());
  return code;
}

int run(const std::vector<std::string>& arguments) {
  try {
    if (!arguments.empty() && arguments[0] == "--version") {
      print_output("glassformer 0.1.0\n");
      flush_output();
      return 0;
    }
    const int code = dispatch("glassformer", "glassformer: a decoder-only transformer that you can see through.", commands(), arguments);
    flush_output();
    return code;
  } catch (const UsageError& error) {
    return complain(error.what(), 2);
  } catch (const std::exception& error) {
    return complain(message_of(error), 1);
  }
}

}  // namespace
}  // namespace glassformer::cli

int main(int argc, char** argv) {
  glassformer::cli::prepare_streams();
  return glassformer::cli::run({argv + std::min(argc, 1), argv + argc});
}
