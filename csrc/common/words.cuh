// Wide accesses: 8 or 16 bytes of neighbouring elements that move in one instruction.
#pragma once

#include <type_traits>

#include "common/memory.cuh"

namespace dyhead {

/// N words of 32 bits. They stay words until they are unpacked, which costs one instruction per element or less.
template <int N>
struct alignas(4 * N) Words {
  uint32_t at[N];
};

/// 16 bytes, the widest access of a thread.
using Words16 = Words<4>;

/// How many elements of T fit into N words.
template <class T, int N = 4>
constexpr int kPerWords = N * 4 / int(sizeof(T));

/// Read N words that no thread writes during the kernel; zeros if not `exists`. `index` counts elements and is a
/// multiple of their number.
template <int N, class T>
__device__ inline Words<N> load_words(const Global<const T>& memory, int64_t index, bool exists = true) {
  using Bits = std::conditional_t<N == 4, float4, float2>;
  union {
    Bits bits;
    Words<N> words;
  } moved;
  moved.words = {};
  if (exists) {
    OBSERVE(read, memory, index, (kPerWords<T, N>), memory.data[index]);
    moved.bits = __ldg(reinterpret_cast<const Bits*>(memory.data + index));
  }
  return moved.words;
}

/// Read 16 bytes from the second-level cache, or from memory into it; the first-level cache is left alone.
template <class T>
__device__ inline Words16 load_words_past_l1(const Global<const T>& memory, int64_t index) {
  union {
    float4 bits;
    Words16 words;
  } moved;
  OBSERVE(read, memory, index, kPerWords<T>, memory.data[index]);
  moved.bits = __ldcg(reinterpret_cast<const float4*>(memory.data + index));
  return moved.words;
}

template <int N, class T>
__device__ inline void store_words(const Global<T>& memory, int64_t index, const Words<N>& words) {
  OBSERVE(write, memory, index, (kPerWords<T, N>), reinterpret_cast<const T&>(words));
  *reinterpret_cast<Words<N>*>(memory.data + index) = words;
}

__device__ inline float float_of(uint32_t word) {
  union {
    uint32_t word;
    float value;
  } bits{word};
  return bits.value;
}

__device__ inline uint32_t word_of(float value) {
  union {
    float value;
    uint32_t word;
  } bits{value};
  return bits.word;
}

/// The elements in words, widened to float32.
template <class T, int N>
__device__ inline void unpack(const Words<N>& words, float (&to)[kPerWords<T, N>]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      to[i] = float_of(words.at[i]);
    } else if constexpr (std::is_same_v<T, bfloat16>) {
      to[2 * i] = float_of(words.at[i] << 16);
      to[2 * i + 1] = float_of(words.at[i] & 0xffff0000u);
    } else {
      union {
        uint32_t word;
        T pair[2];
      } bits{words.at[i]};
      to[2 * i] = widen(bits.pair[0]), to[2 * i + 1] = widen(bits.pair[1]);
    }
  }
}

/// Float32 values rounded to T and packed into words.
template <class T, int N = 4>
__device__ inline Words<N> pack(const float (&from)[kPerWords<T, N>]) {
  union {
    T values[kPerWords<T, N>];
    Words<N> words;
  } packed;
#pragma unroll
  for (int i = 0; i < kPerWords<T, N>; ++i) packed.values[i] = narrow<T>(from[i]);
  return packed.words;
}

}  // namespace dyhead
