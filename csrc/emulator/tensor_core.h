// The tensor core's instructions in plain C++; the layouts of their operands are those of CUDA's PTX manual.
#pragma once

#include "emulator/shared.h"

namespace emulator {

/// What ldmatrix does: lane 8i + r points to row r of matrix i, rows of 16 bytes. `word_of(rows, lane)` makes the word
/// that a lane receives of a matrix.
template <class WordOf>
inline void exchange_matrices(uint32_t (&word)[4], const void* row, const WordOf& word_of) {
  struct Payload {
    uint32_t* word;
    const void* row;
  } mine{word, row};
  touches(row, 16, Touch::read);
  Block::current().collective(0xffffffffu, &mine, [&](Payloads lanes) {
    for (unsigned i = 0; i < 4; ++i) {
      const char* rows[8];
      for (unsigned r = 0; r < 8; ++r)
        rows[r] = static_cast<const char*>(static_cast<const Payload*>(lanes[8 * i + r])->row);
      for (unsigned lane = 0; lane < kWarpSize; ++lane)
        static_cast<Payload*>(lanes[lane])->word[i] = word_of(rows, lane);
    }
  });
}

/// ldmatrix: a lane receives word lane % 4 of row lane / 4 of each matrix.
inline void load_matrices(uint32_t (&word)[4], const void* row) {
  exchange_matrices(word, row, [](const char*(&rows)[8], unsigned lane) {
    uint32_t found;
    std::memcpy(&found, rows[lane / 4] + 4 * (lane % 4), 4);
    return found;
  });
}

/// ldmatrix.trans: a lane receives the 16-bit elements of two rows, 2 (lane % 4) and the next, at column lane / 4.
inline void load_turned_matrices(uint32_t (&word)[4], const void* row) {
  exchange_matrices(word, row, [](const char*(&rows)[8], unsigned lane) {
    uint16_t first, second;
    std::memcpy(&first, rows[lane % 4 * 2] + 2 * (lane / 4), 2);
    std::memcpy(&second, rows[lane % 4 * 2 + 1] + 2 * (lane / 4), 2);
    return uint32_t(first) | uint32_t(second) << 16;
  });
}

/// cvt.rna.tf32: the nearest float with 10 bits of mantissa, ties away from zero. Not-a-number and infinity stay.
inline uint32_t round_to_tf32(uint32_t word) {
  const bool is_finite = (word & 0x7f800000u) != 0x7f800000u;
  return is_finite ? (word + 0x1000u) & 0xffffe000u : word;
}

/// The product of two words: two pairs of 16-bit floats, or one pair of floats cut to TF32.
template <class T>
inline float multiply_words(uint32_t a, uint32_t b);

template <>
inline float multiply_words<float>(uint32_t a, uint32_t b) {
  return bit_cast<float>(a & 0xffffe000u) * bit_cast<float>(b & 0xffffe000u);
}
template <>
inline float multiply_words<__half>(uint32_t a, uint32_t b) {
  return __half2float({uint16_t(a)}) * __half2float({uint16_t(b)}) +
         __half2float({uint16_t(a >> 16)}) * __half2float({uint16_t(b >> 16)});
}
template <>
inline float multiply_words<__nv_bfloat16>(uint32_t a, uint32_t b) {
  return __bfloat162float({uint16_t(a)}) * __bfloat162float({uint16_t(b)}) +
         __bfloat162float({uint16_t(a >> 16)}) * __bfloat162float({uint16_t(b >> 16)});
}

/// mma: sum (16 x 8) += a (16 rows of words) times b (8 columns of words), 8 words each, or 4 as on Turing. With g =
/// lane / 4 and t = lane % 4, a lane gives words t and t + 4 of rows g and g + 8, and of column g.
template <class T, unsigned kWords = 8>
inline void multiply_add(float (&sum)[4], const uint32_t* a, const uint32_t* b) {
  struct Payload {
    float* sum;
    const uint32_t *a, *b;
  } mine{sum, a, b};
  Block::current().collective(0xffffffffu, &mine, [](Payloads lanes) {
    const auto at = [&](unsigned g, unsigned t) { return static_cast<const Payload*>(lanes[4 * g + t]); };
    for (unsigned row = 0; row < 16; ++row)
      for (unsigned column = 0; column < 8; ++column) {
        float product = 0;
        for (unsigned word = 0; word < kWords; ++word)
          product +=
              multiply_words<T>(at(row % 8, word % 4)->a[row / 8 + 2 * (word / 4)], at(column, word % 4)->b[word / 4]);
        at(row % 8, column / 2)->sum[column % 2 + 2 * (row / 8)] += product;
      }
  });
}

}  // namespace emulator
