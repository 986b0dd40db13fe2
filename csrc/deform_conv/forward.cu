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

constexpr int64_t kManyPixels = 16384;  // enough for 128 large tiles: one for every multiprocessor of a big GPU

int forward_parts(const Geometry& g) {
  constexpr int64_t kBlocksAtOnce = 2;  // of small tiles, on a multiprocessor
  const dim3 grid = by_pixels<64>(g, nullptr).blocks;
  const int64_t blocks = grid.x * int64_t(grid.y), taps = g.G * int64_t(g.K());
  if (all_pixels(g) >= kManyPixels || blocks == 0 || blocks >= multiprocessors()) return 1;
  const int64_t of_part = (taps * blocks - 1) / (kBlocksAtOnce * multiprocessors()) + 1;
  return int((taps + of_part - 1) / of_part);  // no more parts than shorten the longest
}

void forward_fast(const Geometry& g, Type type, bool tf32, const Arguments& arguments, Buffer parts, Buffer output,
                  void* stream) {
  with_factors(type, tf32, [&](auto tag, auto factors) {
    using T = typename decltype(tag)::type;
    using Factors = typename decltype(factors)::type;
    const Inputs<T> in(arguments);
    const auto out = global<T>(output);
    Launch at = by_pixels<64>(g, stream);
    if (all_pixels(g) >= kManyPixels)
      return launch(by_pixels<128>(g, stream), KERNEL(implicit_product<T, Factors, 128>), g, in, out);
    if (forward_parts(g) == 1) return launch(at, KERNEL(implicit_product<T, Factors, 64>), g, in, out);
    at.blocks.z = unsigned(forward_parts(g));
    launch(at, KERNEL(product_of_some_taps<T, Factors, 64>), g, in, global<float>(parts));
    launch(over(all_pixels(g) * g.Co, stream), KERNEL(add_forward_parts<T>), g, int(at.blocks.z),
           global<const float>(parts), out);
  });
}

bool is_fast(const Geometry& g, Type type) {
  if (type == Type::float64 || g.groups != 1 || !has_tensor_cores(type)) return false;
  const int64_t step = type == Type::float32 ? kStep<float> : kStep<float16>;
  const bool whole_steps = g.offset_group_channels() > 0 && g.offset_group_channels() % step == 0 && g.K() > 0;
  const bool whole_packs = g.Co % 8 == 0 && g.Co > 0;
  const int64_t largest = std::max({g.B * g.S() * g.C, g.Co * g.K() * g.C, all_pixels(g) + 128});
  return whole_steps && whole_packs && largest <= INT32_MAX;
}

}  // namespace dyhead::deform_conv
