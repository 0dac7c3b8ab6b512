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
  template <class F>
  using Steps = LookedUp<Avx512, F>;
  static constexpr ptrdiff_t kLanes = 16;
  static constexpr ptrdiff_t kChains = 4;
  static constexpr bool kTokens = false;
  static constexpr bool kStreams = false;
  static Float zero() { return _mm512_setzero_ps(); }
  static Float set(float x) { return _mm512_set1_ps(x); }
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  static Float load_first(const float* p, ptrdiff_t n) { return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p); }
  static void store(float* p, Float x) { _mm512_storeu_ps(p, x); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static __m256 halves(Float x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); }
  static float sum(Float x) {
    const __m256 pairs = _mm256_hadd_ps(halves(x), halves(x)), fours = _mm256_hadd_ps(pairs, pairs);
    return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
  }
  static void sum4(const Float* x, float* out) {
    const __m256 fours = _mm256_hadd_ps(_mm256_hadd_ps(halves(x[0]), halves(x[1])), _mm256_hadd_ps(halves(x[2]), halves(x[3])));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
  }
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

  template <std::int32_t offset>  // what W's codes are more than they stand for: VNNI multiplies unsigned by signed bytes
  struct OffsetDot {
    Int sum;
    void start(const std::int32_t* x_sum) { sum = _mm512_set1_epi32(-offset * *x_sum); }
    void add(Int w, const std::int8_t* x) {  // + Σ of four neighbours
      std::int32_t four;
      std::memcpy(&four, x, 4);
      sum = _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(four));
    }
    Int total(const std::int32_t*) const { return sum; }
  };
  using ByteDot = OffsetDot<128>;
  using NibbleDot = OffsetDot<8>;
  static Float widen_halves(const std::uint64_t* four) {
    const auto word = [four](ptrdiff_t q) { return static_cast<long long>(four[q]); };
    return _mm512_cvtph_ps(_mm256_set_epi64x(word(3), word(2), word(1), word(0)));
  }
  static Int load_int(const void* p) { return _mm512_load_si512(p); }
  static void store_int(void* p, Int x) { _mm512_store_si512(p, x); }
  static Float to_float(Int x) { return _mm512_cvtepi32_ps(x); }

  // Words of 16 rows, `stride` bytes apart: column[c] has word c of every row, each byte as code + 128.
  static void transpose8(const std::uint8_t* rows, ptrdiff_t stride, Int* column) {
    transpose4x16(rows, stride, column), transpose4x16(rows + 16, stride, column + 4);
    for (int c = 0; c < 8; ++c) column[c] = _mm512_xor_si512(column[c], _mm512_set1_epi8(static_cast<char>(0x80)));
  }
  // The same from q4_0, 16 bytes a row: low nibbles are the first 16 codes, each of 8 more than it stands for.
  static void transpose4(const std::uint8_t* rows, ptrdiff_t stride, Int* column) {
    const Int low = _mm512_set1_epi8(15);
    Int packed[4];
    transpose4x16(rows, stride, packed);
    for (int c = 0; c < 4; ++c)
      column[c] = _mm512_and_si512(packed[c], low), column[4 + c] = _mm512_and_si512(_mm512_srli_epi16(packed[c], 4), low);
  }

 private:
  // Four words of each of 16 rows: column[c] has word c of every row.
  static void transpose4x16(const std::uint8_t* rows, ptrdiff_t stride, Int* column) {
    __m512i a[4];  // a[k]: rows k, 4 + k, 8 + k, 12 + k
    for (ptrdiff_t k = 0; k < 4; ++k) {
      const auto row = [&](ptrdiff_t q) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + (4 * q + k) * stride)); };
      a[k] = _mm512_inserti32x4(_mm512_castsi128_si512(row(0)), row(1), 1);
      a[k] = _mm512_inserti32x4(a[k], row(2), 2);
      a[k] = _mm512_inserti32x4(a[k], row(3), 3);
    }
    const __m512i b0 = _mm512_unpacklo_epi32(a[0], a[1]), b1 = _mm512_unpackhi_epi32(a[0], a[1]);
    const __m512i b2 = _mm512_unpacklo_epi32(a[2], a[3]), b3 = _mm512_unpackhi_epi32(a[2], a[3]);
    column[0] = _mm512_unpacklo_epi64(b0, b2), column[1] = _mm512_unpackhi_epi64(b0, b2);
    column[2] = _mm512_unpacklo_epi64(b1, b3), column[3] = _mm512_unpackhi_epi64(b1, b3);
  }
};

}  // namespace

const Kernels avx512 = {"AVX-512",       dense_rows<Avx512>,  q8_0_rows<Avx512>,       arranged_size<Avx512>,
                        arrange<Avx512>, nibble_rows<Avx512>, integer_scratch<Avx512>, integer_rows<Avx512>,
                        nullptr,         nullptr,             kTileAvx512,             product_avx512,       product_avx512};

}  // namespace glassformer::ops::kernels
#else
const glassformer::ops::kernels::Kernels glassformer::ops::kernels::avx512 = {};
#endif
