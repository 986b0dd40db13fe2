// The gradient of the input without atomics: every row of a channel has one owner, who adds in a fixed order, so that
// the gradient is bit-equal from run to run.
#pragma once

#include "deform_conv/taps.cuh"

namespace dyhead::deform_conv {

/// A thread owns row y of channel c of one image. It visits all taps at all output pixels in order and adds the shares
/// of those that touch its row.
template <class T, class Column>
__global__ void backward_input_deterministic(Geometry g, Inputs<T> in, Images images, Global<const Column> columns,
                                             Global<Accumulator<T>> grad_input) {
  using A = Accumulator<T>;
  for (int64_t i = thread_number(); i < images.count * g.C * g.H; i += thread_count()) {
    const int64_t c = i % g.C;  // neighbouring threads share a row: they all add, or none does
    const int64_t image = i / g.C / g.H, b = images.first + image;
    const int y = int(i / g.C % g.H);
    for (int k = 0; k < g.K(); ++k)
      for (int64_t p = 0; p < g.So(); ++p) {
        const Tap tap{b, int(c / g.offset_group_channels()), k, p};
        const Cell<A> cell = in.cell(g, tap);
        const int corner_row = y - cell.top;
        if (!cell.inside || corner_row < 0 || corner_row > 1) continue;
        const A grad = widen(load(columns, ((image * g.C + c) * g.K() + k) * g.So() + p));
        const A share = grad * in.modulation(g, tap);
        for (int j = 0; j < 2; ++j)
          if (cell.has(corner_row, j, g.H, g.W)) {
            const int64_t at = g.input_at(b, c, int64_t(y) * g.W + cell.left + j);
            store(grad_input, at, load_own(grad_input, at) + share * cell.weight(corner_row, j));
          }
      }
  }
}

}  // namespace dyhead::deform_conv
