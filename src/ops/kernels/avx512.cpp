// Compiled for AVX-512 with VNNI (Ice Lake, Zen 4, and later).
#include "ops/kernels/integer_products.hpp"
#include "ops/kernels/row_products.hpp"
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

namespace glassformer::ops::kernels {
namespace {

struct Avx512 {
  using Float = __m512;
  using Int = __m512i;
  using Table = __m512;  // all 16 levels in one register
  static constexpr ptrdiff_t kLanes = 16;
  static constexpr bool kUnsignedCodes = true;  // of W in integer products: VNNI multiplies unsigned by signed bytes
  static Float zero() { return _mm512_setzero_ps(); }
  static Float set(float x) { return _mm512_set1_ps(x); }
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Float x) { _mm512_storeu_ps(p, x); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(Float x) { return _mm512_reduce_add_ps(x); }
  static float half(const std::uint8_t* p) {
    std::uint16_t bits;
    std::memcpy(&bits, p, 2);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
  }
  static Float widen8(const std::uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static Table table(const float* levels) { return load(levels); }
  static Int shift(Int x, int bits) { return _mm512_srli_epi32(x, static_cast<unsigned>(bits)); }
  static Float lookup(Int codes, Table levels) { return _mm512_permutexvar_ps(codes, levels); }  // reads the lowest four bits of each word

  template <ptrdiff_t dwords, ptrdiff_t bytes>
  static Int load_dwords(const std::uint8_t* p) {
    if constexpr (dwords == 4) {
      const auto part = [p](ptrdiff_t b) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + b * bytes)); };
      const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(part(0)), part(1), 1);
      const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(part(2)), part(3), 1);
      return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    } else if constexpr (bytes == 4 * dwords) {  // blocks without a head lie close together
      return _mm512_loadu_si512(p);
    } else {
      const auto part = [p](ptrdiff_t b) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + b * bytes)); };
      return _mm512_inserti64x4(_mm512_castsi256_si512(part(0)), part(1), 1);
    }
  }
  // Each block's scale to the lanes of its words.
  template <ptrdiff_t dwords>
  static Float spread_scales(const float* scales) {
    static_assert(dwords == 8);
    return _mm512_mask_broadcastss_ps(set(scales[0]), 0xFF00, _mm_load_ss(scales + 1));
  }
  template <ptrdiff_t dwords, ptrdiff_t bytes>
  static Float spread_halves(const std::uint8_t* p) {
    const auto word = [p](ptrdiff_t b) {
      std::uint16_t bits;
      std::memcpy(&bits, p + b * bytes, 2);
      return static_cast<unsigned>(bits);
    };
    __m128i halves = _mm_cvtsi32_si128(static_cast<int>(word(0) | word(1) << 16));
    if constexpr (dwords == 4) halves = _mm_insert_epi32(halves, static_cast<int>(word(2) | word(3) << 16), 1);
    const __m512i lanes = dwords == 4 ? _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)
                                      : _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    return _mm512_permutexvar_ps(lanes, _mm512_castps128_ps512(_mm_cvtph_ps(halves)));
  }

  // acc + Σ of four neighbours: unsigned bytes of w times the four signed bytes at x
  static Int dot4(Int acc, Int w, const std::int8_t* x) {
    std::int32_t four;
    std::memcpy(&four, x, 4);
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(four));
  }
  static void widen_halves(const std::uint16_t* halves, float* out) {
    store(out, _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(halves))));
  }
  static Int set_int(std::int32_t x) { return _mm512_set1_epi32(x); }
  static Int load_int(const void* p) { return _mm512_load_si512(p); }
  static Float to_float(Int x) { return _mm512_cvtepi32_ps(x); }

  // Words of 16 rows, `stride` bytes apart, to columns: word c of row r goes to columns[c][r], each byte as code + 128.
  static void transpose8(const std::uint8_t* rows, ptrdiff_t stride, std::uint8_t* columns) {
    __m512i pair[8];  // row r beside row r + 8
    for (ptrdiff_t r = 0; r < 8; ++r) {
      const auto row = [&](ptrdiff_t i) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows + i * stride)); };
      pair[r] = _mm512_inserti64x4(_mm512_castsi256_si512(row(r)), row(r + 8), 1);
    }
    transpose_pairs(pair, columns);
  }
  // The same from q4_0: 16 bytes a row, low nibbles the first 16 codes, of 8 more than they stand for.
  static void transpose4(const std::uint8_t* rows, ptrdiff_t stride, std::uint8_t* columns) {
    const __m256i low = _mm256_set1_epi8(15);
    __m512i pair[8];
    for (ptrdiff_t r = 0; r < 8; ++r) {
      const auto row = [&](ptrdiff_t i) {
        const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + i * stride));
        return _mm256_and_si256(_mm256_inserti128_si256(_mm256_castsi128_si256(packed), _mm_srli_epi16(packed, 4), 1), low);
      };
      const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(row(r)), row(r + 8), 1);
      pair[r] = _mm512_add_epi8(both, _mm512_set1_epi8(-8));
    }
    transpose_pairs(pair, columns);
  }

 private:
  static void transpose_pairs(const __m512i* pair, std::uint8_t* columns) {
    // 8×8 words within each half: by words, by pairs of words, by quarters.
    __m512i a[8], b[8];
    for (int r = 0; r < 8; r += 2)
      a[r] = _mm512_unpacklo_epi32(pair[r], pair[r + 1]), a[r + 1] = _mm512_unpackhi_epi32(pair[r], pair[r + 1]);
    for (int r = 0; r < 8; r += 4) {
      for (int k = 0; k < 2; ++k)
        b[r + 2 * k] = _mm512_unpacklo_epi64(a[r + k], a[r + 2 + k]), b[r + 2 * k + 1] = _mm512_unpackhi_epi64(a[r + k], a[r + 2 + k]);
    }
    // b[c] holds words c and c + 4 of rows 0 … 3 (and 8 … 11), b[c + 4] those of rows 4 … 7 (and 12 … 15), a quarter each.
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), second = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    for (int c = 0; c < 4; ++c) {
      _mm512_store_si512(columns + 64 * c, _mm512_xor_si512(_mm512_permutex2var_epi64(b[c], first, b[c + 4]), flip));
      _mm512_store_si512(columns + 64 * (c + 4), _mm512_xor_si512(_mm512_permutex2var_epi64(b[c], second, b[c + 4]), flip));
    }
  }
};

}  // namespace

const Kernels avx512 = {"AVX-512",       dense_rows<Avx512>,  q8_0_rows<Avx512>,       arranged_size<Avx512>,
                        arrange<Avx512>, nibble_rows<Avx512>, integer_scratch<Avx512>, integer_rows<Avx512>};

}  // namespace glassformer::ops::kernels
#else
const glassformer::ops::kernels::Kernels glassformer::ops::kernels::avx512 = {};
#endif
