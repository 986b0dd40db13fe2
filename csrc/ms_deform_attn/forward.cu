// Launches the forward kernels.
#include "common/launch.cuh"
#include "ms_deform_attn/fast.cuh"
#include "ms_deform_attn/simple.cuh"

namespace dyhead::ms_deform_attn {

template <class T, class U>
static void run_simple(const Geometry& g, const Arguments& arguments, Buffer output, void* stream) {
  launch(over(g.outputs(), stream), KERNEL(forward_simple<T, U>), g, Inputs<T, U>(arguments), global<T>(output));
}

template <class T, class U>
static void run_fast(const Geometry& g, const Arguments& arguments, Buffer output, void* stream) {
  launch(by_tiles<T>(g, stream), KERNEL(forward_fast<T, U>), g, Inputs<T, U>(arguments), global<T>(output));
}

void forward(const Geometry& g, Types types, const Arguments& arguments, Buffer output, bool fast, void* stream) {
  with_types(types, [&](auto value, auto location) {
    using T = typename decltype(value)::type;
    using U = typename decltype(location)::type;
    if constexpr (!std::is_same_v<T, double>)
      if (fast) return run_fast<T, U>(g, arguments, output, stream);
    run_simple<T, U>(g, arguments, output, stream);
  });
}

bool is_fast(const Geometry& g, Types types, const Arguments& arguments) {
  if (types.value == Type::float64) return false;
  const int64_t pack = types.value == Type::float32 ? 4 : 8, lanes = g.D / pack;
  const bool whole_packs = g.D % pack == 0 && lanes > 0 && lanes <= 32 && (lanes & (lanes - 1)) == 0;
  const bool fits_int = std::max(g.N * g.M * g.D, g.B * g.Q * g.M) <= INT32_MAX;
  return g.L * g.P > 0 && whole_packs && fits_int && is_aligned(arguments.value);
}

}  // namespace dyhead::ms_deform_attn
