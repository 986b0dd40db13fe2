#!/bin/bash
# The first quarter of an hour of the kernels on a GPU: from what would spoil everything to what takes long.
#
#     bash scripts/first_gpu_run.sh [FOLDER]      results go to FOLDER, gpu_results unless given
#     DRY_RUN=1 bash scripts/first_gpu_run.sh     only says what it would run
#
# PYTHON names the environment's Python (.venv/bin/python where there is one). Each step has a limit in seconds; a step
# that fails or takes too long does not stop the next. It ends with 1 if one of them failed.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
results=${1:-gpu_results}
python=${PYTHON:-python3}
[ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && python=.venv/bin/python
tests=("$python" -m pytest -q -p no:cacheprovider)
LIMIT=870 # all steps together
failed=0

step() { # NAME SECONDS COMMAND...
    local name=$1 seconds=$2
    shift 2
    local left=$((LIMIT - SECONDS))
    [ "$seconds" -gt "$left" ] && seconds=$left
    echo "### $name, at $SECONDS s, for $seconds s at most: $*"
    [ -n "${DRY_RUN:-}" ] && return
    [ "$seconds" -le 0 ] && { echo "### $name: no time left" && failed=1 && return; }
    timeout "$seconds" "$@" >"$results/$name.log" 2>&1
    local code=$?
    tail -n 12 "$results/$name.log"
    echo "### $name: $([ $code = 0 ] && echo done || echo "FAILED with $code"), at $SECONDS s"
    [ $code = 0 ] || failed=1
}

export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" DYHEAD_CUDA=1
if [ -z "${DRY_RUN:-}" ]; then
    mkdir -p "$results" || exit 1
    nvidia-smi >"$results/machine.log" || exit 1
    # Code for this GPU alone: a minute instead of ten.
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1)
    export DYHEAD_CUDA_ARCHS=${DYHEAD_CUDA_ARCHS:-${capability//./}}
fi

step build 200 "$python" csrc/build.py
# Does it load, and does an empty kernel run?
step doctor 60 "$python" -m dyhead_lab.cli doctor
# The emulator's cases, now by the GPU's library; every kernel is launched once; the weight's gradient in parts.
step cases 150 "${tests[@]}" -k cuda tests/ops/test_native_kernels.py tests/ops/test_launches.py
# Numbers at full size, runs on two streams, 2^31 elements, CUDA graphs.
step full_size 120 "${tests[@]}" -m gpu tests/ops/test_full_size.py tests/ops/test_capture.py
step backends 90 "${tests[@]}" -k cuda tests/ops/test_backends.py tests/ops/test_registration.py tests/ops/test_copies.py
# Races in shared memory, where the machine lets the tool work.
step races 60 compute-sanitizer --tool racecheck --error-exitcode 1 "${tests[@]}" -k "cuda and fast and (3x3 or decoder)" \
    tests/ops/test_native_kernels.py
step bench_ops 240 "$python" -m dyhead_lab.cli bench ops --out "$results/bench_ops.json"
step bench_dyhead 120 "$python" -m dyhead_lab.cli bench dyhead --out "$results/bench_dyhead.json"
exit $failed
