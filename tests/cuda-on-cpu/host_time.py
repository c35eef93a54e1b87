"""The host's part of a training step on CUDA, without a card: kernels are neither compiled nor run, so a step takes as long
as batches, CubeCL and a driver that does nothing take.

    tests/cuda-on-cpu/run.sh --run python3 tests/cuda-on-cpu/host_time.py BACKENDS [WORKLOAD...]

BACKENDS is the release binary of `cargo bench --no-run --features cuda --bench backends`. Prints milliseconds of each
thread's own time a step (three rounds of two seconds, medians): the thread that trains, CubeCL's thread of the device, and
all others (the loader's). The slower of the first two bounds what any card can reach; a real driver adds some 2 us a launch.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

BACKENDS, ONLY = sys.argv[1], sys.argv[2:]
ENV = {**os.environ, "FAKE_CUDA_KERNELS": "skip"}
NAMES = {True: "training", False: "device"}


def thread_times(process):
    """Seconds of processor time by (thread id, name)."""
    found = {}
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            nanoseconds = int((task / "schedstat").read_text().split()[0])
            found[(int(task.name), (task / "comm").read_text().strip())] = nanoseconds / 1e9
        except FileNotFoundError:
            pass
    return found


def measure(workload, batch):
    command = [BACKENDS, "--workload", workload, "--mode", "train", "--device", "cuda", "--batch", str(batch), "--worker"]
    process = subprocess.Popen(command, env=ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    rounds = []
    for _ in range(3):
        before = thread_times(process)
        process.stdin.write("2\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        after = thread_times(process)
        # The worker steps 20 times before it starts the clock.
        steps = answer["samples_per_s"] * 2 / batch + 20
        own = {}
        for (thread, name), seconds in after.items():
            seconds -= before.get((thread, name), 0.0)
            kind = "training" if thread == process.pid else "device" if "ubecl" in name.lower() or "device" in name.lower() else "others"
            own[kind] = own.get(kind, 0.0) + seconds / steps * 1e3
            if "--threads" in ONLY and seconds > 0.01:
                print("   ", thread, name, f"{seconds / steps * 1e3:.3f}")
        rounds.append((own, answer["step_ms"]["median"], answer.get("waited")))
    process.stdin.close()
    process.wait()
    middle = lambda values: statistics.median(values)
    kinds = {kind: middle([own.get(kind, 0.0) for own, *_ in rounds]) for kind in ("training", "device", "others")}
    step = middle([step for _, step, _ in rounds])
    print(
        f"{workload:<9} {batch:>6}  training {kinds['training']:.3f}  device {kinds['device']:.3f}"
        f"  others {kinds['others']:.3f}  step {step:.3f} ms  at most {batch / max(kinds['training'], kinds['device']) / 1e3:.1f} M/s",
        flush=True,
    )


for workload in ("notebook", "aliccp", "bigtable"):
    if workload in ONLY or not [name for name in ONLY if not name.startswith("-")]:
        for batch in (4096, 16384, 65536):
            measure(workload, batch)
