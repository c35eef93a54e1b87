#!/bin/sh
# Runs tests of the feature `cuda` without a card: see README.md. Arguments are those of `cargo test`, or after `--run` a
# program with its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
FAKE_CUDA=${CARGO_TARGET_DIR:-$here/../../target}/cuda-on-cpu
mkdir -p "$FAKE_CUDA/lib"
FAKE_CUDA=$(cd "$FAKE_CUDA" && pwd)
# What was compiled with other headers is compiled anew.
version=$(cat "$here/nvrtc.cpp" "$here"/include/*.h "$here"/include/crt/* | cksum)
[ "$(cat "$FAKE_CUDA/version" 2>/dev/null)" = "$version" ] || rm -rf "$FAKE_CUDA/kernels"
echo "$version" >"$FAKE_CUDA/version"
rm -rf "$FAKE_CUDA/include"
cp -r "$here/include" "$FAKE_CUDA"
g++ -O2 -shared -fPIC "$here/cuda.cpp" -o "$FAKE_CUDA/lib/libcuda.so.1" -ldl
g++ -O2 -shared -fPIC "$here/nvrtc.cpp" -o "$FAKE_CUDA/lib/libnvrtc.so.12"
ln -sf libcuda.so.1 "$FAKE_CUDA/lib/libcuda.so"
ln -sf libnvrtc.so.12 "$FAKE_CUDA/lib/libnvrtc.so"
environment="FAKE_CUDA=$FAKE_CUDA CUDA_PATH=$FAKE_CUDA LD_LIBRARY_PATH=$FAKE_CUDA/lib ESMM_KERNEL_CACHE=off"
if [ "${1:-}" = --run ]; then
    shift
    # shellcheck disable=SC2086 # several words
    exec env $environment "$@"
fi
# For the tests alone: crates that look for CUDA as they are compiled would be compiled anew, and Burn with them.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env $environment"
[ $# -gt 0 ] || set -- --test suite cuda::
cd "$here/../.."
# The whole workspace, whatever is tested: with other packages the same crates would be compiled anew.
exec cargo test --workspace --features flex,wgpu,cuda "$@"
