//! Pooling of table rows, alone or with what a sort of the same entries begins with.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::sort::{Counting, Counts, UNITS, Unsorted, count_tile, nothing_counted};
use super::tensor::{OnCube, Rows, address, array, grid_of, ints, vector_size};
use crate::backend::{Bags, Indices, InputBags, Pooled};

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

/// What is pooled of a batch: what rows have of their own, or what groups share.
struct Part<R: CubeRuntime> {
    bags: CubeBags<R>,
    dense: Option<Rows<R>>,
    out: Rows<R>,
}

/// What pooling reads and writes.
struct Pooling<R: CubeRuntime> {
    table: Rows<R>,
    /// That of rows, then that of groups.
    parts: Vec<Part<R>>,
    /// Values that are read and written at once.
    vector: usize,
}

/// What a kernel knows of a [`Part`], in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct PartAt {
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

impl<R: CubeRuntime> Part<R> {
    fn new(table: &Rows<R>, bags: CubeBags<R>) -> Self {
        let dense = bags.dense.clone().map(Rows::new);
        let num_dense = dense.as_ref().map_or(0, |dense| dense.width);
        let width = bags.num_sparse * table.width + num_dense;
        let out = Rows::empty(&table.tensor, [bags.tables, bags.rows, width]);
        Self { bags, dense, out }
    }

    /// What a vector must divide.
    fn widths(&self) -> [usize; 3] {
        let dense = self.dense.as_ref();
        [dense.map_or(0, |dense| dense.width), dense.map_or(0, |dense| dense.stride), self.out.stride]
    }

    fn units(&self, vector: usize) -> usize {
        self.bags.tables * self.bags.rows * self.out.width / vector
    }

    fn at(&self, table: &Rows<R>, vector: usize) -> PartAtLaunch<R> {
        let Self { bags, out, .. } = self;
        let [_, dense_stride, out_stride] = self.widths();
        PartAtLaunch::new(
            out.width / vector,
            table.width / vector,
            bags.rows,
            bags.num_sparse,
            bags.num_sparse * table.width / vector,
            table.tensor.meta.shape()[0] / bags.tables,
            table.stride / vector,
            dense_stride / vector,
            out_stride / vector,
            bags.slots.meta.shape()[0],
            self.units(vector),
        )
    }
}

impl<R: CubeRuntime> Pooling<R> {
    fn new<B: OnCube<R>>(table: CubeTensor<R>, bags: &InputBags<CubeTensor<R>, Indices<B>>) -> Self {
        let table = Rows::new(table);
        let on_device = bags.parts().map(|part| on_device::<R, B>(part.clone()));
        let parts: Vec<Part<R>> = on_device.map(|bags| Part::new(&table, bags)).collect();
        let mut widths = vec![table.width, table.stride];
        widths.extend(parts.iter().flat_map(Part::widths));
        let vector = vector_size(&widths);
        Self { table, parts, vector }
    }

    fn pooled(self) -> Pooled<CubeTensor<R>> {
        let mut outs = self.parts.into_iter().map(|part| part.out.tensor);
        let Some(own) = outs.next() else { panic!("what rows have of their own got lost") };
        Pooled { own, shared: outs.next() }
    }

    /// Pools all parts; other cubes of the launch count the digits that a sort of the entries begins with, where one follows.
    fn launch(&self, sort: Option<(&Unsorted<R>, &Counts<R>)>) {
        let Self { table, parts, vector } = self;
        let slots: Vec<CubeTensor<R>> = parts.iter().map(|part| part.bags.slots.clone()).collect();
        // Something must stand for what is not counted, and for what entries and rows do not have.
        let lists = sort.map_or(&slots, |(unsorted, _)| &unsorted.lists);
        let counts = sort.map_or([&slots[0]; 2], |(_, counts)| [&counts.first, &counts.later]);
        let weighted = |part: &Part<R>| part.bags.weighted.clone();
        let segments =
            parts.iter().map(|part| weighted(part).map_or(part.bags.slots.clone(), |weighted| weighted.0));
        let weights =
            parts.iter().map(|part| weighted(part).map_or(table.tensor.clone(), |weighted| weighted.1));
        let dense = parts.iter().map(|part| part.dense.as_ref().unwrap_or(table).array());
        let cubes = parts.iter().map(|part| part.units(*vector).div_ceil(UNITS as usize)).sum::<usize>();
        let tiles = sort.map_or(0, |(unsorted, _)| unsorted.plan.tiles);
        let outs = parts.iter().map(|part| &part.out.tensor);
        // SAFETY: slots are rows of the table and segments are bags of the batch, as the batch was built; each tile has room
        // for its counts; units and cubes beyond the last ones do nothing.
        unsafe {
            pool_kernel::launch_unchecked(
                &table.tensor.client,
                grid_of(tiles + cubes),
                CubeDim::new_1d(UNITS),
                address(&outs.chain([&table.tensor]).collect::<Vec<_>>()),
                *vector,
                table.array(),
                lists.iter().map(array).collect(),
                segments.map(|segments| array(&segments)).collect(),
                weights.map(|weights| array(&weights)).collect(),
                dense.collect(),
                parts.iter().map(|part| part.out.array()).collect(),
                array(counts[0]),
                array(counts[1]),
                parts.iter().map(|part| part.at(table, *vector)).collect(),
                sort.map_or_else(nothing_counted, |(unsorted, _)| unsorted.counting()),
                parts.iter().map(|part| part.bags.weighted.is_some()).collect(),
                lists.len(),
                sort.is_some(),
                sort.map_or(0, |(unsorted, _)| unsorted.plan.bits),
            );
        }
    }
}

/// See [`Kernels::pool`](crate::backend::Kernels::pool).
pub(super) fn pool<R: CubeRuntime, B: OnCube<R>>(
    table: CubeTensor<R>,
    bags: &InputBags<CubeTensor<R>, Indices<B>>,
) -> Pooled<CubeTensor<R>> {
    let pooling = Pooling::new(table, bags);
    pooling.launch(None);
    pooling.pooled()
}

/// The same for entries that will be sorted.
pub(super) fn pool_to_sort<R: CubeRuntime, B: OnCube<R>>(
    table: CubeTensor<R>,
    bags: &InputBags<CubeTensor<R>, Indices<B>>,
) -> Pooled<CubeTensor<R>> {
    let unsorted = Unsorted::new::<B>(bags, table.meta.shape()[0] / bags.own.tables);
    let pooling = Pooling::new(table, bags);
    let mut counted = false;
    bags.own.slots.counts(unsorted.numbers(), || {
        let counts = unsorted.plan.counts(&unsorted.lists[0]);
        pooling.launch(Some((&unsorted, &counts)));
        counted = true;
        counts.into_pair()
    });
    if !counted {
        // They had been counted before.
        pooling.launch(None);
    }
    pooling.pooled()
}

/// The first cubes count a tile of entries each, the others pool: they are dealt to the parts in their order.
#[allow(clippy::needless_range_loop, reason = "CubeCL unrolls loops over ranges alone")]
#[cube(launch_unchecked, address_type = "dynamic")]
fn pool_kernel<N: Size>(
    table: &Array<Vector<f32, N>>,
    lists: &Sequence<Array<i32>>,
    segments: &Sequence<Array<i32>>,
    weights: &Sequence<Array<f32>>,
    dense: &Sequence<Array<Vector<f32, N>>>,
    outs: &mut Sequence<Array<Vector<f32, N>>>,
    counts: &mut Array<i32>,
    later: &mut Array<i32>,
    at: &Sequence<PartAt>,
    counting: Counting,
    #[comptime] bagged: Vec<bool>,
    #[comptime] num_lists: usize,
    #[comptime] counts_too: bool,
    #[comptime] bits: u32,
) {
    let cube = CUBE_POS;
    let mut first = 0usize;
    if comptime!(counts_too) {
        if cube < counting.tiles {
            count_tile(lists, counts, later, &counting, cube, num_lists, bits);
        }
        first = counting.tiles;
    }
    let parts = comptime!(bagged.len());
    #[unroll]
    for part in 0..parts {
        let next = first + cubes_of(at, part);
        if cube >= first && cube < next {
            let unit = (cube - first) * comptime!(UNITS as usize) + UNIT_POS as usize;
            pool_part::<N>(
                table,
                lists,
                segments,
                weights,
                dense,
                outs,
                at,
                unit,
                part,
                comptime!(bagged[part]),
            );
        }
        first = next;
    }
}

/// Cubes that pool a part.
#[cube]
fn cubes_of(at: &Sequence<PartAt>, #[comptime] part: usize) -> usize {
    at.index(part).units.div_ceil(comptime!(UNITS as usize))
}

/// A vector of a part's output; nothing beyond the last one.
#[cube]
fn pool_part<N: Size>(
    table: &Array<Vector<f32, N>>,
    lists: &Sequence<Array<i32>>,
    segments: &Sequence<Array<i32>>,
    weights: &Sequence<Array<f32>>,
    dense: &Sequence<Array<Vector<f32, N>>>,
    outs: &mut Sequence<Array<Vector<f32, N>>>,
    at: &Sequence<PartAt>,
    unit: usize,
    #[comptime] part: usize,
    #[comptime] bagged: bool,
) {
    let part_at = at.index(part);
    if unit < part_at.units {
        let slots = lists.index(part);
        let (out_row, column) = part_at.width.div_mod(unit);
        let (copy, row) = part_at.rows.div_mod(out_row);
        let mut found = Vector::<f32, N>::new(0.0f32);
        if column < part_at.sparse_width {
            let (feature, vector) = part_at.dim.div_mod(column);
            let bag = row * part_at.num_sparse + feature;
            let first_row = copy * part_at.table_rows;
            if comptime!(bagged) {
                let segments = segments.index(part);
                let start = lower_bound(segments, i32::cast_from(bag), part_at.entries);
                let end = lower_bound(segments, i32::cast_from(bag + 1), part_at.entries);
                for entry in start..end {
                    let source = (first_row + usize::cast_from(slots[entry])) * part_at.table_stride + vector;
                    found += Vector::new(weights.index(part)[entry]) * table[source];
                }
            } else {
                found = table[(first_row + usize::cast_from(slots[bag])) * part_at.table_stride + vector];
            }
        } else {
            found = dense.index(part)[row * part_at.dense_stride + column - part_at.sparse_width];
        }
        let out = outs.index_mut(part);
        out[out_row * part_at.out_stride + column] = found;
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
