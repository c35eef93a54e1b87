#!/bin/sh
# Runs tests of the feature `cuda` without a card: see README.md. Arguments are those of `cargo test`, or after `--run` a
# program with its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
FAKE_CUDA=${CARGO_TARGET_DIR:-$here/../../target}/cuda-on-cpu
mkdir -p "$FAKE_CUDA/lib"
cp -r "$here/include" "$FAKE_CUDA"
g++ -O2 -shared -fPIC "$here/cuda.cpp" -o "$FAKE_CUDA/lib/libcuda.so.1" -ldl
g++ -O2 -shared -fPIC "$here/nvrtc.cpp" -o "$FAKE_CUDA/lib/libnvrtc.so.12"
ln -sf libcuda.so.1 "$FAKE_CUDA/lib/libcuda.so"
ln -sf libnvrtc.so.12 "$FAKE_CUDA/lib/libnvrtc.so"
export FAKE_CUDA CUDA_PATH="$FAKE_CUDA" LD_LIBRARY_PATH="$FAKE_CUDA/lib" ESMM_KERNEL_CACHE=off
if [ "${1:-}" = --run ]; then
    shift
    exec "$@"
fi
[ $# -gt 0 ] || set -- -p esmm-core --test suite cuda::
cd "$here/../.."
exec cargo test --features flex,wgpu,cuda "$@"
