"""ESMM in PyTorch, as a worker that a runner asks for timed rounds.

    python pytorch_esmm.py --workload notebook --mode train --variant sparse-adam --threads 2

The worker builds the model, warms up and prints one line, `{"ready": true, ...}`. From then on each line on stdin is a
number of seconds, and the answer is one JSON line with the speed of about that many seconds of steps. It ends with its
input. A step takes raw arrays in host memory: to updated weights (train), or to three probabilities per row in host
memory (infer). With `--device cuda` the model lies on the GPU, batches in pinned memory, and a training waits for the GPU
once in `QUEUED_STEPS` steps.

With `--built` the steps of a training with hand-written row updates start from batches whose distinct rows were found
before, as threads of a loader would: `cargo bench --bench scaling -- --threads ... --pytorch PYTHON` compares such steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as error:
    sys.exit(f"error: {error.name} is missing; pip install -r benches/peers/requirements.txt")

from workloads import LEARNING_RATE, WORKLOADS, Batch, Workload, make_batches

WARM_UP_STEPS = 10
WARM_UP_SECONDS = 10.0
MIN_STEPS = 5
QUEUED_STEPS = 20
"""Steps of a training between two looks at a GPU; the same number as in `cargo bench --bench backends`."""
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's defaults, in PyTorch and in the paper."""

Step = Callable[["HostBatch"], object]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Variant:
    """One way to write the same model."""

    embedding: str = "sparse"
    """dense, sparse: nn.Embedding with gradients of that kind; rows: the rows of the batch are the leaf, by hand."""
    wide: bool = False
    """The first layers of both towers are one layer."""
    compiled: bool = False
    graph: bool = False
    """The whole training step, or what torch.compile makes of scoring, is one CUDA graph: only on such a device."""
    precision: str = "f32"
    """f32; tf32: what CUDA may round matmuls to, so only there; bf16: under bfloat16 autocast."""

    @property
    def needs_cuda(self) -> bool:
        return self.graph or self.precision == "tf32"


VARIANTS: dict[str, dict[str, Variant]] = {
    "train": {
        "dense-adam": Variant("dense"),
        "sparse-adam": Variant("sparse"),
        "row-adam": Variant("rows"),
        "row-adam-wide": Variant("rows", wide=True),
        "row-adam-compiled": Variant("rows", compiled=True),
        "sparse-adam-bf16": Variant("sparse", precision="bf16"),
        "row-adam-bf16": Variant("rows", precision="bf16"),
        "row-adam-compiled-bf16": Variant("rows", compiled=True, precision="bf16"),
        "row-adam-graph": Variant("rows", compiled=True, graph=True),
        "row-adam-graph-tf32": Variant("rows", compiled=True, graph=True, precision="tf32"),
        "row-adam-graph-bf16": Variant("rows", compiled=True, graph=True, precision="bf16"),
    },
    "infer": {
        "eager": Variant(),
        "compiled": Variant(compiled=True),
        "compiled-graph": Variant(compiled=True, graph=True),
    },
}


# The model


class Tables(nn.Module):
    """One embedding table for each feature; their rows and the dense columns side by side."""

    def __init__(self, workload: Workload, sparse: bool) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, workload.dim, sparse=sparse) for rows in workload.rows)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        columns = [table(column) for table, column in zip(self.tables, ids.unbind(1))]
        return torch.cat([*columns, dense], dim=1)


class Towers(nn.Module):
    """Two towers of the same shape; one logit for each row and tower."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.ctr = tower(workload, workload.width, workload.hidden)
        self.cvr = tower(workload, workload.width, workload.hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.ctr(x).squeeze(1), self.cvr(x).squeeze(1)


class WideTowers(nn.Module):
    """The same towers with their first layers side by side: one matmul instead of two narrow ones."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        first, *others = workload.hidden
        self.first = nn.Sequential(*hidden_layer(workload, workload.width, 2 * first))
        self.ctr = tower(workload, first, others)
        self.cvr = tower(workload, first, others)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        ctr, cvr = self.first(x).chunk(2, dim=1)
        return self.ctr(ctr).squeeze(1), self.cvr(cvr).squeeze(1)


def tower(workload: Workload, width: int, hidden: Sequence[int]) -> nn.Sequential:
    """The hidden layers, then one logit."""
    widths = [width, *hidden]
    layers = [layer for pair in itertools.pairwise(widths) for layer in hidden_layer(workload, *pair)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


def hidden_layer(workload: Workload, width: int, hidden: int) -> list[nn.Module]:
    """Linear, BatchNorm, activation, Dropout."""
    layers: list[nn.Module] = [nn.Linear(width, hidden), nn.BatchNorm1d(hidden)]
    if workload.relu:
        layers.append(nn.ReLU())
    if workload.dropout > 0:
        layers.append(nn.Dropout(workload.dropout))
    return layers


def row_offsets(workload: Workload) -> Tensor:
    """The first row of each feature in a table that holds all features."""
    return torch.tensor(np.cumsum([0, *workload.rows[:-1]]))


class HostBatch(NamedTuple):
    """A raw batch of B rows in host memory."""

    ids: Tensor
    """int32 `[B, features]`."""
    dense: Tensor
    click: Tensor
    conversion: Tensor


def host_batch(arrays: Batch) -> HostBatch:
    """A batch as tensors in host memory: pinned, so that a GPU copies from there by itself, where the model is on one."""
    tensors = HostBatch(*(torch.from_numpy(array) for array in arrays))
    return HostBatch(*(tensor.pin_memory() for tensor in tensors)) if on_gpu() else tensors


def upload(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Tensors of a batch on the device of the model: one copy each."""
    device = torch.get_default_device()
    return [tensor.to(device, non_blocking=True) for tensor in tensors]


def on_gpu() -> bool:
    """Whether the model lies on a GPU."""
    return torch.get_default_device().type == "cuda"


def esmm_loss(ctr_logit: Tensor, cvr_logit: Tensor, click: Tensor, conversion: Tensor) -> Tensor:
    """Eq. 3 of arXiv 1804.07931, in log space: cross-entropy of pCTR and of pCTCVR = pCTR * pCVR over all rows."""
    a, b = ctr_logit.float(), cvr_logit.float()
    log_ctr = F.logsigmoid(a)
    log_ctcvr = log_ctr + F.logsigmoid(b)
    # 1 - pCTCVR = (1 - pCTR) + pCTR * (1 - pCVR): positive terms, so neither logarithm nor gradient overflows.
    log_not_ctcvr = torch.logaddexp(F.logsigmoid(-a), log_ctr + F.logsigmoid(-b))
    ctr_loss = F.binary_cross_entropy_with_logits(a, click)
    return ctr_loss - torch.lerp(log_not_ctcvr, log_ctcvr, conversion).mean()


# Training


def train_step(workload: Workload, variant: Variant) -> Step:
    """The step of a training variant: raw batch to updated weights."""
    towers = (WideTowers if variant.wide else Towers)(workload)

    def towers_loss(x: Tensor, click: Tensor, conversion: Tensor) -> Tensor:
        return esmm_loss(*towers(x), click, conversion)

    loss = torch.compile(towers_loss) if variant.compiled else towers_loss
    if variant.graph:
        return graph_step(workload, variant, towers, loss)
    if variant.embedding == "rows":
        return row_step(workload, variant, towers, loss)
    return library_step(workload, variant, towers, loss)


def library_step(workload: Workload, variant: Variant, towers: nn.Module, loss: Loss) -> Step:
    """A step of nn.Embedding and the optimizers of torch.optim."""
    sparse = variant.embedding == "sparse"
    embedding = Tables(workload, sparse)
    if sparse:
        optimizers = [
            torch.optim.SparseAdam(embedding.parameters(), lr=LEARNING_RATE),
            torch.optim.Adam(towers.parameters(), lr=LEARNING_RATE, fused=True),
        ]
    else:
        parameters = [*embedding.parameters(), *towers.parameters()]
        optimizers = [torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True)]

    def step(batch: HostBatch) -> None:
        ids, dense, click, conversion = upload(batch)
        for optimizer in optimizers:
            optimizer.zero_grad()
        with autocast(variant):
            value = loss(embedding(ids.long(), dense), click, conversion)
        value.backward()
        for optimizer in optimizers:
            optimizer.step()

    return step


class BuiltBatch(NamedTuple):
    """A batch on the device of the model, its distinct rows found."""

    unique: Tensor
    """Distinct rows of all tables, `[U]`."""
    inverse: Tensor
    """Place in `unique` of each id, `[B, features]`."""
    dense: Tensor
    click: Tensor
    conversion: Tensor


def build_batch(batch: HostBatch, offsets: Tensor) -> BuiltBatch:
    """Uploads a batch and finds its distinct rows."""
    ids, dense, click, conversion = upload(batch)
    unique, inverse = torch.unique(ids + offsets, return_inverse=True)
    return BuiltBatch(unique, inverse, dense, click, conversion)


class RowModel:
    """One table of all features whose touched rows alone are leaves and are updated, as SparseAdam would; the towers.

    No autograd node and no optimizer sees the whole table, and the gradient needs no coalescing.
    """

    def __init__(self, workload: Workload, variant: Variant, towers: nn.Module, loss: Loss) -> None:
        self.variant, self.loss, self.has_dense = variant, loss, workload.dense > 0
        self.table = torch.cat([torch.randn(sum(workload.rows), workload.dim), torch.zeros(1, workload.dim)])
        """The last row belongs to no id."""
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(self.table), torch.zeros_like(self.table)
        self.optimizer = torch.optim.Adam(towers.parameters(), lr=LEARNING_RATE, fused=True, capturable=variant.graph)
        # A graph has one shape; elsewhere each batch has as many distinct rows as it happens to have.
        dynamic = None if variant.graph else True
        self.update = torch.compile(adam_update, dynamic=dynamic) if variant.compiled else adam_update

    def learn(self, batch: BuiltBatch, step_size: Tensor) -> None:
        """One step."""
        unique = batch.unique
        rows = self.table[unique].requires_grad_()
        x = F.embedding(batch.inverse, rows).flatten(1)
        if self.has_dense:
            x = torch.cat([x, batch.dense], dim=1)
        self.optimizer.zero_grad()
        with autocast(self.variant):
            value = self.loss(x, batch.click, batch.conversion)
        value.backward()
        self.optimizer.step()
        state = (rows.detach(), self.exp_avg[unique], self.exp_avg_sq[unique])
        with torch.no_grad():
            updated = self.update(*state, rows.grad, step_size)
        for target, values in zip((self.table, self.exp_avg, self.exp_avg_sq), updated):
            target.index_copy_(0, unique, values)


def row_step(workload: Workload, variant: Variant, towers: nn.Module, loss: Loss) -> Step:
    """A step of hand-written row updates. Takes batches that are built already as well."""
    model = RowModel(workload, variant, towers, loss)
    offsets = row_offsets(workload)
    steps = itertools.count(1)

    def step(batch: HostBatch | BuiltBatch) -> None:
        built = batch if isinstance(batch, BuiltBatch) else build_batch(batch, offsets)
        # In host memory: a GPU takes a single number from there without a copy that waits.
        count = torch.tensor(next(steps), dtype=torch.float64, device="cpu")
        model.learn(built, adam_step_size(count))

    return step


def graph_step(workload: Workload, variant: Variant, towers: nn.Module, loss: Loss) -> Step:
    """The same step as one CUDA graph: a batch is copied to where the graph reads it, and the graph replayed."""
    model = RowModel(workload, variant, towers, loss)
    offsets = row_offsets(workload).int()
    size = workload.batch
    ids = torch.zeros(size, len(workload.rows), dtype=torch.int32)
    inputs = [ids, torch.zeros(size, workload.dense), torch.zeros(size), torch.zeros(size)]
    count = torch.zeros((), dtype=torch.float64)

    def all_of_it() -> None:
        count.add_(1)
        unique, inverse = distinct_rows(ids + offsets, unused=len(model.table) - 1)
        model.learn(BuiltBatch(unique, inverse, *inputs[1:]), adam_step_size(count))

    replay = captured(all_of_it)

    def step(batch: HostBatch) -> None:
        for target, tensor in zip(inputs, batch):
            target.copy_(tensor, non_blocking=True)
        replay()

    return step


def distinct_rows(rows: Tensor, unused: int) -> tuple[Tensor, Tensor]:
    """As `torch.unique` with its inverse, in shapes that do not depend on values: places that no row needs name `unused`."""
    in_order, order = torch.sort(rows.flatten())
    is_first = torch.ones_like(in_order, dtype=torch.bool)
    is_first[1:] = in_order[1:] != in_order[:-1]
    place = torch.cumsum(is_first, 0) - 1
    unique = torch.full_like(place, unused).scatter_(0, place, in_order.long())
    inverse = torch.empty_like(place).scatter_(0, order, place)
    return unique, inverse.view(rows.shape)


def captured(run: Callable[[], None], warm_ups: int = 4) -> Callable[[], None]:
    """What `run` launches as one CUDA graph, recorded after a few runs that compile and allocate."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm_ups):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def autocast(variant: Variant) -> torch.autocast:
    """What a forward pass runs under."""
    return torch.autocast(torch.get_default_device().type, torch.bfloat16, enabled=variant.precision == "bf16")


def adam_step_size(step: Tensor) -> Tensor:
    """Learning rate with both bias corrections; a tensor, so that compiled code does not depend on the value."""
    return LEARNING_RATE * (1 - BETA_2**step).sqrt() / (1 - BETA_1**step)


def adam_update(
    rows: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, grad: Tensor, step_size: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """New rows and moments, by the formula of torch.optim.SparseAdam."""
    exp_avg = exp_avg.lerp(grad, 1 - BETA_1)
    exp_avg_sq = exp_avg_sq.lerp(grad * grad, 1 - BETA_2)
    return rows - step_size * exp_avg / (exp_avg_sq.sqrt() + EPSILON), exp_avg, exp_avg_sq


# Inference


def infer_step(workload: Workload, variant: Variant) -> Step:
    """The step of an inference variant: raw batch to pCTR, pCVR and pCTCVR."""
    embedding, towers = Tables(workload, sparse=False).eval(), Towers(workload).eval()

    def probabilities(ids: Tensor, dense: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctr_logit, cvr_logit = towers(embedding(ids, dense))
        ctr, cvr = ctr_logit.sigmoid(), cvr_logit.sigmoid()
        return ctr, cvr, ctr * cvr

    mode = "reduce-overhead" if variant.graph else None
    model = torch.compile(probabilities, mode=mode) if variant.compiled else probabilities

    @torch.inference_mode()
    def step(batch: HostBatch) -> list[Tensor]:
        return [column.cpu() for column in model(*upload([batch.ids, batch.dense]))]

    return step


# The worker


def warm_up(step: Step, batches: list[HostBatch]) -> None:
    """At least `WARM_UP_STEPS` steps, which also compile; then once through all batches, for a limited time."""
    for batch in batches[:WARM_UP_STEPS]:
        step(batch)
    begin = time.perf_counter()
    for batch in batches:
        if time.perf_counter() - begin > WARM_UP_SECONDS:
            break
        step(batch)


def time_round(step: Step, batches: itertools.cycle[HostBatch], seconds: float, queued: int) -> list[float]:
    """Seconds of a step, over about `seconds` and at least `MIN_STEPS` values, each the mean of `queued` steps."""
    times: list[float] = []
    begin = last = time.perf_counter()
    while last - begin < seconds or len(times) < MIN_STEPS:
        for _ in range(queued):
            step(next(batches))
        if on_gpu():
            torch.cuda.synchronize()
        now = time.perf_counter()
        times.append((now - last) / queued)
        last = now
    return times


def round_line(args: argparse.Namespace, times: list[float]) -> dict[str, object]:
    """What the worker answers for one round."""
    batch = args.batch or WORKLOADS[args.workload].batch
    milliseconds = [1e3 * seconds for seconds in times]
    return {
        "workload": args.workload,
        "device": f"pytorch-{args.variant}",
        "mode": args.mode,
        "batch": batch,
        "samples_per_s": batch * len(times) / sum(times),
        "step_ms": {
            "min": min(milliseconds),
            "median": statistics.median(milliseconds),
            "max": max(milliseconds),
        },
    }


def versions() -> dict[str, str]:
    """Versions and libraries that a figure depends on."""
    libraries = {"MKL": torch.backends.mkl.is_available(), "oneDNN": torch.backends.mkldnn.is_available()}
    present = [name for name, available in libraries.items() if available]
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": f"{torch.__version__} ({', '.join(present) or 'neither MKL nor oneDNN'})",
    } | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def emit(line: dict[str, object]) -> None:
    """Prints one JSON line at once."""
    print(json.dumps(line), flush=True)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--mode", choices=VARIANTS, required=True)
    parser.add_argument("--variant", required=True, help="see README.md")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; default: %(default)s")
    parser.add_argument("--batch", type=int, help="rows of a batch; default: the workload's")
    parser.add_argument("--built", action="store_true", help="start from batches whose distinct rows are found")
    args = parser.parse_args()
    if args.variant not in VARIANTS[args.mode]:
        parser.error(f"--mode {args.mode} has the variants {', '.join(VARIANTS[args.mode])}, not {args.variant}")
    variant = VARIANTS[args.mode][args.variant]
    if variant.needs_cuda and not args.device.startswith("cuda"):
        parser.error(f"--variant {args.variant} is for --device cuda, not {args.device}")
    if args.built and (args.mode != "train" or variant.embedding != "rows" or variant.graph):
        parser.error("--built is for trainings with hand-written row updates: row-adam and those named after it, but no graph")
    return args


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    torch.manual_seed(1)
    workload = WORKLOADS[args.workload]
    workload = replace(workload, batch=args.batch or workload.batch)
    variant = VARIANTS[args.mode][args.variant]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = variant.precision == "tf32"
    batches = [host_batch(batch) for batch in make_batches(workload)]
    if args.built:
        batches = [build_batch(batch, row_offsets(workload)) for batch in batches]
    build = train_step if args.mode == "train" else infer_step
    step = build(workload, variant)
    warm_up(step, batches)
    emit({"ready": True, "torch": torch.__version__, "threads": torch.get_num_threads()})
    endless = itertools.cycle(batches)
    queued = QUEUED_STEPS if args.mode == "train" and on_gpu() else 1
    for line in sys.stdin:
        emit(round_line(args, time_round(step, endless, float(line), queued)))


if __name__ == "__main__":
    main()
