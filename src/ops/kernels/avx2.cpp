// Compiled for AVX2 with FMA and F16C (Haswell, Zen, and later).
#include "ops/kernels/integer_products.hpp"
#include "ops/kernels/row_products.hpp"
#include "ops/kernels/token_products.hpp"
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

#include <type_traits>

namespace glassformer::ops::kernels {
namespace {

template <class F>
struct MaskedSteps;
struct LevelSteps;

struct Avx2 {
  template <class F>
  using Steps = std::conditional_t<F::kHead == 0, LevelSteps, MaskedSteps<F>>;
  using Float = __m256;
  using Int = __m256i;
  static constexpr ptrdiff_t kLanes = 8;
  static constexpr ptrdiff_t kChains = 2;
  static constexpr bool kStreams = true;
  static constexpr bool kTokens = true;  // token_products.hpp
  static Float zero() { return _mm256_setzero_ps(); }
  static Float set(float x) { return _mm256_set1_ps(x); }
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static Float load_first(const float* p, ptrdiff_t n) {
    return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
  }
  static void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static float sum(Float x) {
    const __m256 pairs = _mm256_hadd_ps(x, x), fours = _mm256_hadd_ps(pairs, pairs);
    return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
  }
  static void sum4(const Float* x, float* out) {
    const __m256 fours = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
  }
  static float half(const std::uint8_t* p) {
    std::uint16_t bits;
    std::memcpy(&bits, p, 2);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
  }
  static Float widen8(const std::uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  template <ptrdiff_t dwords, ptrdiff_t bytes>
  static Int load_dwords(const std::uint8_t* p) {
    if constexpr (dwords == 8) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(first), _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + bytes)), 1);
  }
  template <ptrdiff_t dwords>
  static Float spread_scales(const float* scales) {
    static_assert(dwords == 8);
    return set(scales[0]);
  }
  template <ptrdiff_t dwords, ptrdiff_t bytes>
  static Float spread_halves(const std::uint8_t* p) {
    if constexpr (dwords == 8) return set(half(p));
    return _mm256_insertf128_ps(set(half(p)), _mm_set1_ps(half(p + bytes)), 1);
  }

  static Float widen_halves(const std::uint64_t* four) {
    return _mm256_cvtph_ps(_mm_set_epi64x(static_cast<long long>(four[1]), static_cast<long long>(four[0])));
  }
  // Lane r of each four of them to all of its four, for r = 0 … 3.
  static void spread(std::uint64_t lower, std::uint64_t upper, Float* out) {
    const std::uint64_t both[] = {lower, upper};
    const Float x = widen_halves(both);
    out[0] = _mm256_permute_ps(x, 0x00), out[1] = _mm256_permute_ps(x, 0x55);
    out[2] = _mm256_permute_ps(x, 0xAA), out[3] = _mm256_permute_ps(x, 0xFF);
  }
  static Int set_four(const void* x) {
    std::int32_t four;
    std::memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
  }
  static Int add_pairs(Int halves) { return _mm256_madd_epi16(halves, _mm256_set1_epi16(1)); }
  struct ByteDot {  // |w|·(x with w's sign): of unsigned by signed bytes, and 2·127·128 fits in 16 bits
    Int sum;
    void start(const std::int32_t*) { sum = _mm256_setzero_si256(); }
    void add(Int w, const std::int8_t* x) {
      sum = _mm256_add_epi32(sum, add_pairs(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(set_four(x), w))));
    }
    Int total(const std::int32_t*) const { return sum; }
  };
  struct NibbleDot {  // in 16 bits, where a whole block fits: 16·15·127
    Int sum;
    void start(const std::int32_t*) { sum = _mm256_setzero_si256(); }
    void add(Int w, const std::int8_t* x) { sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, set_four(x))); }
    Int total(const std::int32_t* x_sum) const { return _mm256_sub_epi32(add_pairs(sum), _mm256_slli_epi32(_mm256_set1_epi32(*x_sum), 3)); }
  };
  // Token products: a register holds four codes each of eight tokens, and every lane the same four codes of a row of W.
  // GCC would put all additions of a block at its end, for which there are no registers: what went through here stays where it is written.
  static void pin(Int& x) { asm("" : "+x"(x)); }
  template <int O>
  static void byte_columns(const TurnedForBytes& x, const std::uint8_t* rows, ptrdiff_t stride, Int* total) {
    const Int ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (ptrdiff_t c = 0; c < 8; ++c) {
      const Int size = load_int(x.column[c].size), sign = load_int(x.column[c].sign);
      Int product[O];  // one operation of all rows after another: what waits for the one before it would block a queue of the processor
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) product[o] = _mm256_xor_si256(set_four(rows + o * stride + 4 * c), sign);
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) product[o] = _mm256_maddubs_epi16(size, product[o]);
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) product[o] = _mm256_madd_epi16(product[o], ones);
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) {
        total[o] = _mm256_add_epi32(c == 0 ? load_int(x.negatives) : total[o], product[o]);
        pin(total[o]);
      }
    }
  }
  template <int O>
  static void nibble_columns(const TurnedForNibbles& x, const std::uint8_t* rows, ptrdiff_t stride, Int* total) {
    const Int low = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (ptrdiff_t c = 0; c < 4; ++c) {
      const Int first = load_int(x.codes[c]), second = load_int(x.codes[4 + c]);
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) {
        const Int w = set_four(rows + o * stride + 4 * c);
        const Int a = _mm256_maddubs_epi16(_mm256_and_si256(w, low), first);
        const Int b = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 4), low), second);
        total[o] = c == 0 ? _mm256_add_epi16(a, b) : _mm256_add_epi16(total[o], _mm256_add_epi16(a, b));
        pin(total[o]);
      }
    }
    const Int offset = _mm256_slli_epi32(load_int(x.sums), 3);
#pragma GCC unroll 4
    for (int o = 0; o < O; ++o) total[o] = _mm256_sub_epi32(add_pairs(total[o]), offset);
  }
  static Int zero_int() { return _mm256_setzero_si256(); }
  static Int size(Int codes) { return _mm256_abs_epi8(codes); }
  static Int negative(Int codes) { return _mm256_cmpgt_epi8(zero_int(), codes); }
  static Int add_masked(Int sum, Int sizes, Int mask) {  // each four bytes of `sizes` where `mask` is set
    return _mm256_add_epi32(sum, add_pairs(_mm256_maddubs_epi16(_mm256_and_si256(sizes, mask), _mm256_set1_epi8(1))));
  }
  static Int load_int(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
  static void store_int(void* p, Int x) { _mm256_store_si256(static_cast<__m256i*>(p), x); }
  static Float to_float(Int x) { return _mm256_cvtepi32_ps(x); }

  // Words of 8 rows, `stride` bytes apart: column[c] has word c of every row.
  static void transpose8(const std::uint8_t* rows, ptrdiff_t stride, Int* column) {
    transpose4x8(rows, stride, column), transpose4x8(rows + 16, stride, column + 4);
  }
  // The same from q4_0, 16 bytes a row: low nibbles are the first 16 codes, each of 8 more than it stands for.
  static void transpose4(const std::uint8_t* rows, ptrdiff_t stride, Int* column) {
    const Int low = _mm256_set1_epi8(15);
    Int packed[4];
    transpose4x8(rows, stride, packed);
    for (int c = 0; c < 4; ++c)
      column[c] = _mm256_and_si256(packed[c], low), column[4 + c] = _mm256_and_si256(_mm256_srli_epi16(packed[c], 4), low);
  }

 private:
  // Four words of each of 8 rows: column[c] has word c of every row.
  static void transpose4x8(const std::uint8_t* rows, ptrdiff_t stride, Int* column) {
    __m256i a[4];  // a[k]: rows k and 4 + k
    for (ptrdiff_t k = 0; k < 4; ++k) {
      const auto row = [&](ptrdiff_t q) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + (4 * q + k) * stride)); };
      a[k] = _mm256_inserti128_si256(_mm256_castsi128_si256(row(0)), row(1), 1);
    }
    const __m256i b0 = _mm256_unpacklo_epi32(a[0], a[1]), b1 = _mm256_unpackhi_epi32(a[0], a[1]);
    const __m256i b2 = _mm256_unpacklo_epi32(a[2], a[3]), b3 = _mm256_unpackhi_epi32(a[2], a[3]);
    column[0] = _mm256_unpacklo_epi64(b0, b2), column[1] = _mm256_unpackhi_epi64(b0, b2);
    column[2] = _mm256_unpacklo_epi64(b1, b3), column[3] = _mm256_unpackhi_epi64(b1, b3);
  }
};

// q4_0 and int4, without a table and without a shift: a nibble as it stands in its word is 16^j times its code, from 0 to 15.
template <class F>
struct MaskedSteps {
  struct Table {};
  static constexpr float kOffset = 8;
  static constexpr bool kRowByRow = false;  // four rows share x and the mask
  static float factor(ptrdiff_t j) { return j == 7 ? 1.0f : 1.0f / static_cast<float>(1 << 4 * j); }
  static ptrdiff_t place(ptrdiff_t lane, ptrdiff_t j) { return place_in_word<F>(lane, j); }
  static Table table(const float*) { return {}; }
  __m256i codes;
  void load(const std::uint8_t* from) { codes = Avx2::load_dwords<F::kDwords, F::kBytes>(from); }
  __m256 number(int j, Table) const {  // the last would be taken for a negative number
    return _mm256_cvtepi32_ps(j == 7 ? _mm256_srli_epi32(codes, 28) : _mm256_and_si256(codes, _mm256_set1_epi32(15 << 4 * j)));
  }
};

// nf4, whose levels are any floats: byte k of 32 of them at once, which are then put together.
struct LevelSteps {
  struct Table {
    __m256i byte[4];  // [k] byte k of each level, twice
  };
  static constexpr float kOffset = 0;
  static constexpr bool kRowByRow = true;  // there are no registers for what two rows have in common with themselves
  static float factor(ptrdiff_t) { return 1; }
  // 0 … 3: high nibbles, then the low ones; within each half of a register the next four bytes
  static ptrdiff_t place(ptrdiff_t lane, ptrdiff_t j) { return Nf4::at(lane / 4 * 16 + j % 4 * 4 + lane % 4, j < 4); }
  static Table table(const float* levels) {
    Table t;
    for (int k = 0; k < 4; ++k) {
      alignas(16) std::uint8_t bytes[16];
      for (int i = 0; i < 16; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, levels + i, 4);
        bytes[i] = static_cast<std::uint8_t>(bits >> 8 * k);
      }
      t.byte[k] = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
    }
    return t;
  }
  __m256i codes;
  void load(const std::uint8_t* from) { codes = Avx2::load_dwords<8, 32>(from); }
  __m256 number(int j, const Table& t) const {
    const __m256i index = _mm256_and_si256(j < 4 ? _mm256_srli_epi16(codes, 4) : codes, _mm256_set1_epi8(15));
    const auto pair = [&](int low, int high) {  // 16 bits of the levels of eight bytes in each half
      const __m256i a = _mm256_shuffle_epi8(t.byte[low], index), b = _mm256_shuffle_epi8(t.byte[high], index);
      return j % 4 < 2 ? _mm256_unpacklo_epi8(a, b) : _mm256_unpackhi_epi8(a, b);
    };
    const __m256i low = pair(0, 1), high = pair(2, 3);
    return _mm256_castsi256_ps(j % 2 == 0 ? _mm256_unpacklo_epi16(low, high) : _mm256_unpackhi_epi16(low, high));
  }
};

}  // namespace

const Kernels avx2 = {"AVX2",        dense_rows<Avx2>,  q8_0_rows<Avx2>,       arranged_size<Avx2>,
                      arrange<Avx2>, nibble_rows<Avx2>, integer_scratch<Avx2>, integer_rows<Avx2>,
                      turned_size,   turn_tokens<Avx2>, kTileAvx2,             product_avx2,       product_avx2};

}  // namespace glassformer::ops::kernels
#else
const glassformer::ops::kernels::Kernels glassformer::ops::kernels::avx2 = {};
#endif
