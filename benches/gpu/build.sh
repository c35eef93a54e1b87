#!/usr/bin/env bash
# Builds for CUDA what benches/gpu.sh runs, strips and compresses it into a folder: benches/gpu/build.sh FOLDER
set -euo pipefail
out=$(mkdir -p "${1:?usage: benches/gpu/build.sh FOLDER}" && cd "$1" && pwd)
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
cargo build --release --workspace --features flex,cuda --bin esmm
cp "$target/release/esmm" "$out/esmm"
for name in backends anatomy; do
    binary=$(cargo bench --no-run --workspace --features flex,cuda --bench "$name" --message-format json \
        | python3 -c 'import json, sys
for line in sys.stdin:
    line = json.loads(line)
    if line.get("executable") and line["target"]["name"] == sys.argv[1]: print(line["executable"])' "$name")
    cp "$binary" "$out/$name"
done
binary=$(cargo test --release --no-run --workspace --features flex,cuda --test suite --message-format json \
    | python3 -c 'import json, sys
for line in sys.stdin:
    line = json.loads(line)
    if line.get("executable") and line["target"]["name"] == "suite": print(line["executable"])')
cp "$binary" "$out/kernels"
for name in esmm backends anatomy kernels; do
    strip "$out/$name"
    xz --force --threads=0 -6 "$out/$name"
done
ls -l "$out"
