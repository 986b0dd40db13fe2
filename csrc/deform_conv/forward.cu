// Launches the forward kernels.
#include "common/launch.cuh"
#include "deform_conv/fast_forward.cuh"
#include "deform_conv/simple.cuh"

namespace dyhead::deform_conv {

void forward(const Geometry& g, Type type, const Arguments& arguments, Buffer output, void* stream) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(over(g.B * g.Co * g.So(), stream), KERNEL(forward_simple<T>), g, Inputs<T>(arguments), global<T>(output));
  });
}

void forward_fast(const Geometry& g, Type type, bool tf32, const Arguments& arguments, Buffer output, void* stream) {
  constexpr int64_t kManyPixels = 16384;  // enough for 128 large tiles: one for every multiprocessor of a big GPU
  with_factors(type, tf32, [&](auto tag, auto factors) {
    using T = typename decltype(tag)::type;
    using Factors = typename decltype(factors)::type;
    const Inputs<T> in(arguments);
    if (all_pixels(g) >= kManyPixels)
      launch(by_pixels<128>(g, stream), KERNEL(implicit_product<T, Factors, 128>), g, in, global<T>(output));
    else
      launch(by_pixels<64>(g, stream), KERNEL(implicit_product<T, Factors, 64>), g, in, global<T>(output));
  });
}

bool is_fast(const Geometry& g, Type type) {
  if (type == Type::float64 || g.groups != 1 || !has_tensor_cores()) return false;
  const int64_t step = type == Type::float32 ? kStep<float> : kStep<float16>;
  const bool whole_steps = g.offset_group_channels() > 0 && g.offset_group_channels() % step == 0 && g.K() > 0;
  const bool whole_packs = g.Co % 8 == 0 && g.Co > 0;
  const int64_t largest = std::max({g.B * g.S() * g.C, g.Co * g.K() * g.C, all_pixels(g) + 128});
  return whole_steps && whole_packs && largest <= INT32_MAX;
}

}  // namespace dyhead::deform_conv
