//! Pooling of table rows, alone or with what a sort of the same entries begins with.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::sort::{Counts, Plan, UNITS, count_tile};
use super::tensor::{OnCube, Rows, address, array, grid, grid_of, ints, vector_size};
use crate::backend::{Bags, Indices};

/// Bags on a device.
pub(super) type CubeBags<R> = Bags<CubeTensor<R>, CubeTensor<R>>;

/// The bags with their row numbers on the device.
///
/// # Panics
/// When they have positions among bins: a batch for such a device has a column for each bin.
pub(super) fn on_device<R: CubeRuntime, B: OnCube<R>>(bags: Bags<CubeTensor<R>, Indices<B>>) -> CubeBags<R> {
    assert!(bags.bins.is_none(), "kernels on a device read a column for each bin, found {:?}", bags.bins);
    bags.map(|tensor| tensor, |indices| ints(&indices))
}

/// `table [R, D]`, `rows [N]` to `[N, D]`.
pub(super) fn gather_rows<R: CubeRuntime>(table: CubeTensor<R>, rows: CubeTensor<R>) -> CubeTensor<R> {
    let table = Rows::new(table);
    let count = rows.meta.shape()[0];
    let out = Rows::empty(&table.tensor, [count, table.width]);
    let vector = vector_size(&[table.width, table.stride, out.stride]);
    let units = count * table.width / vector;
    let (cubes, dim) = grid(&table.tensor.client, units);
    // SAFETY: `rows` are rows of the table, as the batch was built; units beyond the last element do nothing.
    unsafe {
        gather_kernel::launch_unchecked(
            &table.tensor.client,
            cubes,
            dim,
            address(&[&table.tensor, &out.tensor]),
            vector,
            table.array(),
            array(&rows),
            out.array(),
            table.width / vector,
            table.stride / vector,
            out.stride / vector,
            units,
        );
    }
    out.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gather_kernel<N: Size>(
    table: &Array<Vector<f32, N>>,
    rows: &Array<i32>,
    out: &mut Array<Vector<f32, N>>,
    width: FastDivmod<usize>,
    table_stride: usize,
    out_stride: usize,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    out[row * out_stride + column] = table[usize::cast_from(rows[row]) * table_stride + column];
}

/// What pooling reads and writes, and where it lies.
struct Pooling<R: CubeRuntime> {
    table: Rows<R>,
    dense: Option<Rows<R>>,
    plan: CubeBags<R>,
    out: Rows<R>,
}

/// What a kernel knows of [`Pooling`], in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct PoolAt {
    width: FastDivmod<usize>,
    dim: FastDivmod<usize>,
    rows: FastDivmod<usize>,
    num_sparse: usize,
    sparse_width: usize,
    /// Rows of one copy of the table.
    table_rows: usize,
    table_stride: usize,
    dense_stride: usize,
    out_stride: usize,
    entries: usize,
    /// Vectors of the output.
    units: usize,
}

impl<R: CubeRuntime> Pooling<R> {
    fn new(table: CubeTensor<R>, plan: CubeBags<R>) -> Self {
        let table = Rows::new(table);
        let dense = plan.dense.clone().map(Rows::new);
        let num_dense = dense.as_ref().map_or(0, |dense| dense.width);
        let out =
            Rows::empty(&table.tensor, [plan.tables, plan.rows, plan.num_sparse * table.width + num_dense]);
        Self { table, dense, plan, out }
    }

    fn dense_stride(&self) -> usize {
        self.dense.as_ref().map_or(0, |dense| dense.stride)
    }

    fn vector(&self) -> usize {
        let num_dense = self.dense.as_ref().map_or(0, |dense| dense.width);
        vector_size(&[self.table.width, self.table.stride, num_dense, self.dense_stride(), self.out.stride])
    }

    fn units(&self) -> usize {
        self.plan.tables * self.plan.rows * self.out.width / self.vector()
    }

    fn at(&self) -> PoolAtLaunch<R> {
        let Self { table, plan, out, .. } = self;
        let vector = self.vector();
        PoolAtLaunch::new(
            out.width / vector,
            table.width / vector,
            plan.rows,
            plan.num_sparse,
            plan.num_sparse * table.width / vector,
            table.tensor.meta.shape()[0] / plan.tables,
            table.stride / vector,
            self.dense_stride() / vector,
            out.stride / vector,
            plan.slots.meta.shape()[0],
            self.units(),
        )
    }

    /// Segments and weights of the entries; anything where each bag has one entry.
    fn weighted(&self) -> (&CubeTensor<R>, &CubeTensor<R>) {
        match &self.plan.weighted {
            Some((segments, weights)) => (segments, weights),
            None => (&self.plan.slots, &self.table.tensor),
        }
    }

    /// The dense values; anything where there are none.
    fn dense(&self) -> &CubeTensor<R> {
        self.dense.as_ref().map_or(&self.table.tensor, |dense| &dense.tensor)
    }
}

/// `table [T * U, D]` to `[T, B, F * D + V]`: a unit for each vector of the output.
pub(super) fn bag_pool<R: CubeRuntime>(table: CubeTensor<R>, plan: CubeBags<R>) -> CubeTensor<R> {
    let pooling = Pooling::new(table, plan);
    let Pooling { table, plan, out, .. } = &pooling;
    let (segments, weights) = pooling.weighted();
    let client = table.tensor.client.clone();
    let (cubes, cube_dim) = grid(&client, pooling.units());
    // SAFETY: slots are rows of the table and segments are bags of the batch, as the batch was built; units beyond the
    // last element do nothing.
    unsafe {
        pool_kernel::launch_unchecked(
            &client,
            cubes,
            cube_dim,
            address(&[&table.tensor, &out.tensor]),
            pooling.vector(),
            table.array(),
            array(&plan.slots),
            array(segments),
            array(weights),
            array(pooling.dense()),
            out.array(),
            pooling.at(),
            plan.weighted.is_some(),
        );
    }
    pooling.out.tensor
}

/// The same for entries that will be sorted: other cubes of the launch count the digits that the sort begins with.
pub(super) fn pool_to_sort<R: CubeRuntime, B: OnCube<R>>(
    table: CubeTensor<R>,
    bags: Bags<CubeTensor<R>, Indices<B>>,
) -> CubeTensor<R> {
    let slots = bags.slots.clone();
    let num_rows = table.meta.shape()[0] / bags.tables;
    let bags = on_device::<R, B>(bags);
    let mut pooled = None;
    slots.counts(num_rows, || {
        let (out, Counts { first, later }) =
            pool_and_count(table.clone(), bags.clone(), Plan::new(slots.len(), num_rows));
        pooled = Some(out);
        [first, later]
    });
    // They had been counted before.
    pooled.unwrap_or_else(|| bag_pool(table, bags))
}

fn pool_and_count<R: CubeRuntime>(
    table: CubeTensor<R>,
    bags: CubeBags<R>,
    sort: Plan,
) -> (CubeTensor<R>, Counts<R>) {
    let pooling = Pooling::new(table, bags);
    let Pooling { table, plan, out, .. } = &pooling;
    let (segments, weights) = pooling.weighted();
    let counts = sort.counts(&plan.slots);
    let pools = pooling.units().div_ceil(UNITS as usize);
    // SAFETY: as for `pool_kernel` and for the sort's counts; cubes beyond those of both do nothing.
    unsafe {
        pool_and_count_kernel::launch_unchecked(
            &table.tensor.client,
            grid_of(sort.tiles + pools),
            CubeDim::new_1d(UNITS),
            address(&[&table.tensor, &out.tensor]),
            pooling.vector(),
            table.array(),
            array(&plan.slots),
            array(segments),
            array(weights),
            array(pooling.dense()),
            out.array(),
            array(&counts.first),
            array(&counts.later),
            pooling.at(),
            sort.entries,
            sort.length,
            sort.tiles,
            sort.later_passes(),
            plan.weighted.is_some(),
            sort.bits,
        );
    }
    (pooling.out.tensor, counts)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn pool_kernel<N: Size>(
    table: &Array<Vector<f32, N>>,
    slots: &Array<i32>,
    segments: &Array<i32>,
    weights: &Array<f32>,
    dense: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    at: PoolAt,
    #[comptime] bagged: bool,
) {
    pool_vector::<N>(table, slots, segments, weights, dense, out, &at, ABSOLUTE_POS, bagged);
}

/// The first cubes count a tile of entries each, the others pool.
#[cube(launch_unchecked, address_type = "dynamic")]
fn pool_and_count_kernel<N: Size>(
    table: &Array<Vector<f32, N>>,
    slots: &Array<i32>,
    segments: &Array<i32>,
    weights: &Array<f32>,
    dense: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    counts: &mut Array<i32>,
    later: &mut Array<i32>,
    at: PoolAt,
    entries: usize,
    length: usize,
    tiles: usize,
    later_passes: usize,
    #[comptime] bagged: bool,
    #[comptime] bits: u32,
) {
    let cube = CUBE_POS;
    if cube < tiles {
        count_tile(slots, counts, later, cube, entries, length, tiles, later_passes, bits);
    } else {
        let unit = (cube - tiles) * comptime!(UNITS as usize) + UNIT_POS as usize;
        pool_vector::<N>(table, slots, segments, weights, dense, out, &at, unit, bagged);
    }
}

/// A vector of the output; nothing beyond the last one.
#[cube]
fn pool_vector<N: Size>(
    table: &Array<Vector<f32, N>>,
    slots: &Array<i32>,
    segments: &Array<i32>,
    weights: &Array<f32>,
    dense: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    at: &PoolAt,
    unit: usize,
    #[comptime] bagged: bool,
) {
    if unit < at.units {
        let (out_row, column) = at.width.div_mod(unit);
        let (copy, row) = at.rows.div_mod(out_row);
        let place = out_row * at.out_stride + column;
        if column < at.sparse_width {
            let (feature, part) = at.dim.div_mod(column);
            let bag = row * at.num_sparse + feature;
            let first_row = copy * at.table_rows;
            if comptime!(bagged) {
                let start = lower_bound(segments, i32::cast_from(bag), at.entries);
                let end = lower_bound(segments, i32::cast_from(bag + 1), at.entries);
                let mut sum = Vector::<f32, N>::new(0.0f32);
                for entry in start..end {
                    let source = (first_row + usize::cast_from(slots[entry])) * at.table_stride + part;
                    sum += Vector::new(weights[entry]) * table[source];
                }
                out[place] = sum;
            } else {
                out[place] = table[(first_row + usize::cast_from(slots[bag])) * at.table_stride + part];
            }
        } else {
            out[place] = dense[row * at.dense_stride + column - at.sparse_width];
        }
    }
}

/// First place in a rising list whose value is at least `least`.
#[cube]
fn lower_bound(values: &Array<i32>, least: i32, len: usize) -> usize {
    let mut low = 0usize;
    let mut high = len;
    while low < high {
        let middle = (low + high) / 2;
        if values[middle] < least {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
