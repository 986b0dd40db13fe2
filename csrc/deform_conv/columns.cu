// Launches the kernels around a matrix product of torch's own.
#include "deform_conv/columns.cuh"

#include "common/launch.cuh"
#include "deform_conv/deterministic.cuh"
#include "deform_conv/simple.cuh"

namespace dyhead::deform_conv {

void sample_columns(const Geometry& g, Type type, const Arguments& arguments, Images images, Buffer columns,
                    void* stream) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(over(ColumnShare::count(g, images), stream), KERNEL(sample_into_columns<T>), g, Inputs<T>(arguments), images,
           global<T>(columns));
  });
}

void scatter_columns(const Geometry& g, Type type, const Arguments& arguments, Images images, Buffer grad_columns,
                     const Gradients& gradients, bool deterministic, void* stream) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = Accumulator<T>;
    const Inputs<T> in(arguments);
    const auto columns = global<const T>(grad_columns);
    if (deterministic)
      launch(over(images.count * g.C * g.H, stream), KERNEL(backward_input_deterministic<T, T>), g, in, images, columns,
             global<A>(gradients.input));
    else
      launch(over(ColumnShare::count(g, images), stream), KERNEL(scatter_from_columns<T>), g, in, images, columns,
             global<A>(gradients.input));
    launch(over(images.count * g.G * g.K() * g.So(), stream), KERNEL(backward_taps_simple<T, T>), g, in, images,
           columns, global<A>(gradients.offset), global<A>(gradients.mask));
  });
}

}  // namespace dyhead::deform_conv
