#!/usr/bin/env bash
# Checks, measures and compares on one CUDA card within 4 minutes, on a machine to which only binaries and this folder were
# carried: no cargo there, `python3` with torch for the other side. Leaves gpu.json and gpu.log in $OUT (or here).
#
#   benches/gpu.sh BINARIES [--minutes N] [--plan checks,train,launches,infer,threads,command,precisions]
#
# BINARIES is a folder with what `benches/gpu/build.sh BINARIES` put there: the benches, the kernel tests and the command,
# stripped, compressed with xz.
set -euo pipefail
folder=$(cd "$(dirname "$0")" && pwd)
binaries=$(cd "${1:?usage: benches/gpu.sh BINARIES [--minutes N] [--plan NAMES]}" && pwd)
shift
out=${OUT:-$PWD}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for packed in "$binaries"/*.xz; do
    name=$(basename "$packed" .xz)
    python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' \
        "$packed" "$work/$name" &
done
wait
chmod +x "$work"/*
export PYTHONUNBUFFERED=1
python3 "$folder/gpu/measure.py" "$work" --out "$out" "$@" 2>&1 | tee "$out/gpu.log"
