#!/usr/bin/env bash
# The tables of docs/src/performance.md. Run it on a machine that does nothing else.
#
#     benches/tables.sh [PYTHON]
#
# PYTHON has PyTorch (benches/peers/requirements.txt); without it the comparison is left out. Builds first.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=(--bench backends --bench scaling --bench groups)
cargo bench --workspace --features flex --no-run "${targets[@]}" >&2
bench() { cargo bench -q --workspace --features flex --bench "$@"; }
binary=$(cargo bench --workspace --features flex --no-run --message-format=json "${targets[@]}" 2>/dev/null |
    grep -o '"executable":"[^"]*/backends-[^"]*"' | cut -d'"' -f4)

if [ $# -gt 0 ]; then
    # Without the variants that were never the fastest (dense-adam) and those that are no peers (bfloat16).
    "$1" benches/peers/compare.py --markdown --binary "$binary" --rounds 5 --seconds 1.2 \
        --variants sparse-adam,row-adam,row-adam-wide,row-adam-compiled,eager,compiled
else
    bench backends -- --seconds 2
fi
echo
bench scaling -- --seconds 2 --rounds 3
echo
bench groups -- --seconds 2 --rounds 3
