//! The first layer where groups of rows share features: what they share is multiplied once a group.

use std::ops::Range;

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::bags::pool;
use super::chunks::{LANES, LINES, Layout, add_lines};
use super::from_above::FromAbove;
use super::infer::{apply, apply_layers, rest_of, whole_layer};
use super::layer::{Columns, after_matmul};
use super::layer_backward::{WeightSums, after_matmul_backward};
use super::matmul::{Matmul, layer_matmul, layer_matmul_backward};
use super::sort::{Sorted, sorted};
use super::tensor::{OnCube, Rows, address, array, empty_plain, grid, grid_of, ints, vector_size};
use crate::backend::{
    GroupedInput, GroupedLayer, Indices, InferenceLayer, InputBags, LayerOutput, LayerSaved, LayerSpec,
    Moments, Pooled, Running, SharedFeatures,
};
use crate::precision::Precision;

/// See [`Kernels::grouped_layer`](crate::backend::Kernels::grouped_layer); with the running statistics after the step.
pub(super) fn grouped_layer<R: CubeRuntime, B: OnCube<R>>(
    operands: GroupedLayer<CubeTensor<R>, Indices<B>>,
    running: Option<Running<CubeTensor<R>>>,
    spec: LayerSpec,
) -> (LayerOutput<CubeTensor<R>>, Option<Moments<CubeTensor<R>>>) {
    let GroupedLayer { input, weights } = operands;
    let is_linear = spec.is_linear(&weights);
    let (weight, columns) = Columns::split(weights);
    let tensor = grouped_matmul::<R, B>(&input, weight, spec.precision);
    after_matmul(Matmul { tensor, biased: false, moments: None }, columns, running, spec, is_linear)
}

/// See [`Kernels::grouped_layer_backward`](crate::backend::Kernels::grouped_layer_backward): gradients of what rows have of
/// their own, of what groups share, and of the weights.
pub(super) fn grouped_layer_backward<R: CubeRuntime, B: OnCube<R>>(
    operands: GroupedLayer<CubeTensor<R>, Indices<B>>,
    saved: LayerSaved<CubeTensor<R>>,
    grad: FromAbove<R>,
    spec: LayerSpec,
) -> ([CubeTensor<R>; 2], WeightSums<R>) {
    let GroupedLayer { input, weights } = operands;
    let is_linear = spec.is_linear(&weights);
    let (weight, columns) = Columns::split(weights);
    let shape = weight.meta.shape();
    let [towers, outputs] = [shape[0], shape[2]];
    let side_by_side = input.own.meta.shape()[0] != towers;
    let (hidden, columns) =
        after_matmul_backward::<R, B>(columns, saved, grad, spec, is_linear, side_by_side);
    let by_group = sums_by_group::<R, B>(&hidden.tensor, &input, [towers, outputs]);
    let split = Split::of(&input);
    let [own_weight, shared_weight] = split.split(weight);
    let GroupedInput { own, shared, .. } = input;
    let (own_input, own_weight) = layer_matmul_backward::<R, B>(own, own_weight, hidden, spec.precision);
    let (shared_input, shared_weight) =
        layer_matmul_backward::<R, B>(shared, shared_weight, by_group, spec.precision);
    let weights = WeightSums::Grouped { own: own_weight, shared: shared_weight, split, columns };
    ([own_input, shared_input], weights)
}

/// See [`Kernels::infer`](crate::backend::Kernels::infer).
pub(super) fn infer<R: CubeRuntime, B: OnCube<R>>(
    table: CubeTensor<R>,
    bags: InputBags<CubeTensor<R>, Indices<B>>,
    layers: Vec<InferenceLayer<CubeTensor<R>>>,
) -> CubeTensor<R> {
    let num_rows = table.meta.shape()[0] / bags.own.tables;
    let Pooled { own, shared } = pool::<R, B>(table, &bags);
    let Some(shared) = shared else { return apply_layers::<R, B, _>(own, layers, whole_layer) };
    let input = GroupedInput { own, shared, bags, num_rows };
    apply_layers::<R, B, _>(input, layers, |input, layer| {
        let matmul = grouped_matmul::<R, B>(&input, layer.weight.clone(), Precision::F32);
        apply(matmul, rest_of(layer))
    })
}

/// `weight [K, I, O]` to `[K, B, O]`.
fn grouped_matmul<R: CubeRuntime, B: OnCube<R>>(
    input: &GroupedInput<CubeTensor<R>, Indices<B>>,
    weight: CubeTensor<R>,
    precision: Precision,
) -> CubeTensor<R> {
    let [own, shared] = Split::of(input).split(weight);
    let matmul = Rows::new(layer_matmul(input.own.clone(), own, None, precision, false).tensor);
    let of_groups = Rows::new(layer_matmul(input.shared.clone(), shared, None, precision, false).tensor);
    add_groups(&matmul, &of_groups, &ints(&input.groups().of_rows));
    matmul.tensor
}

/// Which rows of a weight meet what the rows of a batch have of their own, and which what groups share.
pub(super) struct Split {
    ranges: Vec<SplitRange>,
    own: usize,
    shared: usize,
}

/// Neighbouring rows of a weight that belong to one part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SplitRange {
    rows: Range<usize>,
    /// Where they begin in their part.
    start: usize,
    is_shared: bool,
}

impl Split {
    /// The split of a layer that reads this.
    fn of<R: CubeRuntime, I>(input: &GroupedInput<CubeTensor<R>, I>) -> Self {
        let bags = &input.bags.own;
        let num_dense = bags.dense.as_ref().map_or(0, |dense| dense.meta.shape()[1]);
        let dim = (input.own.meta.shape()[2] - num_dense) / bags.num_sparse;
        Self::new(&input.groups().features, dim)
    }

    fn new(features: &SharedFeatures, dim: usize) -> Self {
        let mut ranges = Vec::new();
        let [own, shared] = [false, true].map(|is_shared| {
            let mut start = 0;
            for rows in features.columns(is_shared, dim) {
                let len = rows.len();
                ranges.push(SplitRange { rows, start, is_shared });
                start += len;
            }
            start
        });
        Self { ranges, own, shared }
    }

    /// `weight [K, I, O]` to the rows of both parts, `[K, own columns, O]` and `[K, shared columns, O]`.
    fn split<R: CubeRuntime>(&self, weight: CubeTensor<R>) -> [CubeTensor<R>; 2] {
        let whole = Rows::new(weight);
        let [towers, outputs] = [whole.tensor.meta.shape()[0], whole.width];
        let parts = [self.own, self.shared].map(|rows| empty_plain(&whole.tensor, [towers, rows, outputs]));
        self.launch(&whole, &parts, false);
        parts
    }

    /// The inverse of [`split`](Self::split).
    pub(super) fn join<R: CubeRuntime>(&self, own: CubeTensor<R>, shared: CubeTensor<R>) -> CubeTensor<R> {
        let shape = own.meta.shape();
        let whole = empty_plain(&own, [shape[0], self.own + self.shared, shape[2]]);
        self.launch(&Rows::new(whole.clone()), &[own, shared], true);
        whole
    }

    fn launch<R: CubeRuntime>(&self, whole: &Rows<R>, parts: &[CubeTensor<R>; 2], joins: bool) {
        let parts = parts.clone().map(Rows::new);
        let [own, shared] = &parts;
        let rows = self.own + self.shared;
        let vector = vector_size(&[whole.width, whole.stride, own.stride, shared.stride]);
        let units = whole.tensor.meta.num_elements() / vector;
        let (cubes, dim) = grid(&whole.tensor.client, units);
        // SAFETY: one unit for each vector of the whole; each row of it has its own place in one part.
        unsafe {
            split_kernel::launch_unchecked(
                &whole.tensor.client,
                cubes,
                dim,
                address(&[&whole.tensor, &own.tensor, &shared.tensor]),
                vector,
                whole.array(),
                own.array(),
                shared.array(),
                whole.width / vector,
                rows,
                rows,
                self.own,
                self.shared,
                whole.stride / vector,
                own.stride / vector,
                shared.stride / vector,
                units,
                self.ranges.clone(),
                joins,
            );
        }
    }
}

/// Copies rows of the whole to their parts, or back.
#[allow(clippy::needless_range_loop, reason = "CubeCL unrolls loops over ranges alone")]
#[cube(launch_unchecked, address_type = "dynamic")]
fn split_kernel<N: Size>(
    whole: &mut Array<Vector<f32, N>>,
    own: &mut Array<Vector<f32, N>>,
    shared: &mut Array<Vector<f32, N>>,
    width: FastDivmod<usize>,
    rows: FastDivmod<usize>,
    num_rows: usize,
    own_rows: usize,
    shared_rows: usize,
    stride: usize,
    own_stride: usize,
    shared_stride: usize,
    units: usize,
    #[comptime] ranges: Vec<SplitRange>,
    #[comptime] joins: bool,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (at, column) = width.div_mod(ABSOLUTE_POS);
    let (tower, row) = rows.div_mod(at);
    let place = (tower * num_rows + row) * stride + column;
    let count = comptime!(ranges.len());
    #[unroll]
    for index in 0..count {
        let start = comptime!(ranges[index].rows.start);
        let end = comptime!(ranges[index].rows.end);
        let part_start = comptime!(ranges[index].start);
        if row >= start && row < end {
            let part_row = row - start + part_start;
            if comptime!(ranges[index].is_shared) {
                let part_place = (tower * shared_rows + part_row) * shared_stride + column;
                if comptime!(joins) {
                    whole[place] = shared[part_place];
                } else {
                    shared[part_place] = whole[place];
                }
            } else {
                let part_place = (tower * own_rows + part_row) * own_stride + column;
                if comptime!(joins) {
                    whole[place] = own[part_place];
                } else {
                    own[part_place] = whole[place];
                }
            }
        }
    }
}

/// Adds to each row of `matmul [K, B, O]` that of its group, `of_groups [K, G, O]`, in place.
fn add_groups<R: CubeRuntime>(matmul: &Rows<R>, of_groups: &Rows<R>, of_rows: &CubeTensor<R>) {
    let rows = matmul.tensor.meta.shape()[1];
    let vector = vector_size(&[matmul.width, matmul.stride, of_groups.stride]);
    let units = matmul.tensor.meta.num_elements() / vector;
    let (cubes, dim) = grid(&matmul.tensor.client, units);
    // SAFETY: one unit for each vector of the matmul; groups of rows were checked when the batch was built.
    unsafe {
        add_groups_kernel::launch_unchecked(
            &matmul.tensor.client,
            cubes,
            dim,
            address(&[&matmul.tensor, &of_groups.tensor]),
            vector,
            matmul.array(),
            of_groups.array(),
            array(of_rows),
            matmul.width / vector,
            rows,
            of_groups.tensor.meta.shape()[1],
            matmul.stride / vector,
            of_groups.stride / vector,
            units,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn add_groups_kernel<N: Size>(
    matmul: &mut Array<Vector<f32, N>>,
    of_groups: &Array<Vector<f32, N>>,
    of_rows: &Array<i32>,
    width: FastDivmod<usize>,
    rows: FastDivmod<usize>,
    groups: usize,
    stride: usize,
    group_stride: usize,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    let (tower, batch_row) = rows.div_mod(row);
    let group = tower * groups + usize::cast_from(of_rows[batch_row]);
    matmul[row * stride + column] += of_groups[group * group_stride + column];
}

/// What a kernel knows of where the rows of groups lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct GroupsAt {
    /// Rows of the batch, and groups.
    rows: usize,
    groups: usize,
    /// Place of the first row of the batch among what is sorted.
    first: usize,
    /// Number that the first group is sorted by.
    base: u32,
}

/// Sums over the rows of each group: `[K, B, O]` to `[K, G, O]`, or with the towers side by side `[B, K * O]` to
/// `[G, K * O]`. A cube takes all rows of a group, of some columns: a batch that is one group is summed by few.
fn sums_by_group<R: CubeRuntime, B: OnCube<R>>(
    grad: &CubeTensor<R>,
    input: &GroupedInput<CubeTensor<R>, Indices<B>>,
    [towers, outputs]: [usize; 2],
) -> CubeTensor<R> {
    let count = input.groups().bags.rows;
    let of_towers = if grad.meta.num_dims() == 2 { None } else { Some(towers) };
    let grad = Rows::new(grad.clone());
    let out = match of_towers {
        None => Rows::empty(&grad.tensor, [count, towers * outputs]),
        Some(towers) => Rows::empty(&grad.tensor, [towers, count, outputs]),
    };
    let Sorted { rows, entries, num_entries, num_rows } = sorted::<R, B>(&input.bags, input.num_rows);
    let vector = vector_size(&[grad.width, grad.stride, out.stride]);
    let columns = grad.width / vector;
    let across = columns.div_ceil(LANES as usize);
    let matrices = of_towers.unwrap_or(1);
    // SAFETY: sorted entries after the last one of the table are rows of this batch, each once; units beyond the last column
    // read and write nothing, and cubes beyond the last group.
    unsafe {
        sums_by_group_kernel::launch_unchecked(
            &grad.tensor.client,
            grid_of(matrices * count * across),
            CubeDim::new_2d(LANES, LINES),
            address(&[&grad.tensor, &out.tensor]),
            vector,
            grad.array(),
            array(&rows),
            array(&entries),
            out.array(),
            GroupsAtLaunch::new(input.bags.own.rows, count, num_entries, num_rows as u32),
            across,
            matrices,
            columns,
            grad.stride / vector,
            out.stride / vector,
        );
    }
    out.tensor
}

/// Each line of a cube adds its share of the rows of a group in their order, then lines are added.
#[cube(launch_unchecked, address_type = "dynamic")]
fn sums_by_group_kernel<N: Size>(
    grad: &Array<Vector<f32, N>>,
    numbers: &Array<i32>,
    entries: &Array<i32>,
    out: &mut Array<Vector<f32, N>>,
    at: GroupsAt,
    across: usize,
    matrices: usize,
    columns: usize,
    stride: usize,
    out_stride: usize,
) {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!((LANES * LINES) as usize));
    let cube = CUBE_POS;
    let column = cube % across * comptime!(LANES as usize) + UNIT_POS_X as usize;
    let group = cube / across % at.groups;
    let matrix = cube / across / at.groups;
    let exists = column < columns && matrix < matrices;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if exists {
        let number = at.base + u32::cast_from(group);
        let start = place_of(numbers, number, &at);
        let end = place_of(numbers, number + 1u32, &at);
        for place in range_stepped(start + UNIT_POS_Y as usize, end, comptime!(LINES as usize)) {
            let row = usize::cast_from(entries[place]) - at.first;
            sum += grad[(matrix * at.rows + row) * stride + column];
        }
    }
    let unit = UNIT_POS as usize;
    sums[unit] = sum;
    sync_cube();
    add_lines::<N>(&mut sums, Layout::JOINING);
    if exists && UNIT_POS_Y == 0 {
        out[(matrix * at.groups + group) * out_stride + column] = sums[unit];
    }
}

/// The first place after all entries whose number is at least `least`.
#[cube]
fn place_of(numbers: &Array<i32>, least: u32, at: &GroupsAt) -> usize {
    let mut low = at.first;
    let mut high = at.first + at.rows;
    while low < high {
        let middle = (low + high) / 2;
        if u32::cast_from(numbers[middle]) < least {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
