"""The three workloads, and batches of random rows for each.

The numbers mirror the workloads of `cargo bench --bench backends`: change both or neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CLICK_RATE = 0.04
CONVERSION_RATE = 0.05
"""Among clicked rows."""

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Workload:
    """The shape of one model and of the batches it is fed."""

    name: str
    rows: tuple[int, ...]
    """Rows of each embedding table; one table for each sparse feature."""
    dim: int
    """Width of every table."""
    dense: int
    """Number of dense features."""
    hidden: tuple[int, ...]
    """Hidden layers of each tower: Linear, BatchNorm, activation, Dropout."""
    relu: bool
    """ReLU after each batch norm, or no activation at all."""
    dropout: float
    batch: int

    @property
    def width(self) -> int:
        """Columns of the matrix that enters the towers."""
        return len(self.rows) * self.dim + self.dense


NOTEBOOK = Workload(
    name="notebook",
    rows=(10_000, 1_000, 50_000, 500),
    dim=128,
    dense=2,
    hidden=(128, 64),
    relu=False,
    dropout=0.5,
    batch=4096,
)

ALICCP = Workload(
    name="aliccp",
    rows=(
        240_000, 100, 15, 3, 8, 4, 3, 3, 6, 460_000, 7_000, 260_000,
        90_000, 50, 110_000, 60_000, 35_000, 12_000, 5_000, 400, 100, 20_000, 3_000,
    ),
    dim=18,
    dense=0,
    hidden=(360, 200, 80),
    relu=True,
    dropout=0.0,
    batch=2048,
)  # fmt: skip

BIGTABLE = Workload(
    name="bigtable",
    rows=(5_000_000, 2_000_000, 1_000_000, 100_000, 1_000, 100),
    dim=16,
    dense=0,
    hidden=(128, 64),
    relu=True,
    dropout=0.0,
    batch=2048,
)

WORKLOADS = {workload.name: workload for workload in (NOTEBOOK, ALICCP, BIGTABLE)}


class Batch(NamedTuple):
    """Raw arrays of B rows, as a data loader would hand them over."""

    ids: np.ndarray
    """int32 `[B, features]`; each column counts from 0 within its own table."""
    dense: np.ndarray
    """float32 `[B, dense]`, which may have no columns."""
    click: np.ndarray
    """float32 `[B]`, 0 or 1."""
    conversion: np.ndarray
    """float32 `[B]`, 0 or 1; never 1 where `click` is 0."""


def make_batch(workload: Workload, rng: np.random.Generator) -> Batch:
    """Draws one batch. Low ids are frequent: an id is `floor(u^3 * rows)` with u uniform."""
    size = workload.batch
    skewed = rng.random((size, len(workload.rows))) ** 3
    ids = np.floor(skewed * np.array(workload.rows)).astype(np.int32)
    dense = rng.standard_normal((size, workload.dense), dtype=np.float32)
    click = (rng.random(size) < CLICK_RATE).astype(np.float32)
    conversion = click * (rng.random(size) < CONVERSION_RATE).astype(np.float32)
    return Batch(ids, dense, click, conversion)


def make_batches(workload: Workload, count: int = 32, seed: int = 1) -> list[Batch]:
    """`count` distinct batches, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    return [make_batch(workload, rng) for _ in range(count)]
