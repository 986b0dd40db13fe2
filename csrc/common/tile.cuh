// Tiles of a matrix product: in shared memory as rows, in registers as sums.
//
// A block multiplies a tile of 256 rows (a) with a tile of 64 or more columns (b), a step of the axis that is summed
// over at a time: 32 16-bit floats or 16 floats of it. In memory that axis is the contiguous one in both (SharedTile),
// or the other one is (TurnedTile).
#pragma once

#include "common/tensor_core.cuh"

namespace dyhead {

constexpr int kRowBytes = 64, kRowPacks = kRowBytes / 16;

/// Elements of T along the summed axis that one step takes.
template <class T>
constexpr int kStep = kRowBytes / int(sizeof(T));

/// Rows of 64 bytes in shared memory. The packs of a row are permuted, so that a pack of eight neighbouring rows lies
/// in eight different groups of banks.
struct SharedTile {
  char* data;

  __device__ void* pack(int row, int pack) const { return data + row * kRowBytes + ((pack ^ (row >> 1 & 3)) * 16); }

  /// Words of factors of one instruction, which takes 32 of the 64 bytes (`half`): 16 rows of a, or 8 columns of b and
  /// the next.
  __device__ void first_factors(uint32_t (&words)[4], int row, int half, int lane) const {
    load_matrices(words, pack(row + lane % 16, 2 * half + lane / 16));
  }
  __device__ void second_factors(uint32_t (&words)[4], int column, int half, int lane) const {
    load_matrices(words, pack(column + lane / 16 * 8 + lane % 8, 2 * half + lane / 8 % 2));
  }
};

/// A step as kStep<T> rows of kWidth elements: each row is one place of the axis that is summed over. Eight elements
/// lie between rows, so that eight rows of 16 bytes, or four of eight floats, start in different banks.
template <class T, int kWidth>
struct TurnedTile {
  static constexpr int kRowSize = kWidth + 8, kRowPacks = kWidth / kPerWords<T>;
  static constexpr int kBytes = kStep<T> * kRowSize * int(sizeof(T));
  T* data;

  __device__ T* pack(int row, int pack) const { return data + row * kRowSize + pack * kPerWords<T>; }

  /// The words of 16 columns, from `column` on, and half a step, as multiply_add takes them: eight columns and the
  /// next, then the same further along the axis.
  __device__ void factors(uint32_t (&words)[4], int column, int half, int lane) const {
    const T* corner = data + half * (kStep<T> / 2) * kRowSize + column;
    if constexpr (sizeof(T) == 2) {
      load_turned_matrices(words, corner + (lane % 8 + lane / 16 * 8) * kRowSize + lane / 8 % 2 * 8);
    } else {  // nothing turns words of 32 bits: each is read by itself
#pragma unroll
      for (int i = 0; i < 4; ++i) words[i] = word_of(corner[(lane % 4 + i / 2 * 4) * kRowSize + lane / 4 + i % 2 * 8]);
    }
  }
  __device__ void first_factors(uint32_t (&words)[4], int row, int half, int lane) const {
    factors(words, row, half, lane);
  }
  __device__ void second_factors(uint32_t (&words)[4], int column, int half, int lane) const {
    uint32_t by_place[4];
    factors(by_place, column, half, lane);
    words[0] = by_place[0], words[1] = by_place[2], words[2] = by_place[1], words[3] = by_place[3];
  }
};

/// The sums of one warp: 32 rows x 64 columns as 2 x 8 tensor-core tiles. Warps 0 to 7 share columns 0 to 63, the next
/// eight warps columns 64 to 127.
struct WarpSums {
  static constexpr int kRows = 32, kColumns = 64, kWarpsOfRows = 8;
  float at[2][8][4] = {};

  __device__ static int first_row() { return int(threadIdx.x) / 32 % kWarpsOfRows * kRows; }
  __device__ static int first_column() { return int(threadIdx.x) / 32 / kWarpsOfRows * kColumns; }

  /// sums += one step: the rows of `a` times the columns of `b`. Factors: the tiles' type, or Tf32 for float.
  template <class Factors, class Tile, class OtherTile>
  __device__ void multiply(const Tile& a, const OtherTile& b) {
    const int lane = threadIdx.x % 32;  // found once: asked for again in each load, it cost registers
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t a_words[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) a.first_factors(a_words[i], first_row() + 16 * i, half, lane);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        uint32_t b_words[4];
        b.second_factors(b_words, first_column() + 8 * j, half, lane);
        const uint32_t left[2] = {b_words[0], b_words[1]}, right[2] = {b_words[2], b_words[3]};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          multiply_add(at[i][j], a_words[i], left, TypeTag<Factors>());
          multiply_add(at[i][j + 1], a_words[i], right, TypeTag<Factors>());
        }
      }
    }
  }

  /// Call `visit(row, column, sum)` for every sum that this thread holds; both count from the block's tile.
  template <class Visit>
  __device__ void for_each(const Visit& visit) const {
    const int lane = threadIdx.x % 32, row = first_row() + lane / 4, column = first_column() + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) visit(row + 16 * i + e / 2 * 8, column + 8 * j + e % 2, at[i][j][e]);
  }
};

}  // namespace dyhead
