#include "hard_text.hpp"

#include <utf8proc.h>

#include <array>
#include <vector>

#include "glassformer/core/random.hpp"

namespace glassformer::tests {
namespace {

class Writer {
 public:
  explicit Writer(std::size_t bytes) : bytes_(bytes) { sort_code_points(); }

  std::string write() {
    every_small_character();
    while (out_.size() < bytes_) {
      switch (below(10)) {
        case 0:
          mixed_categories();
          break;
        case 1:
          one_category();
          break;
        case 2:
          emoji();
          break;
        case 3:
          right_to_left();
          break;
        case 4:
          spaces();
          break;
        case 5:
          contractions();
          break;
        case 6:
          digits();
          break;
        case 7:
          controls();
          break;
        case 8:
          words();
          break;
        default:
          specials();
          break;
      }
    }
    return out_;
  }

 private:
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_below(stream_, draws_++, n)); }
  template <class List>
  auto pick(const List& list) {
    return list[below(list.size())];
  }
  void put(std::int32_t c) {
    utf8proc_uint8_t buffer[4];
    out_.append(reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(utf8proc_encode_char(c, buffer)));
  }
  void put_all(std::initializer_list<std::int32_t> list) {
    for (const std::int32_t c : list) put(c);
  }

  static bool in_a_large_block(std::int32_t c) {  // ideographs, Hangul syllables, Tangut and the like, private use
    return (c >= 0x3400 && c < 0xA000) || (c >= 0xAC00 && c < 0xD7A4) || (c >= 0xE000 && c < 0xF900) || (c >= 0x17000 && c < 0x19000) ||
           c >= 0x20000;
  }
  // The categories but for surrogates (not UTF-8) and unassigned (a later Unicode may assign them).
  void sort_code_points() {
    for (std::int32_t c = 0; c < 0x110000; ++c) {
      const auto category = static_cast<std::size_t>(utf8proc_category(c));
      if (category != UTF8PROC_CATEGORY_CN && category != UTF8PROC_CATEGORY_CS) categories_[category].push_back(c);
    }
    for (const auto& list : categories_)
      if (!list.empty()) present_.push_back(&list);
  }

  // Each between letters, after a space, and doubled after two spaces: enough to tell letters, numbers, spaces and the rest apart.
  void every_small_character() {
    for (const auto* list : present_)
      for (const std::int32_t c : *list)
        if (!in_a_large_block(c)) put_all({'a', c, ' ', c, 'b', ' ', ' ', c, c, '1'});
  }
  void mixed_categories() {
    for (std::size_t n = below(40); n-- > 0;) {
      put(pick(*pick(present_)));
      if (below(4) == 0) put(' ');
    }
  }
  void one_category() {
    const auto& list = *pick(present_);
    for (std::size_t n = below(20); n-- > 0;) put(pick(list));
  }
  void emoji() {
    static const std::array<std::int32_t, 8> faces{0x1F469, 0x1F468, 0x1F467, 0x2764, 0x1F44D, 0x1F3F3, 0x1F680, 0x1F9D1};
    for (std::size_t n = below(6); n-- > 0;) {
      put(pick(faces));
      if (below(2)) put(static_cast<std::int32_t>(0x1F3FB + below(5)));                          // skin tone
      if (below(2)) put(0xFE0F);                                                                 // as a picture
      if (below(2)) put_all({0x200D, pick(faces)});                                              // joined
      if (below(4) == 0) put_all({static_cast<std::int32_t>('0' + below(10)), 0xFE0F, 0x20E3});  // keycap
      if (below(4) == 0) put_all({0x1F1E9, 0x1F1EA});                                            // a flag
      if (below(3) == 0) put(' ');
    }
  }
  void right_to_left() {
    const bool hebrew = below(2) != 0;
    if (below(3) == 0) put(0x202B);
    for (std::size_t n = below(30); n-- > 0;) {
      put(static_cast<std::int32_t>(hebrew ? 0x5D0 + below(27) : 0x627 + below(36)));
      if (below(3) == 0) put(static_cast<std::int32_t>(hebrew ? 0x5B0 + below(14) : 0x64B + below(8)));  // a vowel mark
      if (below(6) == 0) put(pick(std::array<std::int32_t, 5>{' ', 0x60C, 0x640, 0x200F, 0x661}));
    }
    if (below(3) == 0) put(0x202C);
  }
  void spaces() {
    static const std::array<std::int32_t, 16> kinds{' ',  ' ',  ' ',  ' ',    '\n',   '\n',   '\t',   '\r',
                                                    0x0B, 0x0C, 0xA0, 0x1680, 0x2003, 0x2028, 0x202F, 0x3000};
    const std::int32_t one = pick(kinds);
    const bool pure = below(2) != 0;
    for (std::size_t n = below(below(20) == 0 ? 300 : 8); n-- > 0;) put(pure ? one : pick(kinds));
  }
  void contractions() {
    static const std::array<const char*, 14> ends{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D"};
    static const std::array<const char*, 9> stems{"he", "WE", " they", " I", "", " ", "''", "!", "9"};
    for (std::size_t n = below(8); n-- > 0;) {
      out_ += pick(stems);
      out_ += pick(ends);
      if (below(3) == 0) out_ += pick(std::array<const char*, 6>{"x", "s", "'", "\xE2\x80\x99s", " ", "\n"});
    }
  }
  void digits() {
    for (std::size_t n = below(20); n-- > 0;) {
      put(static_cast<std::int32_t>(pick(std::array<std::int32_t, 5>{'0', '0', '0', 0x660, 0x966}) + static_cast<std::int32_t>(below(10))));
      if (below(5) == 0) put(pick(std::array<std::int32_t, 7>{'.', ',', ' ', '-', 0xBD, 0x2167, 0xB2}));
    }
  }
  void controls() {
    for (std::size_t n = below(6); n-- > 0;) put(static_cast<std::int32_t>(below(3) == 0 ? 0x7F + below(33) : below(32)));
  }
  void words() {
    for (std::size_t n = below(12); n-- > 0;) {
      for (std::size_t letters = below(9); letters-- > 0;)
        put(static_cast<std::int32_t>((below(5) == 0 ? 'A' : 'a') + static_cast<std::int32_t>(below(26))));
      out_ += pick(std::array<const char*, 7>{" ", " ", " ", ", ", ". ", "-", "\n"});
    }
  }
  void specials() { out_ += pick(std::array<const char*, 4>{"<|endoftext|>", " <|endoftext|>\n", "<|endoftext", "|>"}); }

  std::size_t bytes_;
  RandomStream stream_ = RandomStream{1}.at("hard text");
  std::uint64_t draws_ = 0;
  std::string out_;
  std::array<std::vector<std::int32_t>, 30> categories_;
  std::vector<const std::vector<std::int32_t>*> present_;
};

}  // namespace

std::string hard_text(std::size_t bytes) { return Writer(bytes).write(); }

}  // namespace glassformer::tests
