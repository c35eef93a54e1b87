"""Compares the benchmark binary of this repository with PyTorch, in alternating rounds.

    python benches/peers/compare.py
    python benches/peers/compare.py --workload aliccp --mode train --rounds 9 --markdown --json rounds.json

For each workload and mode every contender is started as a worker and warmed up; then they take turns. README.md beside
this file says what is compared and how the ratio is computed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pytorch_esmm import VARIANTS, versions
from workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
BENCH_COMMAND = "cargo bench --bench backends --no-run --message-format=json --features".split()
BUSY_LIMIT = 0.1
"""Share of the processor that others may use before a warning."""

Line = dict[str, Any]
"""One JSON line of a worker."""


class CompareError(Exception):
    """Something that ends the comparison, told in one line."""


@dataclass
class Worker:
    """A contender that has been started and is waiting for its next round."""

    name: str
    is_ours: bool
    precision: str
    process: subprocess.Popen[str]
    errors: IO[str]


# Workers


def start_worker(name: str, command: list[str], threads: int, is_ours: bool = False, precision: str = "f32") -> Worker:
    """Starts a worker and waits until it is ready."""
    pools = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | {pool: str(threads) for pool in pools}
    errors = tempfile.TemporaryFile("w+")
    try:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    except OSError as error:
        raise CompareError(f"{name} does not start: {error}") from error
    worker = Worker(name, is_ours, precision, process, errors)
    try:
        if read_line(worker).get("ready") is not True:
            raise CompareError(f'{name}: the first line must say "ready": true')
    except BaseException:
        stop_worker(worker)
        raise
    return worker


def read_line(worker: Worker) -> Line:
    """The next JSON object that a worker prints."""
    assert worker.process.stdout is not None
    text = worker.process.stdout.readline()
    if not text:
        raise CompareError(f"{worker.name} ended with {worker.process.wait()}: {last_error(worker)}")
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        line = None
    if not isinstance(line, dict):
        raise CompareError(f"{worker.name}: expected a JSON object, found {text.strip()!r}")
    return line


def last_error(worker: Worker) -> str:
    """The last line that a worker wrote to stderr."""
    worker.errors.seek(0)
    lines = [line.strip() for line in worker.errors if line.strip()]
    return lines[-1] if lines else "nothing on stderr"


def run_round(worker: Worker, seconds: float) -> Line:
    """One round of one worker."""
    assert worker.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # reading tells why
        worker.process.stdin.write(f"{seconds}\n")
        worker.process.stdin.flush()
    line = read_line(worker)
    if "samples_per_s" not in line or "step_ms" not in line:
        raise CompareError(f"{worker.name}: a round needs samples_per_s and step_ms, found {line}")
    return line


def stop_worker(worker: Worker) -> None:
    """Closes a worker's input, which ends it."""
    assert worker.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        worker.process.stdin.close()
    try:
        worker.process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()
    worker.errors.close()


@contextlib.contextmanager
def all_workers(
    args: argparse.Namespace, binary: Path, workload: str, mode: str, batch: int | None
) -> Iterator[list[Worker]]:
    """Starts ours and theirs one after the other; a contender that cannot start is reported and left out."""
    workers: list[Worker] = []
    try:
        for options in contenders(args, binary, workload, mode, batch):
            note(f"{workload} {mode}: starting {options['name']}")
            try:
                workers.append(start_worker(threads=args.threads, **options))
            except CompareError as error:
                note(f"warning: left out: {error}")
        if not any(worker.is_ours for worker in workers):
            raise CompareError(f"{workload} {mode}: none of our devices started ({', '.join(args.ours_device)})")
        yield workers
    finally:
        for worker in workers:
            stop_worker(worker)


def contenders(
    args: argparse.Namespace, binary: Path, workload: str, mode: str, batch: int | None
) -> Iterator[dict[str, Any]]:
    """Name and command of each contender, ours first."""
    task = ["--workload", workload, "--mode", mode]
    if batch:
        task += ["--batch", str(batch)]
    for device in args.ours_device:
        for precision in dict.fromkeys(["f32", args.precision] if mode == "train" else ["f32"]):
            name = device if precision == "f32" else f"{device}-{precision}"
            command = [str(binary), "--worker", *task, "--device", device, "--precision", precision]
            yield {"name": name, "command": command, "is_ours": True, "precision": precision}
    for name, variant in VARIANTS[mode].items():
        if args.variants and name not in args.variants or variant.needs_cuda and not args.cuda:
            continue
        script = [sys.executable, str(HERE / "pytorch_esmm.py"), *task]
        device = ["--device", args.pytorch_device]
        command = [*script, "--variant", name, "--threads", str(args.threads), *device]
        yield {"name": f"pytorch-{name}", "command": command, "precision": variant.precision}


# Rounds


@dataclass
class Result:
    """All rounds of one workload and mode, by contender, in the order of the rounds."""

    workload: str
    mode: str
    batch: int | None
    """None: the workload's."""
    workers: list[Worker]
    rounds: dict[str, list[Line]]

    def speeds(self, name: str) -> list[float]:
        return [line["samples_per_s"] for line in self.rounds[name]]

    def speed(self, name: str) -> float:
        return statistics.median(self.speeds(name))


def compare(
    args: argparse.Namespace, binary: Path, workload: str, mode: str, batch: int | None
) -> Result:
    """Starts the workers and lets them take turns; who begins moves on by one each round."""
    with all_workers(args, binary, workload, mode, batch) as workers:
        warn_if_busy()
        rounds: dict[str, list[Line]] = {worker.name: [] for worker in workers}
        for number in range(args.rounds):
            note(f"{workload} {mode}: round {number + 1} of {args.rounds}")
            first = number % len(workers)
            for worker in workers[first:] + workers[:first]:
                rounds[worker.name].append(run_round(worker, args.seconds))
    return Result(workload, mode, batch, workers, rounds)


def fastest_peer(result: Result, precision: str) -> str | None:
    """The PyTorch variant with the highest median speed among those of a precision; against f16 among those of bf16."""
    theirs = "bf16" if precision == "f16" else precision
    peers = [worker.name for worker in result.workers if worker.precision == theirs and not worker.is_ours]
    return max(peers, key=result.speed, default=None)


def ratios(result: Result, ours: str, peer: str) -> list[float]:
    """Our speed over the peer's, in each round."""
    return [a / b for a, b in zip(result.speeds(ours), result.speeds(peer), strict=True)]


# Report


def print_result(result: Result, markdown: bool) -> None:
    """One table, and one ratio for each of our devices."""
    size = f", batch {result.batch:,}" if result.batch else ""
    print(f"\n{'### ' if markdown else ''}{result.workload}, {result.mode}{size}\n")
    print(format_table(table_rows(result), markdown))
    print()
    for worker in result.workers:
        peer = fastest_peer(result, worker.precision)
        if worker.is_ours and peer is not None:
            values = ratios(result, worker.name, peer)
            middle, low, high = statistics.median(values), min(values), max(values)
            bullet = "* " if markdown else ""
            print(f"{bullet}{worker.name} / {peer}: {middle:.2f} ({low:.2f} to {high:.2f})")


def table_rows(result: Result) -> list[list[str]]:
    """Header and one row for each contender, ours first, theirs as listed."""
    rows = [["contender", "samples/s", "min", "max", "step, ms"]]
    for worker in result.workers:
        speeds = result.speeds(worker.name)
        step = statistics.median(line["step_ms"]["median"] for line in result.rounds[worker.name])
        numbers = [f"{value:,.0f}" for value in (statistics.median(speeds), min(speeds), max(speeds))]
        label = worker.name if worker.precision == "f32" else f"{worker.name} (not f32)"
        rows.append([label, *numbers, f"{step:.2f}"])
    return rows


def format_table(rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """Aligned columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [[cell.rjust(width) for cell, width in zip(row, widths)] for row in rows]
    for line, row in zip(lines, rows):
        line[0] = row[0].ljust(widths[0])
    if not markdown:
        return "\n".join("  ".join(line) for line in lines)
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def machine(args: argparse.Namespace) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "cpu": cpu_model(),
        "threads": str(args.threads),
        "rustc": rustc_version(),
        "burn": burn_version(),
        **versions(),
    }


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if match:
            return match[1]
    return platform.processor() or platform.machine()


def rustc_version() -> str:
    """The version of the compiler that `rust-toolchain.toml` selects."""
    with contextlib.suppress(OSError, IndexError):
        output = subprocess.run(["rustc", "--version"], cwd=REPOSITORY, capture_output=True, text=True).stdout
        return output.split()[1]
    return "unknown"


def burn_version() -> str:
    """The version of burn in Cargo.lock."""
    with contextlib.suppress(OSError):
        lock = (REPOSITORY / "Cargo.lock").read_text()
        match = re.search(r'^name = "burn"\nversion = "(.+)"$', lock, re.MULTILINE)
        if match:
            return match[1]
    return "unknown"


def warn_if_busy() -> None:
    """Says so when other programs are running: they hurt those most whose threads wait for each other in a loop."""
    share = busy_share()
    if share is not None and share > BUSY_LIMIT:
        note(f"warning: other programs use {share:.0%} of the processor, the figures will be of little use")


def busy_share(seconds: float = 1.0) -> float | None:
    """Share of the processor in use while all workers wait; None where the system does not tell."""
    try:
        before = cpu_ticks()
        time.sleep(seconds)
        busy, total = (after - start for after, start in zip(cpu_ticks(), before))
    except OSError:
        return None
    return busy / total if total else None


def cpu_ticks() -> tuple[int, int]:
    """Busy and total ticks of all processors since the system started."""
    user, nice, system, idle, iowait, *rest = map(int, Path("/proc/stat").read_text().split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + iowait


def write_json(path: Path, about: dict[str, str], results: list[Result]) -> None:
    """Every round as the workers told it."""
    rounds = [
        {"contender": name, "round": number, **line}
        for result in results
        for name, lines in result.rounds.items()
        for number, line in enumerate(lines, start=1)
    ]
    path.write_text(json.dumps({"machine": about, "rounds": rounds}, indent=1) + "\n")


# Command line


def bench_binary(devices: Sequence[str]) -> Path:
    """Builds our benchmark for these devices and returns its path; cargo's progress goes to stderr."""
    backends = {device.split(":")[0] for device in devices}
    command = [*BENCH_COMMAND, ",".join(sorted(backends))]
    try:
        output = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise CompareError(f"cargo does not start: {error}") from error
    if output.returncode != 0:
        raise CompareError(f"`{' '.join(command)}` failed with {output.returncode}")
    for text in output.stdout.splitlines():
        message = json.loads(text) if text.startswith("{") else {}
        if message.get("target", {}).get("name") == "backends" and message.get("executable"):
            return Path(message["executable"])
    raise CompareError(f"`{' '.join(command)}` built no executable named backends")


def note(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, help="default: all")
    parser.add_argument("--mode", choices=VARIANTS, help="default: both")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each contender in a round, default: %(default)s")
    parser.add_argument("--threads", type=int, default=available_threads(), help="of each contender, default: all")
    names = {"type": lambda text: text.split(","), "metavar": "NAME,..."}
    parser.add_argument("--cuda", action="store_true", help="both sides on the first CUDA device")
    sizes = "rows of a batch, several for a table each; default: the workload's"
    parser.add_argument("--batch", **names | {"metavar": "N,..."}, help=sizes)
    parser.add_argument("--precision", default="f32", help="of our matmuls, beside f32: tf32, bf16 or f16")
    parser.add_argument("--ours-device", **names, help="default: ndarray,flex, or with --cuda cuda")
    parser.add_argument("--variants", **names, help="of PyTorch, default: all")
    parser.add_argument("--binary", type=Path, metavar="FILE", help="our benchmark; default: cargo builds it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round to this file")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    args = parser.parse_args()
    args.ours_device = args.ours_device or (["cuda"] if args.cuda else ["ndarray", "flex"])
    args.pytorch_device = "cuda" if args.cuda else "cpu"
    if not all(size.isdecimal() and int(size) > 0 for size in args.batch or []):
        parser.error("--batch takes whole numbers from 1, separated by commas")
    args.batch = [int(size) for size in args.batch or []] or [None]
    if args.rounds < 1 or args.seconds <= 0 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1, --seconds above 0")
    return args


def main() -> None:
    args = parse_args()
    binary = args.binary or bench_binary(args.ours_device)
    about = machine(args)
    bullet = "* " if args.markdown else ""
    print("\n".join(f"{bullet}{key}: {value}" for key, value in about.items()))
    results: list[Result] = []
    workloads, modes = [args.workload] if args.workload else WORKLOADS, [args.mode] if args.mode else VARIANTS
    for workload, mode, batch in itertools.product(workloads, modes, args.batch):
        results.append(compare(args, binary, workload, mode, batch))
        print_result(results[-1], args.markdown)
        if args.json:
            write_json(args.json, about, results)


if __name__ == "__main__":
    try:
        main()
    except CompareError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted")
