"""The host's part of a training step on CUDA, without a card: kernels are neither compiled nor run (FAKE_CUDA_KERNELS=skip),
so what is left is batches, Burn, CubeCL and a driver that does nothing.

    tests/cuda-on-cpu/run.sh --run python3 tests/cuda-on-cpu/host_time.py BACKENDS [WORKLOAD...]

BACKENDS is the release binary of `cargo bench --no-run --features cuda --bench backends`; `perf` must be there. Prints how
long a step keeps the thread that trains, CubeCL's thread of the device, and the loader's threads: samples of `perf`, without
those in which a thread waits for another by spinning or sleeping (and without what little the functions do besides into
which the compiler put the waiting). The first two overlap, so the slower one bounds what a card can reach. A real driver
adds some 2 us a launch to the second.
"""

import json
import os
import subprocess
import sys
import tempfile

BACKENDS, WORKLOADS = sys.argv[1], sys.argv[2:] or ["notebook", "aliccp", "bigtable"]
BATCHES = [4096, 16384, 65536]
SECONDS, HERTZ = 4, 5000
# Where CubeCL's threads wait for each other.
WAITING = ("submit_inner", "ComputeClient<R>::do_empty", "ComputeClient<R>::launch_inner", "Server::start")
WAITING += ("ComputeClient<R>::do_create", "nanosleep", "schedule", "hrtimer", "sched_yield", "finish_task_switch")


def measure(workload, batch):
    command = [BACKENDS, "--workload", workload, "--mode", "train", "--device", "cuda", "--batch", str(batch), "--worker"]
    env = {**os.environ, "FAKE_CUDA_KERNELS": "skip"}
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    with tempfile.NamedTemporaryFile() as recorded:
        perf = ["perf", "record", "-q", "-F", str(HERTZ), "-o", recorded.name, "-p", str(process.pid)]
        perf = subprocess.Popen(perf, stderr=subprocess.DEVNULL)
        process.stdin.write(f"{SECONDS}\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        perf.terminate()
        perf.wait()
        process.stdin.close()
        process.wait()
        listed = ["perf", "script", "-i", recorded.name, "-F", "comm,tid,ip,sym"]
        samples = subprocess.run(listed, capture_output=True, text=True).stdout.splitlines()
    # The worker does 20 steps before it starts the clock.
    steps = answer["samples_per_s"] * SECONDS / batch + 20
    milliseconds = {"training": 0.0, "device": 0.0, "loader": 0.0}
    for sample in samples:
        name, thread, _, symbol = (*sample.split(maxsplit=3), "")[:4]
        if any(word in symbol for word in WAITING):
            continue
        kind = "training" if int(thread) == process.pid else "device" if name.startswith("DS") else "loader"
        milliseconds[kind] += 1e3 / HERTZ / steps
    slowest = max(milliseconds["training"], milliseconds["device"])
    if not slowest:
        print(f"{workload:<9} {batch:>6}  perf recorded nothing", flush=True)
        return
    own = "  ".join(f"{kind} {time:.3f}" for kind, time in milliseconds.items())
    print(f"{workload:<9} {batch:>6}  {own} ms  at most {batch / slowest / 1e3:.1f} M/s", flush=True)


for workload in WORKLOADS:
    for batch in BATCHES:
        measure(workload, batch)
