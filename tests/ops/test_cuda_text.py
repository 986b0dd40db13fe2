"""Kernels that come as text: what they compute in the emulator, what it counts, and what it refuses, at its line."""

from __future__ import annotations

import pytest
import torch

from dyhead_lab.errors import UserError
from dyhead_lab.ops.cuda_text import KernelError, cuda_kernel, emulated, nvrtc, why_no_emulator

pytestmark = pytest.mark.skipif(why_no_emulator() is not None, reason=str(why_no_emulator()))
needs_nvrtc = pytest.mark.skipif(nvrtc.why_missing() is not None, reason=str(nvrtc.why_missing()))

COPY = """
__global__ void copy(const float* x, float* out, int stride, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = x[i * stride];
}
"""


def fault(text: str, *launch: object, **options: object) -> KernelError:
    """What a kernel is refused for, when it is made or when it is launched."""
    with pytest.raises(KernelError) as caught:
        cuda_kernel(text)(*launch, **options)
    assert isinstance(caught.value, UserError)
    return caught.value


@pytest.fixture(scope="module")
def copy():
    return cuda_kernel(COPY)


def test_a_kernel_writes_into_its_tensors_and_leaves_constant_ones(copy):
    x, out = torch.arange(100.0), torch.full((100,), -1.0)
    launch = copy(4, 32, x, out, 1, 100)
    assert torch.equal(out, x) and torch.equal(x, torch.arange(100.0))
    assert (launch.kernel, launch.where, launch.blocks, launch.threads) == ("copy", "emulator", (4, 1, 1), (32, 1, 1))


@pytest.mark.parametrize(
    ("stride", "sectors"),
    [(1, 4), (2, 8), (8, 32), (100, 32)],
)
def test_a_warp_takes_as_many_sectors_as_its_lanes_touch(copy, stride, sectors):
    x, out = torch.zeros(3200), torch.zeros(32)
    launch = copy(1, 32, x, out, stride, 32)
    assert launch.requests("x") == launch.requests("out") == 1
    assert launch.sectors("x", "read") == sectors and launch.sectors("out", "write") == 4
    assert launch.bytes_moved("x") == 32 * sectors and launch.bytes_used("x") == 128
    [read] = [row for row in launch.traffic if row.memory == "x"]
    assert (read.line, read.operation, read.elements) == (3, "read", 32)


def test_lanes_that_read_the_same_element_share_a_sector(copy):
    launch = copy(1, 32, torch.zeros(1), torch.zeros(32), 0, 32)
    assert launch.sectors("x") == 1 and launch.bytes_used("x") == 128


def test_lanes_that_skip_an_instruction_do_not_shift_those_of_others():
    """Two reads in a line, the first by odd lanes alone: two requests, one of them half empty."""
    kernel = cuda_kernel("""
        __global__ void some(const float* x, float* out) {
          int t = threadIdx.x;
          out[t] = (t % 2 ? x[t] : 0) + x[64 + t];
        }""")
    launch = kernel(1, 32, torch.ones(96), torch.zeros(32))
    [read] = [row for row in launch.traffic if row.memory == "x"]
    assert (read.requests, read.elements, read.units) == (2, 48, 8)


def test_wide_words_and_doubles_are_counted_by_their_bytes():
    kernel = cuda_kernel("""
        __global__ void wide(const float* x, double* out) {
          float4 four = reinterpret_cast<const float4*>(x)[threadIdx.x];
          out[threadIdx.x] = four.x + four.w;
        }""")
    x, out = torch.arange(128.0), torch.zeros(32, dtype=torch.float64)
    launch = kernel(1, 32, x, out)
    assert torch.equal(out, (x[0::4] + x[3::4]).double())
    assert launch.sectors("x") == 16 and launch.sectors("out") == 8


@pytest.mark.parametrize(("row", "passes"), [(32, 32), (33, 1)])
def test_words_in_one_bank_of_shared_memory_wait_for_each_other(row, passes):
    kernel = cuda_kernel(f"""
        __global__ void column(float* out) {{
          __shared__ float tile[32][{row}];
          tile[threadIdx.x][5] = 1;
          __syncthreads();
          out[threadIdx.x] = tile[threadIdx.x][5];
        }}""")
    rows = [r for r in kernel(1, 32, torch.zeros(32)).traffic if r.is_shared]
    assert [row.units for row in rows] == [passes, passes]


def test_the_steps_of_a_thread_are_told_in_order_with_their_values():
    kernel = cuda_kernel("""
        __global__ void steps(const int* x, float* out, float* sum) {
          out[threadIdx.x] = x[threadIdx.x] + 0.5f;
          atomicAdd(sum, 2.0f);
        }""")
    x = torch.tensor([7, 8, 9], dtype=torch.int32)
    launch = kernel(1, 3, x, torch.zeros(3), torch.ones(1), watch=(0, range(1, 2)))
    told = [(s.thread, s.operation, s.buffer, s.index, s.value) for s in launch.steps]
    assert told == [(1, "read", "x", 1, 8), (1, "write", "out", 1, 8.5), (1, "atomic_add", "sum", 0, 2)]


def test_dynamic_shared_memory_shuffles_and_atomics_work_together():
    kernel = cuda_kernel("""
        __global__ void total(const float* x, float* sum, int n) {
          extern __shared__ float parts[];
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          float v = i < n ? x[i] : 0;
          for (int step = 16; step > 0; step /= 2) v += __shfl_down_sync(0xffffffff, v, step);
          if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
          __syncthreads();
          if (threadIdx.x == 0) atomicAdd(sum, parts[0] + parts[1]);
        }""")
    x, total = torch.rand(150), torch.zeros(1)
    kernel(3, 64, x, total, 150, shared_bytes=8)
    torch.testing.assert_close(total[0], x.sum(), rtol=1e-6, atol=0.0)  # float32 sums in another order


def test_what_a_kernel_prints_is_shown(capsys):
    cuda_kernel('__global__ void say(int n) { if (threadIdx.x == 2) printf("n is %d\\n", n); }')(1, 4, 9)
    assert capsys.readouterr().out == "n is 9\n"


# Faults


@pytest.mark.parametrize(("n", "index"), [(33, 32), (100000, 32)])
def test_who_leaves_a_tensor_is_named_with_line_thread_and_index(n, index):
    error = fault(COPY, -(-n // 64), 64, torch.zeros(32), torch.zeros(n), 1, n)
    assert (error.kind, error.line) == ("bounds", 3)
    assert f"thread {index} of block 0 touches x[{index}]" in str(error)
    assert "3 | if (i < n) out[i] = x[i * stride];" in str(error)


def test_an_index_below_zero_is_told_as_such():
    assert "touches x[-3]" in str(fault(COPY, 1, 32, torch.zeros(32), torch.zeros(32), -3, 32))


RACES = {
    "read before it is there": "t[i] = i; out[i] = t[31 - i];",
    "overwritten while others read": "t[i] = i; __syncthreads(); out[i] = t[31 - i]; t[i] = 0;",
    "two write one place": "t[i] = i; __syncthreads(); if (i > 29) t[0] = 5; __syncthreads(); out[i] = t[0];",
    "an addition without atomics": "out[0] += i;",
}


@pytest.mark.parametrize("body", RACES.values(), ids=RACES.keys())
def test_races_are_found_whichever_thread_was_first(body):
    error = fault(f"__global__ void race(float* out) {{ __shared__ float t[32]; int i = threadIdx.x;\n{body} }}",
                  1, 32, torch.zeros(32))  # fmt: skip
    assert (error.kind, error.line) == ("race", 2)
    assert "no __syncthreads() stands between" in str(error)


FREE = {
    "a barrier between": "t[i] = i; __syncthreads(); out[i] = t[31 - i]; __syncthreads(); t[i] = 0;",
    "a warp's own barrier between": "t[i] = i; __syncwarp(); out[i] = t[31 - i];",
    "each its own": "t[i] = i; out[i] = t[i] + 1; out[i] += 1;",
    "all read the same": "if (i == 0) t[0] = 1; __syncthreads(); out[i] = t[0];",
}


@pytest.mark.parametrize("body", FREE.values(), ids=FREE.keys())
def test_what_is_ordered_is_no_race(body):
    text = f"__global__ void fine(float* out) {{ __shared__ float t[32]; int i = threadIdx.x; {body} }}"
    cuda_kernel(text)(1, 32, torch.zeros(32))


def test_blocks_that_write_one_place_race():
    error = fault("__global__ void race(float* out) { out[threadIdx.x] = 1; }", 2, 32, torch.zeros(32))
    assert error.kind == "race" and "blocks do not wait for each other" in str(error)


def test_a_barrier_that_some_never_reach_is_refused():
    error = fault("__global__ void k(int n) { if (threadIdx.x >= n) return; __syncthreads(); }", 1, 8, 5)
    assert error.kind == "barrier" and "thread 5 of block 0" in str(error)


def test_shared_memory_that_nobody_wrote_is_told_from_a_race():
    error = fault("__global__ void k(float* out) {\n __shared__ float t[4];\n out[0] = t[3]; }", 1, 1, torch.zeros(1))
    assert (error.kind, error.line) == ("unwritten", 3) and "element 3 of t" in str(error)


def test_shared_memory_has_an_end_and_a_limit():
    out, small = torch.zeros(8), "__global__ void k(float* out) { __shared__ float t[4]; int i = threadIdx.x; %s }"
    small %= "t[i] = i; __syncthreads(); out[i] = t[7 - i];"
    assert fault(small, 1, 8, out).kind == "bounds"
    dynamic = small.replace("__shared__ float t[4]", "extern __shared__ float t[]")
    assert "is shared_bytes large enough" in str(fault(dynamic, 1, 8, out, shared_bytes=28))
    assert fault(small.replace("[4]", "[20000]"), 1, 8, out).kind == "shared limit"


def test_a_wide_word_at_an_odd_address_is_refused():
    text = "__global__ void k(float* x) { *reinterpret_cast<float4*>(x + 1) = make_float4(1, 2, 3, 4); }"
    assert fault(text, 1, 1, torch.zeros(8)).kind == "alignment"


def test_what_would_end_the_session_ends_a_process_of_its_own(monkeypatch):
    assert "by zero" in str(fault("__global__ void k(int* x, int n) { x[0] = x[0] % n; }", 1, 1,
                                  torch.ones(1, dtype=torch.int32), 0))  # fmt: skip
    monkeypatch.setattr(emulated, "SECONDS", 2)
    assert fault("__global__ void k(int* x) { while (x[0] == 0) x[1] = 1; }", 1, 1,
                 torch.zeros(2, dtype=torch.int32)).kind == "time"  # fmt: skip


# Texts and arguments


@pytest.mark.parametrize(
    ("text", "kind", "line", "said"),
    [
        ("__global__ void k(float* x) {\n  x[0] = 1\n}", "compile", 2, "expected ';'"),
        ("__global__ void k(float* x) {\n\n  x[0] = y;\n}", "compile", 3, "'y' was not declared"),
        ("__device__ float f(float);\n__global__ void k(float* x) {\n  x[0] = f(1);\n}", "compile", 3, "undefined"),
        ("void k(float* x) {}", "text", None, "no kernel"),
        ("__global__ void a() {}\n__global__ void b() {}", "text", None, "2 kernels (a, b)"),
        ("// hm\n__global__ void k(std::string x) {}", "text", 2, "std::string x"),
    ],
)
def test_a_wrong_text_is_told_at_its_line(text, kind, line, said):
    error = fault(text)
    assert (error.kind, error.line) == (kind, line) and said in str(error)
    assert len(str(error).splitlines()) <= 6


def test_one_of_several_kernels_is_chosen_by_name():
    kernel = cuda_kernel("__global__ void a(int n) {}\n__global__ void b(float x) {}", name="b")
    assert repr(kernel) == "b(float x)"


def test_a_text_that_says_error_is_unfinished_until_it_is_launched():
    kernel = cuda_kernel('__global__ void k() {\n  #error "add them"\n}')
    assert kernel.unfinished == "add them"
    with pytest.raises(KernelError, match="not finished: add them"):
        kernel(1, 1)


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ((1, 32, torch.zeros(4), torch.zeros(4), 1), "takes 4 arguments, got 3"),
        ((1, 32, torch.zeros(4), torch.zeros(4), 1, 2.5), "n: got 2.5, expected a whole number"),
        ((1, 32, torch.zeros(4), torch.zeros(4), 1, 2**40), "does not fit int"),
        ((1, 32, torch.zeros(4).double(), torch.zeros(4), 1, 4), "x: got torch.float64, expected torch.float32"),
        ((1, 32, torch.zeros(4, 4).T, torch.zeros(4), 1, 4), "x: (4, 4) is not contiguous"),
        ((1, 32, torch.zeros(4, requires_grad=True), torch.zeros(4), 1, 4), "x requires a gradient"),
        ((1, 32, [0.0], torch.zeros(4), 1, 4), "x: got a list, expected a tensor"),
        ((1, 32, torch.zeros(4), torch.zeros(4), torch.zeros(1), 4), "stride: got a tensor"),
        ((0, 32, torch.zeros(4), torch.zeros(4), 1, 4), "blocks: got 0"),
        ((1, (64, 32), torch.zeros(4), torch.zeros(4), 1, 4), "at most 1024, got 2048"),
        ((1, 1.5, torch.zeros(4), torch.zeros(4), 1, 4), "threads: got 1.5"),
    ],
)
def test_arguments_that_do_not_fit_are_named(copy, launch, said):
    with pytest.raises(KernelError) as caught:
        copy(*launch)
    assert caught.value.kind == "arguments" and said in str(caught.value)


@needs_nvrtc
def test_nvidias_compiler_takes_the_same_text_and_tells_the_same_line(copy):
    assert ".visible .entry _Z4copy" in copy.ptx()
    with pytest.raises(KernelError) as caught:
        nvrtc.compiled(copy.text.replace("x[i * stride]", "y[i]"), copy.signature, "compute_80")
    assert (caught.value.kind, caught.value.line) == ("compile", 3) and '"y" is undefined' in str(caught.value)
