// For any processor: plain loops over eight numbers, which the compiler turns into whatever vectors there are.
#include "ops/kernels/integer_products.hpp"
#include "ops/kernels/row_products.hpp"

namespace glassformer::ops::kernels {
namespace {

struct Portable {
  static constexpr ptrdiff_t kLanes = 8;
  static constexpr ptrdiff_t kChains = 4;
  static constexpr bool kTokens = false;
  static constexpr bool kStreams = true;
  typedef float Float __attribute__((vector_size(32)));
  typedef std::int32_t Int __attribute__((vector_size(32)));
  using Table = const float*;
  template <class F>
  using Steps = LookedUp<Portable, F>;

  static Float zero() { return Float{}; }
  static Float set(float x) { return Float{} + x; }
  static Float load(const float* p) {
    Float x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static Float load_first(const float* p, ptrdiff_t n) {
    Float x = zero();
    for (ptrdiff_t i = 0; i < n; ++i) x[i] = p[i];
    return x;
  }
  static void store(float* p, Float x) { std::memcpy(p, &x, sizeof x); }
  static Float add(Float a, Float b) { return a + b; }
  static Float mul(Float a, Float b) { return a * b; }
  static Float fma(Float a, Float b, Float c) { return a * b + c; }
  static float sum(Float x) { return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])); }
  static void sum4(const Float* x, float* out) {
    for (int i = 0; i < 4; ++i) out[i] = sum(x[i]);
  }
  // fp16: sign, five bits of exponent, ten of fraction; below 2⁻¹⁴ without the leading one
  static float half_of(std::uint16_t bits) {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * static_cast<float>(fraction) * 0x1p-24f;
    const std::uint32_t word = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13;
    float x;
    std::memcpy(&x, &word, 4);
    return x;
  }
  static float half(const std::uint8_t* p) {
    std::uint16_t bits;
    std::memcpy(&bits, p, 2);
    return half_of(bits);
  }
  static Float widen8(const std::uint8_t* p) {
    Float x;
    for (int i = 0; i < 8; ++i) x[i] = static_cast<float>(static_cast<std::int8_t>(p[i]));
    return x;
  }
  static Table table(const float* levels) { return levels; }
  static Int shift(Int x, int bits) { return x >> bits; }
  static Float lookup(Int codes, Table levels) {
    Float x;
    for (int i = 0; i < 8; ++i) x[i] = levels[codes[i] & 15];
    return x;
  }
  template <ptrdiff_t dwords, ptrdiff_t bytes>
  static Int load_dwords(const std::uint8_t* p) {
    Int x;
    for (ptrdiff_t block = 0; block < 8 / dwords; ++block)
      std::memcpy(reinterpret_cast<std::uint8_t*>(&x) + block * dwords * 4, p + block * bytes, dwords * 4);
    return x;
  }
  template <ptrdiff_t dwords>
  static Float spread_scales(const float* scales) {
    static_assert(dwords == 8);
    return set(scales[0]);
  }
  template <ptrdiff_t dwords, ptrdiff_t bytes>
  static Float spread_halves(const std::uint8_t* p) {
    Float x;
    for (ptrdiff_t i = 0; i < 8; ++i) x[i] = half(p + i / dwords * bytes);
    return x;
  }

  static Float widen_halves(const std::uint64_t* four) {
    Float x;
    for (int i = 0; i < 8; ++i) x[i] = half_of(static_cast<std::uint16_t>(four[i / 4] >> 16 * (i % 4)));
    return x;
  }
  // Lane r of each four of them to all of its four, for r = 0 … 3.
  static void spread(std::uint64_t lower, std::uint64_t upper, Float* out) {
    const std::uint64_t both[] = {lower, upper};
    const Float x = widen_halves(both);
    for (int r = 0; r < 4; ++r) {
      for (int i = 0; i < 8; ++i) out[r][i] = x[i / 4 * 4 + r];
    }
  }
  template <std::int32_t offset>  // what W's codes are more than they stand for
  struct OffsetDot {
    Int sum;
    void start(const std::int32_t* x_sum) { sum = Int{} - offset * *x_sum; }
    void add(Int w, const std::int8_t* x) {
      std::int8_t codes[32];
      std::memcpy(codes, &w, 32);
      for (int lane = 0; lane < 8; ++lane) {
        for (int i = 0; i < 4; ++i) sum[lane] += codes[4 * lane + i] * x[i];
      }
    }
    Int total(const std::int32_t*) const { return sum; }
  };
  using ByteDot = OffsetDot<0>;
  using NibbleDot = OffsetDot<8>;
  static Int load_int(const void* p) {
    Int x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static Float to_float(Int x) { return __builtin_convertvector(x, Float); }

  static void store_int(void* p, Int x) { std::memcpy(p, &x, sizeof x); }

  // Words of 8 rows, `stride` bytes apart: column[c] has word c of every row.
  static void transpose8(const std::uint8_t* rows, ptrdiff_t stride, Int* column) {
    for (ptrdiff_t c = 0; c < 8; ++c) {
      for (ptrdiff_t r = 0; r < 8; ++r) std::memcpy(reinterpret_cast<std::uint8_t*>(column + c) + 4 * r, rows + r * stride + 4 * c, 4);
    }
  }
  // The same from q4_0, 16 bytes a row: low nibbles are the first 16 codes, each of 8 more than it stands for.
  static void transpose4(const std::uint8_t* rows, ptrdiff_t stride, Int* column) {
    std::uint8_t codes[8][32];
    for (ptrdiff_t r = 0; r < 8; ++r) {
      for (ptrdiff_t i = 0; i < 16; ++i) codes[r][i] = rows[r * stride + i] & 15, codes[r][i + 16] = rows[r * stride + i] >> 4;
    }
    transpose8(codes[0], 32, column);
  }
};

}  // namespace

const Kernels portable = {"portable",        dense_rows<Portable>,  q8_0_rows<Portable>,       arranged_size<Portable>,
                          arrange<Portable>, nibble_rows<Portable>, integer_scratch<Portable>, integer_rows<Portable>,
                          nullptr,           nullptr,               kTilePortable,             product_portable,       product_portable};

}  // namespace glassformer::ops::kernels
