// Registers the operators with torch: their schemas with the CPU library, their kernels with each.
//
// The debug build of the emulator has a namespace of its own, so that both builds can live in one process. With
// DYHEAD_EMULATOR=debug it takes the place of the release build as well.
#include "binding/operators.h"

namespace dyhead {

using Library = torch::stable::detail::StableLibrary;

#ifndef DYHEAD_CUDA
static void define_operators(Library& library) {
  library.def(
      "deform_conv2d_is_fast(Tensor input, Tensor offset, Tensor weight, Tensor? mask, int stride_h, int stride_w, "
      "int pad_h, int pad_w, int dil_h, int dil_w, int groups, int offset_groups) -> bool");
  library.def(
      "deform_conv2d_forward(Tensor input, Tensor offset, Tensor weight, Tensor? mask, int stride_h, int "
      "stride_w, "
      "int pad_h, int pad_w, int dil_h, int dil_w, int groups, int offset_groups, str kernel='auto', "
      "bool tf32=False) -> Tensor");
  library.def(
      "deform_conv2d_backward(Tensor grad, Tensor input, Tensor offset, Tensor weight, Tensor? mask, int "
      "stride_h, "
      "int stride_w, int pad_h, int pad_w, int dil_h, int dil_w, int groups, int offset_groups, bool "
      "deterministic, str kernel='auto', bool tf32=False) -> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "ms_deform_attn_forward(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights, str kernel='auto') -> Tensor");
  library.def(
      "ms_deform_attn_backward(Tensor grad, Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights, bool deterministic, str kernel='auto') "
      "-> (Tensor, Tensor, Tensor)");
  library.def("l2_read(Tensor memory, int repeats) -> Tensor");
  library.def("l2_add(Tensor memory, int repeats) -> Tensor");
}
#endif

static void implement_operators(Library& library) {
  library.impl("deform_conv2d_is_fast", TORCH_BOX(&deform_conv2d_is_fast));
  library.impl("deform_conv2d_forward", TORCH_BOX(&deform_conv2d_forward));
  library.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
  library.impl("ms_deform_attn_forward", TORCH_BOX(&ms_deform_attn_forward));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward));
  library.impl("l2_read", TORCH_BOX(&l2_read));
  library.impl("l2_add", TORCH_BOX(&l2_add));
}

}  // namespace dyhead

#if defined(DYHEAD_CUDA)
STABLE_TORCH_LIBRARY_IMPL(dyhead_native, CUDA, library) { dyhead::implement_operators(library); }
#elif defined(DYHEAD_EMULATOR_CHECK)
#include <cstdlib>
#include <cstring>
static bool replaces_release() {
  const char* build = std::getenv("DYHEAD_EMULATOR");
  return build && std::strcmp(build, "debug") == 0;
}
STABLE_TORCH_LIBRARY(dyhead_native_debug, library) { dyhead::define_operators(library); }
STABLE_TORCH_LIBRARY_IMPL(dyhead_native_debug, CPU, library) { dyhead::implement_operators(library); }
STABLE_TORCH_LIBRARY_FRAGMENT(dyhead_native, library) {
  if (replaces_release()) dyhead::define_operators(library);
}
STABLE_TORCH_LIBRARY_IMPL(dyhead_native, CPU, library) {
  if (replaces_release()) dyhead::implement_operators(library);
}
#else
STABLE_TORCH_LIBRARY(dyhead_native, library) { dyhead::define_operators(library); }
STABLE_TORCH_LIBRARY_IMPL(dyhead_native, CPU, library) { dyhead::implement_operators(library); }
#endif
