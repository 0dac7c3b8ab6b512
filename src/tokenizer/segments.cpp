#include "tokenizer/segments.hpp"

#include <algorithm>

namespace glassformer::tokenizer {

void Spellings::add(std::string_view spelling, Token id) {
  auto& list = by_first_byte_[static_cast<unsigned char>(spelling[0])];
  if (list.empty()) first_bytes_ += spelling[0];
  const auto longer = [](const Spelling& a, const Spelling& b) { return a.bytes.size() > b.bytes.size(); };
  Spelling one{std::string(spelling), id};
  const auto place = std::upper_bound(list.begin(), list.end(), one, longer);  // behind those of its length
  list.insert(place, std::move(one));
}

std::optional<Spellings::Found> Spellings::next(std::string_view text, std::size_t from) const {
  if (first_bytes_.empty()) return std::nullopt;
  for (std::size_t at = from; at < text.size(); ++at) {
    if (first_bytes_.size() == 1 && (at = text.find(first_bytes_[0], at)) == std::string_view::npos) break;
    for (const Spelling& s : by_first_byte_[static_cast<unsigned char>(text[at])])
      if (text.substr(at).starts_with(s.bytes)) return Found{at, s.bytes.size(), s.id};
  }
  return std::nullopt;
}

void append_segments(const Spellings& special, std::string_view text, std::size_t begin, std::size_t end, std::vector<Segment>& out) {
  const std::string_view until = text.substr(0, end);
  out.push_back({begin, end});
  while (const auto found = special.next(until, out.back().begin)) {
    out.back().end = found->begin;
    out.push_back({found->begin + found->length, end, found->id});
  }
}

std::vector<Segment> cut_segments(std::string_view text, const std::vector<Segment>& segments, std::size_t bytes) {
  const auto space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  std::vector<Segment> out;
  for (Segment s : segments) {
    for (std::size_t at = s.begin + bytes; at < s.end; ++at) {
      const auto c = static_cast<unsigned char>(text[at - 1]);
      if (!space(text[at]) || c <= ' ' || c >= 0x7F) continue;  // from 0x80 on it may end a space that is no ASCII
      out.push_back({s.begin, at, s.before});
      s = {at, s.end};
      at += bytes;
    }
    out.push_back(s);
  }
  return out;
}

std::vector<std::size_t> tasks_of(const std::vector<Segment>& segments, std::size_t bytes) {
  std::vector<std::size_t> tasks = {0};
  std::size_t held = 0;
  for (std::size_t s = 0; s < segments.size(); ++s) {
    if (held >= bytes) tasks.push_back(s), held = 0;
    held += segments[s].end - segments[s].begin;
  }
  tasks.push_back(segments.size());
  return tasks;
}

}  // namespace glassformer::tokenizer
