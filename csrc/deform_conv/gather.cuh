// How the fast kernels sample: 16 bytes of channels from a channels-last input, along the steps of a matrix product.
//
// The fast kernels count output pixels through all images, r = b * So + p, so that a tile may span images.
#pragma once

#include "common/tile.cuh"
#include "deform_conv/taps.cuh"

namespace dyhead::deform_conv {

/// Output pixels of all images.
HOST_DEVICE inline int64_t all_pixels(const Geometry& g) { return g.B * g.So(); }

/// Where one tap of one pixel reads: the four corners in a channels-last input, and how much of each.
struct Corners {
  int offset[4];    // of channel 0; -1: outside
  float weight[4];  // bilinear weight times modulation

  template <class T>
  __device__ void find(const Geometry& g, const Inputs<T>& in, const Tap& tap) {
    const Cell<float> cell = in.cell(g, tap);
    const float modulation = in.modulation(g, tap);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t pixel = (tap.b * g.H + cell.top + i / 2) * g.W + cell.left + i % 2;
      offset[i] = cell.has(i / 2, i % 2, g.H, g.W) ? int(pixel * g.C) : -1;
      weight[i] = modulation * cell.weight(i / 2, i % 2);
    }
  }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 4; ++i) offset[i] = -1, weight[i] = 0;
  }
};

/// 16 bytes of channels at the four corners, on their way from memory.
template <class T>
struct CornerWords {
  Words16 at[4];

  __device__ void load(const Global<const T>& input, const Corners& corners, int c) {
#pragma unroll
    for (int i = 0; i < 4; ++i) at[i] = load_words<4>(input, corners.offset[i] + c, corners.offset[i] >= 0);
  }

  /// The interpolated and modulated channels, as factors of a product.
  template <class Factors>
  __device__ Words16 blend(const Corners& corners) const {
    float sum[kPerWords<T>] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float value[kPerWords<T>];
      unpack<T>(at[i], value);
#pragma unroll
      for (int j = 0; j < kPerWords<T>; ++j) sum[j] += corners.weight[i] * value[j];
    }
    Words16 words = pack<T>(sum);
#pragma unroll
    for (int i = 0; i < 4; ++i) words.at[i] = factor_of(words.at[i], TypeTag<Factors>());
    return words;
  }
};

/// A step of the product over offset groups, taps and channels: kStep<T> channels of one tap.
template <class T>
struct Step {
  int group = 0, k = 0, first = 0;  // the first channel within its group

  __device__ bool exists(const Geometry& g) const { return group < g.G; }
  __device__ bool opens_tap() const { return first == 0; }
  __device__ int channel(const Geometry& g) const { return group * int(g.offset_group_channels()) + first; }
  __device__ void advance(const Geometry& g) {
    first += kStep<T>;
    if (first < g.offset_group_channels()) return;
    first = 0;
    if (++k == g.K()) k = 0, ++group;
  }
};

/// The steps of some taps, which are counted through all groups.
template <class T>
struct StepOfSome : Step<T> {
  int end;

  __device__ StepOfSome(const Geometry& g, int tap, int end) : end(end) {
    this->group = tap / g.K(), this->k = tap % g.K();
  }
  __device__ bool exists(const Geometry& g) const { return this->group * g.K() + this->k < end; }
};

}  // namespace dyhead::deform_conv
