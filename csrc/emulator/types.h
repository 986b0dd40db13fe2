// CUDA's vector and 16-bit types, for a compiler that has never heard of CUDA.
//
// Only what the kernels use is here. The 16-bit conversions round to nearest, ties to even, as the GPU's do.
#pragma once

#include <cstdint>
#include <cstring>

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};

struct alignas(8) float2 {
  float x, y;
};

struct alignas(16) float4 {
  float x, y, z, w;
};

namespace emulator {

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "both types must have the same size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

/// Drop the low `count` bits of `bits`, rounding to nearest, ties to even.
inline uint32_t round_off(uint32_t bits, int count) {
  const uint32_t kept = bits >> count;
  const uint32_t rest = bits & ((1u << count) - 1), half = 1u << (count - 1);
  return kept + (rest > half || (rest == half && (kept & 1)));
}

}  // namespace emulator

/// 8 exponent bits, 7 mantissa bits: the upper half of a float.
struct __nv_bfloat16 {
  uint16_t bits;
};

/// 5 exponent bits, 10 mantissa bits.
struct __half {
  uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 value) { return emulator::bit_cast<float>(uint32_t(value.bits) << 16); }

inline __nv_bfloat16 __float2bfloat16(float value) {
  const uint32_t bits = emulator::bit_cast<uint32_t>(value);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {uint16_t(is_nan ? 0x7fffu : emulator::round_off(bits, 16))};
}

inline float __half2float(__half value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 31u, mantissa = value.bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = float(mantissa) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return emulator::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

inline __half __float2half(float value) {
  const uint32_t bits = emulator::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffffu;
  const uint32_t sign = (bits >> 16) & 0x8000u;
  if (magnitude > 0x7f800000u) return {uint16_t(0x7fffu)};          // not a number
  if (magnitude >= 0x477ff000u) return {uint16_t(sign | 0x7c00u)};  // rounds to infinity
  if (magnitude < 0x33000000u) return {uint16_t(sign)};             // rounds to zero
  if (magnitude < 0x38800000u) {                                    // subnormal
    const int shift = 126 - int(magnitude >> 23);
    return {uint16_t(sign | emulator::round_off((magnitude & 0x7fffffu) | 0x800000u, shift))};
  }
  return {uint16_t(sign | emulator::round_off(magnitude - 0x38000000u, 13))};
}
