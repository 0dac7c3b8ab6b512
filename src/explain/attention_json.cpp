#include <cmath>
#include <nlohmann/json.hpp>

#include "glassformer/explain/attention.hpp"

namespace glassformer {
namespace {

using Json = nlohmann::ordered_json;

Json value_of(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }
template <class M>
Json row_of(const M& row) {
  Json out = Json::array();
  for (Index j = 0; j < row.size(); ++j) out.push_back(value_of(row(j)));
  return out;
}
Json matrix_of(const Matrix<double>& m) {
  Json out = Json::array();
  for (Index i = 0; i < m.rows(); ++i) out.push_back(row_of(m.row(i)));
  return out;
}

}  // namespace

std::string attention_json(const AttentionStory& s) {
  Json j = {
      {"component", "attention"}, {"model", s.model},       {"example", s.is_example}, {"tokens", s.tokens},  {"ids", s.ids},
      {"layer", s.layer},         {"layers", s.layers},     {"head", s.head},          {"heads", s.heads},    {"kv_head", s.kv_head},
      {"kv_heads", s.kv_heads},   {"head_dim", s.head_dim}, {"width", s.width},        {"scale", s.scale},    {"alibi_slope", s.slope},
      {"causal", s.causal},       {"window", s.window},     {"rope", s.rotated},       {"adapted", s.adapted}};
  const auto add = [&j](const char* key, const Matrix<double>& m) {
    if (m.size() != 0) j[key] = matrix_of(m);
  };
  add("wq", s.wq), add("wk", s.wk), add("wv", s.wv), add("wo", s.wo);
  if (s.bq.size() != 0) j["bq"] = row_of(s.bq), j["bk"] = row_of(s.bk), j["bv"] = row_of(s.bv);
  add("x", s.x), add("q", s.q), add("k", s.k), add("v", s.v), add("rot_q", s.rot_q), add("rot_k", s.rot_k);
  add("products", s.products), add("scaled", s.scaled), add("biased", s.biased), add("scores", s.scores);
  add("pattern", s.pattern), add("z", s.z), add("head_output", s.share), add("output", s.output);
  j["query"] = {{"place", s.query.place},
                {"terms", matrix_of(s.query.terms)},
                {"maximum", value_of(s.query.maximum)},
                {"exponentials", row_of(s.query.exponentials)},
                {"sum", value_of(s.query.sum)},
                {"weighted", matrix_of(s.query.weighted)}};
  j["deviation"] = value_of(s.deviation);
  j["notes"] = s.notes;
  return j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace glassformer
