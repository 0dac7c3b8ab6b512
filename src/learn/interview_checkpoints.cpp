// Questions about what a checkpoint holds.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "glassformer/core/half.hpp"
#include "glassformer/io/model_directory.hpp"
#include "glassformer/train/trainer.hpp"
#include "learn/formulas.hpp"
#include "learn/interview.hpp"

namespace glassformer::learn {
namespace {

double number(Index n) { return static_cast<double>(n); }

double file_bytes(const std::vector<NamedTensor>& tensors) {
  double bytes = 0;
  for (const NamedTensor& t : tensors) {
    double size = static_cast<double>(dtype_bytes(t.dtype));
    for (const Index n : t.shape) size *= number(n);
    bytes += size;
  }
  return bytes;
}

InterviewQuestion weights_file(std::uint64_t seed) {
  Draws d(seed, "checkpoints-bytes");
  const Index L = d.between(2, 4), G = d.one_of({2, 4}), C = d.one_of({64, 128}), V = d.one_of({500, 1000});
  const ModelConfig c = llama_like(L, 4, G, C, 3 * C, V);
  return {.id = "checkpoints-bytes",
          .text = fmt::format("A Llama of {} parameters is saved as bf16. How many bytes of weights does the file hold?",
                              grouped(parameters(c))),
          .unit = "bytes",
          .tolerance = kBytes,
          .compute = [=] { return file_bytes(model_tensors<float>(make_decoder<float>(c), Dtype::BF16)); },
          .formula = 2 * parameters(c),
          .derivation = fmt::format("Two bytes a parameter: {}. Names and shapes take some kilobytes more.", grouped(2 * parameters(c))),
          .carry_over = fmt::format("Llama 3 8B in bf16: {} bytes, the \"16 GB\". GPT-2 in 32 bits: {}.",
                                    grouped(2 * parameters(llama3_8b())), grouped(4 * parameters(gpt2_small()))),
          .carry_over_number = 2 * parameters(llama3_8b()),
          .follow_up = "Why is a safetensors file preferred to a pickle?",
          .follow_up_answer =
              "A pickle is a program: loading one from a stranger runs it. safetensors is a header of names, shapes and offsets, checked "
              "before use, and raw numbers that can be mapped into memory without a "
              "copy.",
          .read = {"docs/checkpoints.md"}};
}

InterviewQuestion header_length(std::uint64_t seed) {
  Draws d(seed, "checkpoints-header");
  const Index length = 8 * d.between(10, 200);  // a writer pads to 8
  const Index low = length % 256, high = length / 256;
  return {.id = "checkpoints-header",
          .text = fmt::format(
              "A safetensors file begins with the eight bytes {:02x} {:02x} 00 00 00 00 00 00. How many bytes is its JSON header long?",
              low, high),
          .unit = "bytes",
          .tolerance = kExact,
          .compute =
              [=] {  // such a file, read by the engine: where does its tensor begin?
                std::string file = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
                file.resize(static_cast<std::size_t>(length), ' ');
                file.insert(0, std::string{static_cast<char>(low), static_cast<char>(high), 0, 0, 0, 0, 0, 0});
                file.append(4, '\0');
                const auto bytes = std::as_bytes(std::span(file.data(), file.size()));
                const Expected<SafetensorsFile> read = SafetensorsFile::parse("interview", bytes);
                require(read.has_value(), "{}", read ? "" : read.error());
                return number(read->tensors()[0].bytes.data() - bytes.data() - 8);
              },
          .formula = number(low + 256 * high),
          .derivation = fmt::format("An unsigned number of 64 bits, lowest byte first: 0x{:02x} + 256·0x{:02x} = {} + 256·{} = {}.", low,
                                    high, low, high, length),
          .carry_over = fmt::format("The header of a Llama 2 7B has 291 entries of some 100 bytes: about {} bytes in front of 13.5 GB. A "
                                    "reader that believes a length of 2^60 is how a small file exhausts a server.",
                                    grouped(291.0 * 100)),
          .carry_over_number = 291.0 * 100,
          .follow_up = "Which claims of such a header would you check before you believe it?",
          .follow_up_answer =
              "That it fits the file; that each tensor's bytes are what its shape and type need, without overflow; that the tensors lie "
              "one after another without holes or overlap up to the very "
              "end; no name twice. Anything else is refused with a sentence.",
          .read = {"docs/checkpoints.md"}};
}

InterviewQuestion tensor_count(std::uint64_t seed) {
  Draws d(seed, "checkpoints-tensors");
  const Index L = d.between(2, 12);
  const bool llama = d.between(0, 1) == 1;
  const ModelConfig c = llama ? llama_like(L, 2, 1, 16, 32, 16) : gpt2_like(L, 2, 16, 16, 16);
  const double formula = llama ? number(9 * L + 3) : number(12 * L + 4);
  return {
      .id = "checkpoints-tensors",
      .text = llama
                  ? fmt::format(
                        "How many tensors has the checkpoint of a Llama with {} layers (q, k, v apart, no biases, a head of its own)?", L)
                  : fmt::format(
                        "How many tensors has the checkpoint of a GPT-2 with {} layers (c_attn joined, biases everywhere, tied head)?", L),
      .unit = "tensors",
      .tolerance = {0, 1},
      .compute = [=] { return number(static_cast<Index>(model_tensors<float>(make_decoder<float>(c), Dtype::F32).size())); },
      .formula = formula,
      .derivation =
          llama
              ? fmt::format("A layer: q, k, v, o, gate, up, down and two norms, 9; embedding, last norm and head: 9·{} + 3 = {}.", L,
                            formula)
              : fmt::format(
                    "A layer: two norms, c_attn, c_proj, c_fc, c_proj, each weight and bias, 12; wte, wpe and ln_f's two: 12·{} + 4 = {}.",
                    L, formula),
      .carry_over = fmt::format("Llama 2 7B, 32 layers: 9·32 + 3 = {} tensors. GPT-2, 12 layers: {}.", 9 * 32 + 3, 12 * 12 + 4),
      .carry_over_number = llama ? 9 * 32 + 3.0 : 12 * 12 + 4.0,
      .follow_up = "You load a GPT-2 and find no lm_head. Is the file broken?",
      .follow_up_answer =
          "No: the head is tied, it is wte.weight. A loader that makes a random head because the name is missing gives noise after a "
          "warning that nobody reads.",
      .read = {"docs/checkpoints.md"}};
}

InterviewQuestion conv1d(std::uint64_t seed) {
  Draws d(seed, "checkpoints-conv1d");
  const Index C = d.one_of({48, 64, 128}), heads = 4;
  const ModelConfig c = gpt2_like(1, heads, C, 16, 16);
  return {.id = "checkpoints-conv1d",
          .text = fmt::format("A Hugging Face GPT-2 of width {}: what is the first dimension of h.0.mlp.c_fc.weight, which takes the "
                              "stream to the MLP's hidden width?",
                              C),
          .unit = "",
          .tolerance = kExact,
          .compute =
              [=] {
                const Decoder<float> model = make_decoder<float>(c);
                const std::vector<NamedTensor> tensors = model_tensors<float>(model, Dtype::F32);
                const auto at = std::ranges::find_if(tensors, [](const NamedTensor& t) { return t.name.ends_with("h.0.mlp.c_fc.weight"); });
                require(at != tensors.end(), "interview: expected h.0.mlp.c_fc.weight");
                return number(at->shape[0]);
              },
          .formula = number(C),
          .derivation = fmt::format(
              "GPT-2's layers are \"Conv1D\", stored [in, out]: [{}, {}]. A Linear, as in Llama, would be [out, in] = [{}, {}].", C, 4 * C,
              4 * C, C),
          .carry_over = fmt::format("GPT-2 small: c_fc is [768, {}]. Its attn.c_proj is [768, 768]: read the wrong way round it loads "
                                    "without an error, and only the text is nonsense.",
                                    4 * 768),
          .carry_over_number = 4 * 768,
          .follow_up = "How do you make sure that a converter has no such mistake?",
          .follow_up_answer =
              "Compare logits with the original program on a few tokens, layer by layer if they differ, to 1e-4. Shapes and norms prove "
              "nothing for a square matrix.",
          .read = {"docs/checkpoints.md"}};
}

InterviewQuestion resume_state(std::uint64_t seed) {
  Draws d(seed, "checkpoints-resume");
  const Index L = d.between(1, 3), C = d.one_of({32, 64});
  const ModelConfig c = gpt2_like(L, 2, C, 32, 200);
  return {.id = "checkpoints-resume",
          .text = fmt::format("A model of {} parameters, trained with AdamW in 32 bits. How many bytes must a checkpoint hold so that a "
                              "resumed run goes on exactly (a few numbers such as the step not counted)?",
                              grouped(parameters(c))),
          .unit = "bytes",
          .tolerance = kBytes,
          .compute =
              [=] {
                Decoder<float> model = make_decoder<float>(c);
                Trainer<float> trainer(model, TrainOptions{});
                return file_bytes(model_tensors<float>(model, Dtype::F32)) +
                       file_bytes(arena_tensors(trainer.first_moment(), Dtype::F32, "m.")) +
                       file_bytes(arena_tensors(trainer.second_moment(), Dtype::F32, "v."));
              },
          .formula = 12 * parameters(c),
          .derivation = fmt::format(
              "Weights and both moments, 4 bytes each: 12·{} = {}. Gradients are made anew; the batches follow from the seed and the step.",
              grouped(parameters(c)), grouped(12 * parameters(c))),
          .carry_over = fmt::format("Llama 2 7B: {}, against {} for the weights in 16 bits that are published.",
                                    binary_bytes(12 * parameters(llama2_7b())), binary_bytes(2 * parameters(llama2_7b()))),
          .carry_over_number = 12 * parameters(llama2_7b()),
          .follow_up = "What happens if only the weights were saved?",
          .follow_up_answer =
              "The moments start at zero again: the first steps are as large as at the beginning of training, in directions of single "
              "batches, and the loss jumps. With the step lost too, the warm-up "
              "and the schedule begin again.",
          .read = {"docs/training.md", "docs/checkpoints.md"}};
}

InterviewQuestion rounding(std::uint64_t seed) {
  Draws d(seed, "checkpoints-rounding");
  const std::uint64_t weights = static_cast<std::uint64_t>(d.between(1, 1000));
  return {.id = "checkpoints-rounding",
          .text =
              "A model's 32-bit weights are saved as bf16 (7 bits of fraction, rounded to nearest). What is the largest relative error of "
              "a weight, in %?",
          .unit = "%",
          .tolerance = {0.1, 0},
          .compute =
              [=] {
                const Decoder<float> model = random_decoder(gpt2_like(2, 2, 64, 16, 256), weights);
                double largest = 0;
                for (const float w : model.arena.values()) {
                  if (w != 0)
                    largest = std::max(largest, std::abs(static_cast<double>(bf16_to_float(bf16_from_float(w))) - static_cast<double>(w)) /
                                                    std::abs(static_cast<double>(w)));
                }
                return 100 * largest;
              },
          .formula = 100 / (256.0 + 1),
          .agreement = {0.01, 0},
          .derivation = fmt::format("Numbers are 2^−7 of the power of two below apart, so the error is at most 2^−8 of it; worst for a "
                                    "weight halfway above that power: 1/(2^8 + 1) = {}%.",
                                    digits(100 / 257.0)),
          .carry_over = fmt::format(
              "fp16 (10 bits): 1/(2^11 + 1) = {}%, but only above 6e-5. GPT-2's weights are mostly between 0.001 and 1: either will do.",
              digits(100 / 2049.0)),
          .carry_over_number = 100 / 2049.0,
          .follow_up = "0.4% in every weight: why does the loss hardly change?",
          .follow_up_answer =
              "The errors are independent and of mean zero, so in a sum over a thousand inputs they mostly cancel: the output's relative "
              "error stays near that of one weight, far below what the "
              "training noise has left in it.",
          .read = {"docs/checkpoints.md"}};
}

}  // namespace

void add_checkpoint_questions(Questions& all, std::uint64_t seed) {
  for (const auto make : {weights_file, header_length, tensor_count, conv1d, resume_state, rounding}) {
    all.push_back(make(seed)), all.back().topic = "checkpoints";
  }
}

}  // namespace glassformer::learn
