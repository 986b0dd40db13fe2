// How the fast kernels sample: packs of channels from a channels-last input, along the steps of a matrix
// product.
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

/// A pack of channels at the four corners, on its way from memory.
template <class T>
struct CornerPacks {
  Pack16<T> at[4];

  __device__ void load(const Global<const T>& input, const Corners& corners, int64_t c) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      at[i] = corners.offset[i] >= 0 ? load_pack<Pack16<T>>(input, corners.offset[i] + c) : Pack16<T>{};
  }

  /// The interpolated and modulated pack.
  __device__ Pack16<T> blend(const Corners& corners) const {
    Pack16<T> result;
#pragma unroll
    for (int j = 0; j < Pack16<T>::size; ++j) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) sum += corners.weight[i] * widen(at[i].at[j]);
      result.at[j] = narrow<T>(sum);
    }
    return result;
  }
};

/// The steps of the product over offset groups, taps and channels; one step covers kStep<T> channels of one
/// tap.
template <class T>
struct Steps {
  int per_tap, count, K;

  __device__ explicit Steps(const Geometry& g)
      : per_tap(int(g.offset_group_channels()) / kStep<T>), count(int(g.G) * g.K() * per_tap), K(g.K()) {}

  __device__ int group(int step) const { return step / per_tap / K; }
  __device__ int tap(int step) const { return step / per_tap % K; }
  __device__ bool opens_tap(int step) const { return step % per_tap == 0; }
  __device__ int channel(int step) const { return (group(step) * per_tap + step % per_tap) * kStep<T>; }
};

}  // namespace dyhead::deform_conv
