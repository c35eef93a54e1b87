"""The checks and measurements of benches/gpu.sh: ours and PyTorch's fastest variant in turn, one JSON file at the end."""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKLOADS = ["aliccp", "bigtable", "notebook"]
BATCHES = [16384, 65536, 4096]

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("binaries", type=Path)
parser.add_argument("--out", type=Path, default=Path("."))
parser.add_argument("--minutes", type=float, default=4.0)
parser.add_argument("--plan", default="checks,train,infer,command")
parser.add_argument("--workloads", default=",".join(WORKLOADS))
parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
parser.add_argument("--precisions", default="bf16,tf32", help="beside f32, at the larger batches")
parser.add_argument("--seconds", type=float, default=0.6)
args = parser.parse_args()
START, PLAN = time.monotonic(), args.plan.split(",")
RESULT = {"card": None, "checks": {}, "ours": [], "torch": [], "ratios": [], "command": {}, "left_out": []}


def left():
    """Seconds left of `--minutes`."""
    return args.minutes * 60 - (time.monotonic() - START)


def save():
    (args.out / "gpu.json").write_text(json.dumps(RESULT, indent=1))


def say(*words):
    print(f"[{time.monotonic() - START:6.1f} s]", *words, flush=True)


def environment():
    """Where CUDA's compiler library and headers are: the toolkit, or what PyTorch brought."""
    env = dict(os.environ)
    roots = [Path(env["CUDA_PATH"])] if "CUDA_PATH" in env else []
    roots += [Path("/usr/local/cuda"), Path("/opt/cuda"), *sorted(Path("/usr/local").glob("cuda-*"))]
    root = next((root for root in roots if (root / "include/cuda_runtime.h").exists()), None)
    libraries = [path for root in roots for path in (root / "lib64", root / "targets/x86_64-linux/lib")]
    for site in map(Path, sys.path):
        wheels = site / "nvidia"
        if wheels.is_dir():
            libraries += [path.parent for path in wheels.glob("**/libnvrtc.so*")]
            headers = [path.parents[1] for path in wheels.glob("**/include/cuda_runtime.h")]
            root = root or next(iter(headers), None)
    if root:
        env["CUDA_PATH"] = str(root)
    found = [str(path) for path in libraries if any(path.glob("libnvrtc.so*"))]
    env["LD_LIBRARY_PATH"] = ":".join([*found, env.get("LD_LIBRARY_PATH", "")])
    RESULT["toolkit"] = {"CUDA_PATH": env.get("CUDA_PATH"), "libraries": found}
    return env


ENV = environment()


def lines_of(command, limit, **more):
    """The JSON objects that a command prints; what it says besides goes to the log."""
    found, env = [], {**ENV, **more}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    timer = threading.Timer(limit, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if line.startswith("{"):
                found.append(json.loads(line))
            elif line.strip() and "Warning" not in line:
                print("   ", line.rstrip()[:300], flush=True)
    finally:
        timer.cancel()
        process.wait()
    if process.returncode != 0:
        RESULT["left_out"].append({"command": [Path(command[0]).name, *command[1:]], "exit": process.returncode})
        say("exit", process.returncode, "of", Path(command[0]).name, *command[1:])
    return found


def backends(**options):
    """The command of the bench with these flags."""
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [str(args.binaries / "backends"), *flags, "--json"]


def listed(numbers):
    """Numbers as a flag takes them."""
    return ",".join(map(str, numbers))


def ours(workload, batches, precision="f32", mode="train", limit=60):
    """Our speed on the card at these batches; a list of lines."""
    what = {"workload": workload, "mode": mode, "precision": precision, "batch": listed(batches)}
    command = backends(**what, device="cuda", seconds=args.seconds)
    found = lines_of(command, min(limit, max(left(), 5)))
    for line in found:
        line |= {"precision": precision, "at": round(time.monotonic() - START, 1)}
        line["rate"] = round(line["batch"] / line["step_ms"]["median"] * 1e3)
        about = f"{line['rate'] / 1e6:.2f} M/s, loss {line.get('loss')}, waited {line.get('waited')}"
        say("ours ", workload, line["batch"], precision, mode, about)
    RESULT["ours"] += found
    save()
    return found


def threads():
    """The CPU backend at several numbers of threads: the same bits, more rows a second."""
    for count in (1, 2, 4, 8, 16):
        if count > (os.cpu_count() or 1) or left() < 10:
            continue
        command = backends(workload="aliccp", mode="train", device="ndarray", batch="2048,8192", seconds=1.0)
        for line in lines_of(command, 40, RAYON_NUM_THREADS=str(count)):
            line |= {"threads": count}
            RESULT.setdefault("threads", []).append(line)
            about = f"{line['samples_per_s']:.0f} rows/s, loss {line['loss']}"
            say("cpu  ", count, "threads, batch", line["batch"], about)
    save()


def launches(workload, batch):
    """Every launch of about two steps with its duration, by ncu: gpu_launches_WORKLOAD.csv, and sums by kernel."""
    profiler = "ncu --clock-control none --metrics gpu__time_duration.sum --csv --page raw"
    steps = "--launch-skip 2000 --launch-count 160"
    command = backends(workload=workload, mode="train", device="cuda", batch=batch, seconds=0.1)
    limit = max(min(left(), 60), 5)
    command = ["timeout", str(limit), *profiler.split(), *steps.split(), *command]
    run = subprocess.run(command, capture_output=True, text=True, env=ENV)
    rows = [row for row in csv.reader(run.stdout.splitlines()) if len(row) > 10]
    if len(rows) < 3:
        RESULT["left_out"].append(f"ncu {workload}: exit {run.returncode}: {run.stderr[-300:]}")
        return
    (args.out / f"gpu_launches_{workload}.csv").write_text("\n".join(map(",".join, rows)))
    name, time_at = rows[0].index("Kernel Name"), rows[0].index("gpu__time_duration.sum")
    sums = {}
    for row in rows[2:]:
        count, total = sums.get(row[name][:80], (0, 0.0))
        sums[row[name][:80]] = (count + 1, total + float(row[time_at].replace(",", "")))
    RESULT.setdefault("launches", {})[workload] = {"batch": batch, "unit": rows[1][time_at], "kernels": sums}
    for kernel, (count, total) in sorted(sums.items(), key=lambda item: -item[1][1])[:12]:
        say("     ", workload, f"{total:10.1f} {rows[1][time_at]} in {count:3} launches", kernel)
    save()


def torch_side(plan, limit=90):
    """PyTorch's speed on the card for a plan of `torch_gpu.py`; a list of lines."""
    command = [sys.executable, str(HERE / "torch_gpu.py"), "--plan", ",".join(plan), "--seconds", str(args.seconds)]
    found = lines_of(command, min(limit, max(left(), 5)))
    for line in found:
        about = f"{line['variant']} {line.get('samples_per_s', 0) / 1e6:.2f} M/s {line.get('error', '')}"
        say("torch", *case(line), about)
    RESULT["torch"] += found
    save()
    return found


CASE = ("workload", "batch", "precision", "mode")
"""What a line of either side measured."""


def case(line):
    return tuple(line[name] for name in CASE)


def ratios():
    """Ours over PyTorch's fastest, for each case that both sides have; ours is the median of its rounds."""
    best = {}
    for line in RESULT["torch"]:
        key = case(line)
        if line.get("samples_per_s", 0) > best.get(key, {}).get("samples_per_s", 0):
            best[key] = line
    for key, other in best.items():
        rates = [line["rate"] for line in RESULT["ours"] if case(line) == key]
        if not rates:
            continue
        rate = statistics.median(rates)
        ratio = round(rate / other["samples_per_s"], 2)
        theirs = {"torch": other["samples_per_s"], "torch_variant": other["variant"]}
        named = dict(zip(CASE, key, strict=True))
        RESULT["ratios"].append(named | {"ours": rate, "rounds": rates} | theirs | {"ratio": ratio})
        say("ratio", *key, ratio)


def checks():
    """The kernel tests on the card, without those that read files of the repository: exit code and the last lines."""
    command = [str(args.binaries / "kernels"), "cuda::", "--skip", "golden", "--test-threads", "4"]
    limit = max(min(left() / 3, 120), 30)
    run = subprocess.run(["timeout", str(limit), *command], capture_output=True, text=True, env=ENV)
    said = [line[:400] for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    tail = [line for line in said if line.startswith("test ") or "panicked" in line or "found" in line][-60:]
    RESULT["checks"] = {"exit": run.returncode, "tail": tail}
    print("\n".join("    " + line for line in tail), flush=True)
    words = {0: "passed", 124: f"did not end within {limit:.0f} s"}
    say("kernel tests:", words.get(run.returncode, f"FAILED ({run.returncode})"))
    save()


def command():
    """The command on its built-in data: rows a second of each epoch, in a folder of its own."""
    folder = Path("/tmp/esmm-gpu-run")
    for name in ("first", "second"):
        started = time.monotonic()
        train = [str(args.binaries / "esmm"), "train", "--device", "cuda", "--run-dir", str(folder / name)]
        command = ["timeout", str(max(left(), 10)), *train, "--set", "train.batch_size=8192"]
        run = subprocess.run(command, capture_output=True, text=True, env=ENV)
        RESULT["command"][name] = {
            "exit": run.returncode,
            "seconds": round(time.monotonic() - started, 2),
            "stderr": run.stderr.splitlines()[-30:],
            "stdout": run.stdout.splitlines()[-15:],
        }
        say("esmm train,", name, "run:", RESULT["command"][name]["seconds"], "s, exit", run.returncode)
    save()


def main():
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        RESULT["card"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        say("nvidia-smi is not there: is this a machine with an NVIDIA driver?")
    RESULT["processors"] = os.cpu_count()
    say(RESULT["card"], os.cpu_count(), "processors", RESULT["toolkit"])
    workloads, batches = args.workloads.split(","), [int(batch) for batch in args.batches.split(",")]
    if "checks" in PLAN:
        checks()
    if "train" in PLAN:
        for workload in workloads:
            ours(workload, batches)
        for workload in workloads:
            if left() > 45:
                torch_side([f"{workload}:{batch}:f32:graph:train" for batch in batches])
                ours(workload, batches)
            else:
                RESULT["left_out"].append(f"torch {workload}: no time")
    if "infer" in PLAN:
        for workload in workloads:
            if left() > 25:
                ours(workload, batches[:2], mode="infer")
                torch_side([f"{workload}:{batch}:f32:graph:infer" for batch in batches[:2]])
    if "launches" in PLAN:
        for workload in workloads:
            if left() > 20:
                launches(workload, batches[0])
    if "threads" in PLAN:
        threads()
    if "command" in PLAN and left() > 20:
        command()
    if "precisions" in PLAN:
        for precision in args.precisions.split(","):
            for workload in workloads:
                if left() > 30:
                    ours(workload, batches[:2], precision)
                    torch_side([f"{workload}:{batch}:{precision}:graph:train" for batch in batches[:2]])
    ratios()
    save()
    say("done")


try:
    main()
finally:
    save()
