// Launches the forward kernels.
#include "common/launch.cuh"
#include "deform_conv/simple.cuh"

namespace dyhead::deform_conv {

bool is_fast(const Geometry&, Type) { return false; }

void forward(const Geometry& g, Type type, const Arguments& arguments, Buffer output, void* stream) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(over(g.B * g.Co * g.So(), stream), forward_simple<T>, g, Inputs<T>(arguments), global<T>(output));
  });
}

}  // namespace dyhead::deform_conv
