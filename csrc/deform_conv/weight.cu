// Launches the backward kernels for the weight.
#include "common/launch.cuh"
#include "deform_conv/fast_weight.cuh"
#include "deform_conv/simple.cuh"

namespace dyhead::deform_conv {

void backward_weight(const Geometry& g, Type type, const Arguments& arguments, Buffer grad_output, Buffer grad_weight,
                     void* stream) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(over(g.Co * g.group_inputs() * g.K(), stream), KERNEL(backward_weight_simple<T>), g, Inputs<T>(arguments),
           global<const T>(grad_output), global<T>(grad_weight));
  });
}

int weight_parts(const Geometry& g) {
  constexpr int64_t kLeastPixels = 256;  // for a part to be worth its launch
  // As many parts as run in one wave: with one more, the last blocks would run alone, as long as all before them.
  const int64_t wave = kWeightBlocksAtOnce * multiprocessors(),
                blocks = weight_blocks(g).x * int64_t(weight_blocks(g).y);
  return int(std::max<int64_t>(1, std::min(wave / blocks, all_pixels(g) / kLeastPixels)));
}

void backward_weight_fast(const Geometry& g, Type type, bool tf32, const Arguments& arguments, Buffer grad_output,
                          Buffer parts, Buffer grad_weight, void* stream) {
  dim3 blocks = weight_blocks(g);
  blocks.z = unsigned(weight_parts(g));
  with_factors(type, tf32, [&](auto tag, auto factors) {
    using T = typename decltype(tag)::type;
    const Launch at{blocks, dim3(kWeightThreads), stream, WeightShared<T>::kBytes};
    launch(at, KERNEL(weight_parts_fast<T, typename decltype(factors)::type>), g, Inputs<T>(arguments),
           global<const T>(grad_output), global<float>(parts));
    launch(over(g.Co * g.C * g.K(), stream), KERNEL(add_weight_parts<T>), g, int(blocks.z), global<const float>(parts),
           global<T>(grad_weight));
  });
}

}  // namespace dyhead::deform_conv
