// The gradient of the value without atomics: every pixel row has one owner, who adds in a fixed order.
//
// Additions of floats depend on their order, and the order of atomics is a matter of luck. Here no two threads add to
// the same place, so the gradient is bit-equal from run to run.
#pragma once

#include "ms_deform_attn/samples.cuh"

namespace dyhead::ms_deform_attn {

/// A row of a level; rows are counted through all levels.
struct Row {
  int l, y;  // l = L: there is no such row
};

template <class T, class U>
__device__ Row find_row(const Geometry& g, const Inputs<T, U>& in, int64_t row) {
  int l = 0;
  while (l < g.L && row >= in.height(l)) row -= in.height(l++);
  return {l, int(row)};
}

/// A thread owns channel d of head m on one pixel row. It visits the level's samples of all queries in order and adds
/// the shares of those that touch its row.
template <class T, class U>
__global__ void backward_value_deterministic(Geometry g, Inputs<T, U> in, Global<const T> grad_output,
                                             Global<Accumulator<T>> grad_value) {
  using A = Accumulator<T>;
  // A level has no more rows than pixels, so N rows are enough to count them all.
  for (int64_t i = thread_number(); i < g.N * g.B * g.M * g.D; i += thread_count()) {
    const int64_t d = i % g.D, m = i / g.D % g.M, b = i / g.D / g.M % g.B;
    const Row row = find_row(g, in, i / g.D / g.M / g.B);
    if (row.l == g.L) return;
    const int H = in.height(row.l), W = in.width(row.l);
    const int64_t first = in.start(row.l) + int64_t(row.y) * W;
    for (int64_t q = 0; q < g.Q; ++q) {
      const int64_t head = (b * g.Q + q) * g.M + m;
      for (int p = 0; p < g.P; ++p) {
        const int64_t s = (head * g.L + row.l) * g.P + p;
        const Cell<A> cell = in.template cell<A>(s, H, W);
        const int corner_row = row.y - cell.top;
        if (!cell.inside || corner_row < 0 || corner_row > 1) continue;
        const A share = A(widen(load(in.attention_weights, s))) * A(widen(load(grad_output, head * g.D + d)));
        for (int j = 0; j < 2; ++j)
          if (cell.has(corner_row, j, H, W)) {
            const int64_t at = ((b * g.N + first + cell.left + j) * g.M + m) * g.D + d;
            store(grad_value, at, load_own(grad_value, at) + share * cell.weight(corner_row, j));
          }
      }
    }
  }
}

}  // namespace dyhead::ms_deform_attn
