#include "cli/lora_methods.hpp"

#include <algorithm>
#include <set>

namespace glassformer::cli {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kMethods = {"lora", "full", "last-block", "soft-prompt", "few-shot"};  // in the enum's order

// Options that not every method has, and which ones have them.
struct Belongs {
  const char* option;
  std::set<Method> methods;
};
const std::set<Method> kTrained = {Method::lora, Method::full, Method::last_block, Method::soft_prompt};
const std::vector<Belongs> kBelongs = {
    {"rank", {Method::lora}},
    {"alpha", {Method::lora}},
    {"lora-dropout", {Method::lora}},
    {"targets", {Method::lora}},
    {"rslora", {Method::lora}},
    {"dora", {Method::lora}},
    {"rank-pattern", {Method::lora}},
    {"alpha-pattern", {Method::lora}},
    {"base-type", {Method::lora, Method::soft_prompt}},  // quantized weights are read, never trained
    {"prompt-tokens", {Method::soft_prompt}},
    {"shots", {Method::few_shot}},
    {"out", kTrained},
    {"eval-every", kTrained},
    {"resume", kTrained},
    {"overwrite", kTrained},
    {"until-loss", kTrained},
    {"steps", kTrained},
    {"batch", kTrained},
    {"accumulate", kTrained},
    {"rate", kTrained},
    {"min-rate", kTrained},
    {"warmup", kTrained},
    {"weight-decay", kTrained},
    {"beta1", kTrained},
    {"beta2", kTrained},
    {"clip", kTrained},
    {"muon", {Method::lora, Method::full, Method::last_block}},  // a soft prompt has no hidden matrix
    {"muon-rate", {Method::lora, Method::full, Method::last_block}},
    {"muon-momentum", {Method::lora, Method::full, Method::last_block}},
};

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

// "attn.q=4,mlp.down=16": the name and the text of each value.
std::map<std::string, std::string> split_pattern(const std::string& option, const std::string& text) {
  std::map<std::string, std::string> pattern;
  for (const std::string& item : split_names(text)) {
    const std::size_t at = item.find('=');
    require_usage(at != std::string::npos && at > 0, "--{}: expected NAME=NUMBER,…, found {}", option, item);
    require_usage(pattern.emplace(item.substr(0, at), item.substr(at + 1)).second, "--{}: expected {} once, found it twice", option,
                  item.substr(0, at));
  }
  return pattern;
}

template <class T>
std::map<std::string, T> number_pattern(const Options& o, const std::string& option, const char* kind) {
  std::map<std::string, T> numbers;
  for (const auto& [name, value] : split_pattern(option, o.text(option))) {
    const auto found = number<T>(value);
    require_usage(found && *found > 0, "--{}: expected {} for {}, found {}", option, kind, name, value);
    numbers[name] = *found;
  }
  return numbers;
}

LoraConfig lora_config(const Options& o) {
  LoraConfig c;
  c.rank = o.integer("rank");
  c.alpha = o.real_or("alpha", 2.0 * static_cast<double>(c.rank));
  c.dropout = o.real("lora-dropout");
  c.rank_stabilized = o.is_set("rslora");
  c.dora = o.is_set("dora");
  c.targets = split_names(o.text("targets"));
  c.rank_pattern = number_pattern<Index>(o, "rank-pattern", "a whole number above 0");
  c.alpha_pattern = number_pattern<double>(o, "alpha-pattern", "a number above 0");
  return c;
}

// The last block's tensors and those of the norm behind it: neighbours in the arena.
Arena<float> last_block(const Decoder<float>& m) {
  const auto& tensors = m.arena.layout().tensors();
  const std::string block = fmt::format("blocks.{}.", m.config.layers - 1);
  const auto first = std::ranges::find_if(tensors, [&](const TensorInfo& t) { return t.name.starts_with(block); });
  const auto end = std::find_if(first, tensors.end(),
                                [&](const TensorInfo& t) { return !t.name.starts_with(block) && !t.name.starts_with("ln_final."); });
  return m.arena.slice(static_cast<std::size_t>(first - tensors.begin()), static_cast<std::size_t>(end - first));
}

}  // namespace

void declare_method_options(Options& o) {
  o.group("Method");
  o.choice(
      "method", kMethods,
      "what adapts the model: lora, a low-rank change; full, all parameters; last-block, the last block and the norm behind it; "
      "soft-prompt, "
      "trained embeddings before each text; few-shot, examples before each question and no training. The last is only measured; full and "
      "last-block save a whole model, the others an adapter",
      "lora");
  o.integer("rank", 8, 1, "lora: rank of the change");
  o.positive("alpha", {}, "lora: the change is multiplied by alpha/rank; twice the rank unless given");
  o.real("lora-dropout", 0, 0, 0.999, "lora: dropout on the adapter's input");
  o.text("targets", "A,B,…",
         "lora: matrices to adapt, of attn.q, attn.k, attn.v, attn.qkv, attn.out, mlp.gate, mlp.up, mlp.gate_up, mlp.down, embed, unembed; "
         "all linear layers "
         "unless given");
  o.text("rank-pattern", "A=R,…", "lora: another rank for some, by target or for one layer: attn.q=4,blocks.0.mlp.down=16");
  o.text("alpha-pattern", "A=ALPHA,…", "lora: another alpha for some, likewise");
  o.flag("rslora", "lora: scale alpha/√rank (rsLoRA)");
  o.flag("dora", "lora: the length of each row is trained apart from its direction (DoRA)");
  o.choice("base-type", {"f32", "q8_0", "q4_0", "int4", "nf4"},
           "lora, soft-prompt: quantize the model's matrices while it loads (embeddings to q8_0) and train over them: nf4 is QLoRA", "f32");
  o.integer("prompt-tokens", 8, 1, "soft-prompt: trained embeddings");
  o.integer("shots", 4, 1,
            "few-shot: examples before each question, as many as the context holds; without --answers-only the start of the text "
            "fills half of the context instead");
}

Method method_of(const Options& o) {
  const std::string name = o.text("method");
  const auto method = static_cast<Method>(std::ranges::find(kMethods, name) - kMethods.begin());
  for (const auto& [option, methods] : kBelongs) {
    if (methods.contains(method) || !o.given(option)) continue;
    std::string valid;
    for (std::size_t i = 0; i < kMethods.size(); ++i) {
      if (methods.contains(static_cast<Method>(i))) valid += (valid.empty() ? "" : "|") + kMethods[i];
    }
    throw UsageError(fmt::format("--{}: expected --method {} beside it, found {}", option, valid, name));
  }
  require_usage(o.is_set("answers-only") || !o.given("shots"),
                "--shots: expected --answers-only beside it, which tells where an example ends");
  return method;
}

TrainOptions standard_training(Method method, bool muon) {
  TrainOptions t;
  t.steps = 500, t.batch = 16, t.warmup = 50, t.weight_decay = 0, t.muon = muon;
  t.rate = method == Method::soft_prompt ? 1e-1 : 2e-3;
  t.min_rate = t.rate / 10;
  return t;
}

Index prompt_tokens(const Options& o, Method method) { return method == Method::soft_prompt ? o.integer("prompt-tokens") : 0; }

Learner::Learner(const Options& o, Method method, ModelFiles& base, const fs::path& last, const TrainOptions& options)
    : method_(method), base_name_(o.text("model")), base_(base) {
  Decoder<float>& model = base.decoder;
  if (is_adapter()) {
    if (o.is_set("resume"))
      adapter_ = checked(load_adapter(last, model)).adapter;
    else
      adapter_ = method == Method::lora ? make_adapter<float>(model, lora_config(o), o.seed())
                                        : make_soft_prompt<float>(model, prompt_tokens(o, method), o.seed());
    attach(model, adapter_);
    trainer_ = std::make_unique<Trainer<float>>(model, adapter_, options);
  } else {
    if (o.is_set("resume")) read(last);
    trainer_ = method == Method::full ? std::make_unique<Trainer<float>>(model, options)
                                      : std::make_unique<Trainer<float>>(model, last_block(model), options);
  }
}

std::string Learner::description() const {
  switch (method_) {
    case Method::lora:
      return fmt::format("rank {} on {} matrices", adapter_.config.rank, adapter_.targets.size());
    case Method::soft_prompt:
      return fmt::format("a soft prompt of {} tokens", adapter_.prompt_tokens());
    case Method::last_block:
      return "the last block and the norm behind it";
    default:
      return "all parameters";
  }
}

std::vector<FileToSave> Learner::files(const Metadata& metadata) const {
  return is_adapter() ? adapter_files(adapter_, base_.decoder, base_name_, metadata)
                      : model_files(base_.decoder, base_.tokenizer, metadata);
}

void Learner::read(const fs::path& dir) {
  if (!is_adapter()) {
    checked(read_into(base_.decoder, checked(SafetensorsFile::open(dir / "model.safetensors"))));
    return;
  }
  const AdapterFiles saved = checked(load_adapter(dir, base_.decoder));
  std::ranges::copy(saved.adapter.arena.values(), adapter_.arena.values().begin());
  refresh(base_.decoder);
}

Metadata run_metadata(const fs::path& last) {
  std::error_code ignored;
  const char* file = fs::exists(last / "adapter_model.safetensors", ignored) ? "adapter_model.safetensors" : "model.safetensors";
  return checked(SafetensorsFile::open(last / file)).metadata();
}

}  // namespace glassformer::cli
