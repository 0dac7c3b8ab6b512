#include "glassformer/sample/text_stream.hpp"

#include <algorithm>

#include "glassformer/core/require.hpp"

namespace glassformer {
namespace {

// The first character of `text`, or the longest beginning of one (Unicode 15, table 3-7).
struct Piece {
  std::size_t bytes;
  enum { whole, cut, invalid } state;  // cut: more bytes could complete it
};

Piece first_piece(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {1, Piece::whole};
  if (lead < 0xC2 || lead > 0xF4) return {1, Piece::invalid};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte rules out overlong forms, surrogates, and what lies beyond U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {i, Piece::cut};
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) return {i, Piece::invalid};
  }
  return {length, Piece::whole};
}

// Appends `bytes` as valid UTF-8. Returns how many were taken: all of them, or all but a character cut at the end, unless it is `last`.
std::size_t take_characters(std::string_view bytes, bool last, std::string& out) {
  std::size_t taken = 0;
  while (taken < bytes.size()) {
    const Piece piece = first_piece(bytes.substr(taken));
    if (piece.state == Piece::cut && !last) break;
    out += piece.state == Piece::whole ? bytes.substr(taken, piece.bytes) : std::string_view("\xEF\xBF\xBD");
    taken += piece.bytes;
  }
  return taken;
}

}  // namespace

std::string valid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  take_characters(bytes, true, out);
  return out;
}

TextStream::TextStream(std::vector<std::string> stop, std::function<void(std::string_view)> show)
    : stop_(std::move(stop)), show_(std::move(show)) {
  for (const std::string& s : stop_) require(!s.empty(), "stop: expected a stop string that is not empty");
}

bool TextStream::append(std::string_view bytes) {
  require(!stopped_, "text stream: it has ended");
  text_ += bytes;
  // What was shown cannot begin a stop string, so the search starts there.
  std::size_t found = std::string::npos;
  for (const std::string& s : stop_) found = std::min(found, text_.find(s, shown_));
  if (found != std::string::npos) {
    text_.resize(found);
    stopped_ = true;
    show_until(found, true);
    return true;
  }
  std::size_t held = 0;  // the longest end of the text that begins a stop string
  const std::string_view rest = std::string_view(text_).substr(shown_);
  for (const std::string& s : stop_) {
    for (std::size_t n = std::min(s.size() - 1, rest.size()); n > held; --n) {
      if (rest.substr(rest.size() - n) == std::string_view(s).substr(0, n)) held = n;
    }
  }
  show_until(text_.size() - held, false);
  return false;
}

void TextStream::finish() {
  if (!stopped_) show_until(text_.size(), true);
  stopped_ = true;
}

void TextStream::show_until(std::size_t end, bool last) {
  std::string out;
  shown_ += take_characters(std::string_view(text_).substr(shown_, end - shown_), last, out);
  if (show_ && !out.empty()) show_(out);
}

}  // namespace glassformer
