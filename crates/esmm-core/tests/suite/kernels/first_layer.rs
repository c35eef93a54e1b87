//! The first layer: pooling of table rows, features of groups, and a layer.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorMetadata};
use esmm_core::backend::{
    Bags, DeviceFacts, FirstLayer, GroupBags, GroupedInput, InputBags, Kernels, LayerSpec, LayerWeights,
    Moments, Pooled, Reference, SharedFeatures,
};
use esmm_core::{Activation, EsmmBackend, Indices};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::layer::weights;
use super::{
    Expected, batch_rows, blocks, moved_saved, near, near_first_layer, near_saved, on_all_backends,
    on_cpu_backends,
};
use crate::common::{flat, ints, moved, primitive, random, tensor};

/// How near 0 the rounding of f32 may take a value before an activation to the other side.
const KINK: f64 = 2e-6;
/// Variances of a column that has hardly any; inputs and weights are of the size of 1.
const FLAT: f64 = 0.01;
/// How often a case is drawn anew; narrow inputs nearly always have a flat column.
pub(super) const DRAWS: usize = 20;

on_all_backends!(gathering, other_types);

mod kernels {
    use super::{layers, on_cpu_backends, pooling, popular_rows};

    on_cpu_backends!(pooling, popular_rows, layers);
}

/// What the bags of a case are like. Half of the features of the first two are single ids among few rows of the table,
/// so that kernels which look for such features find some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    /// One id of weight 1 in every bag.
    Single,
    /// Bags of up to three weighted ids, some of them empty.
    Bags,
    /// All entries on one row of the table.
    OneRow,
    /// The same in weighted bags.
    OneRowInBags,
    /// No id at all: one entry of weight 0.
    Empty,
}

impl Entries {
    pub(super) const ALL: [Self; 5] =
        [Self::Single, Self::Bags, Self::OneRow, Self::OneRowInBags, Self::Empty];

    fn are_weighted(self) -> bool {
        match self {
            Self::Single | Self::OneRow => false,
            Self::Bags | Self::OneRowInBags | Self::Empty => true,
        }
    }
}

/// How the rows of a batch are spread over groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Groups {
    /// Any number of them, at most a third of the rows.
    Several,
    /// Each row is a group.
    OneEach,
    /// All rows are one group.
    OneForAll,
    /// More than rows, so that some have none.
    Unread,
}

impl Groups {
    pub(super) const ALL: [Self; 4] = [Self::Several, Self::OneEach, Self::OneForAll, Self::Unread];

    /// Their number, and that of each row.
    fn draw(self, rng: &mut ChaCha8Rng, rows: usize) -> (usize, Vec<usize>) {
        let count = match self {
            Self::Several => rng.random_range(1..=rows.div_ceil(3)),
            Self::OneEach => rows,
            Self::OneForAll => 1,
            Self::Unread => 2 * rows + 3,
        };
        let mut of_rows: Vec<usize> = match self {
            Self::OneEach => (0..rows).collect(),
            Self::Several | Self::OneForAll | Self::Unread => {
                (0..rows).map(|_| rng.random_range(0..count)).collect()
            }
        };
        if self == Self::OneEach {
            of_rows.shuffle(rng);
        }
        (count, of_rows)
    }
}

/// Bags in host memory.
#[derive(Debug, Clone)]
struct BagsCase {
    tables: usize,
    rows: usize,
    num_sparse: usize,
    /// Columns of each dense feature: 1, or one a bin.
    bins: Vec<usize>,
    slots: Vec<usize>,
    weighted: Option<(Vec<usize>, Vec<f64>)>,
    seed: u64,
}

/// A table, its bags, and a layer.
#[derive(Debug, Clone)]
pub(super) struct FirstLayerCase {
    name: String,
    repeats: bool,
    tables: usize,
    table_rows: usize,
    dim: usize,
    own: BagsCase,
    groups: Option<(BagsCase, Vec<usize>, Arc<SharedFeatures>)>,
    towers: usize,
    inputs: usize,
    outputs: usize,
    batch_norm: bool,
    spec: LayerSpec,
    seed: u64,
}

impl BagsCase {
    fn new(
        rng: &mut ChaCha8Rng,
        [tables, table_rows]: [usize; 2],
        [rows, num_sparse]: [usize; 2],
        bins: Vec<usize>,
        entries: Entries,
    ) -> Self {
        let repeats = matches!(entries, Entries::OneRow | Entries::OneRowInBags);
        let features: Vec<_> = (0..num_sparse)
            .map(|_| {
                let is_narrow = rng.random();
                let start = rng.random_range(0..table_rows);
                let end = table_rows.min(start + rng.random_range(1..9));
                match (repeats, is_narrow) {
                    (true, _) => (false, table_rows - 1..table_rows),
                    (false, true) => (true, start..end),
                    (false, false) => (false, 0..table_rows),
                }
            })
            .collect();
        let mut slots = Vec::new();
        let mut segments = Vec::new();
        let mut weights = Vec::new();
        for bag in 0..rows * num_sparse {
            let (is_narrow, range) = &features[bag % num_sparse];
            let is_single = *is_narrow || !entries.are_weighted();
            let count =
                match entries {
                    Entries::Empty => 0,
                    Entries::Single | Entries::Bags | Entries::OneRow | Entries::OneRowInBags => {
                        if is_single { 1 } else { rng.random_range(0..4) }
                    }
                };
            for _ in 0..count {
                slots.push(rng.random_range(range.clone()));
                segments.push(bag);
                weights.push(if is_single { 1.0 } else { rng.random_range(-1.0..1.0) });
            }
        }
        if slots.is_empty() {
            (slots, segments, weights) = (vec![0], vec![0], vec![0.0]);
        }
        let weighted = entries.are_weighted().then_some((segments, weights));
        Self { tables, rows, num_sparse, bins, slots, weighted, seed: rng.random::<u32>().into() }
    }

    fn dense_width(&self) -> usize {
        self.bins.iter().sum()
    }

    /// Numbers and positions among bins, `[B, N]`; both ends of the bins are among them.
    fn dense(&self) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut number = |&bins: &usize| match (bins, rng.random_range(0..8)) {
            (1, _) => rng.random_range(-1.0..1.0),
            (_, 0) => 0.0,
            (_, 1) => bins as f64,
            (_, 2) => f64::from(rng.random_range(0..bins as u32)),
            _ => f64::from(rng.random_range(0.0..bins as f32)),
        };
        (0..self.rows).flat_map(|_| self.bins.iter().map(&mut number).collect::<Vec<_>>()).collect()
    }

    /// The same with a column for each bin, `[B, V]`.
    fn dense_columns(&self) -> Vec<f64> {
        let dense = self.dense();
        let numbers = dense.iter().zip(self.bins.iter().cycle());
        let columns = numbers.map(|(&number, &bins)| match bins {
            1 => vec![number],
            _ => (0..bins).map(|bin| (number - bin as f64).clamp(0.0, 1.0)).collect(),
        });
        columns.flatten().collect()
    }

    fn bags<B: DeviceFacts>(&self) -> Bags<FloatTensor<B>, Indices<B>> {
        let weighted = self.weighted.as_ref().map(|(segments, weights)| {
            (ints::<B>(segments), primitive(tensor::<B, 1>(weights, [weights.len()])))
        });
        let has_positions = B::READS_POSITIONS && self.bins.iter().any(|bins| *bins > 1);
        let dense = || match has_positions {
            true => primitive(tensor::<B, 2>(&self.dense(), [self.rows, self.bins.len()])),
            false => primitive(tensor::<B, 2>(&self.dense_columns(), [self.rows, self.dense_width()])),
        };
        Bags {
            tables: self.tables,
            rows: self.rows,
            num_sparse: self.num_sparse,
            slots: ints::<B>(&self.slots),
            weighted,
            dense: (!self.bins.is_empty()).then(dense),
            bins: has_positions.then(|| self.bins.clone().into()),
        }
    }
}

impl FirstLayerCase {
    /// A case with these entries, with groups or without.
    pub(super) fn new(rng: &mut ChaCha8Rng, rows: usize, entries: Entries, with_groups: bool) -> Self {
        Self::with_groups(rng, rows, entries, with_groups.then_some(Groups::Several))
    }

    /// A case with these entries; groups and rows keep a feature each where there are groups.
    pub(super) fn with_groups(
        rng: &mut ChaCha8Rng,
        rows: usize,
        entries: Entries,
        groups: Option<Groups>,
    ) -> Self {
        let with_groups = groups.is_some();
        let towers = rng.random_range(1..4);
        let tables = if rng.random() { 1 } else { towers };
        let table_rows = rng.random_range(1..900);
        let dim = rng.random_range(1..40);
        let num_sparse = rng.random_range(if with_groups { 2..6 } else { 1..6 });
        let mut sparse = vec![false; num_sparse];
        let bins: Vec<(usize, bool)> = (0..rng.random_range(0..4))
            .map(|_| {
                let columns = if rng.random() { 1 } else { rng.random_range(2..20) };
                (columns, with_groups && rng.random::<bool>())
            })
            .collect();
        let dense: Vec<bool> =
            bins.iter().flat_map(|(columns, is_shared)| vec![*is_shared; *columns]).collect();
        let inputs = sparse.len() * dim + dense.len();
        let shared = if with_groups { rng.random_range(1..num_sparse) } else { 0 };
        sparse[..shared].fill(true);
        sparse.shuffle(rng);
        let bins_of = |of_groups: bool| -> Vec<usize> {
            let those = bins.iter().filter(|(_, is_shared)| *is_shared == of_groups);
            those.map(|(columns, _)| *columns).collect()
        };
        let own_sizes = [rows, num_sparse - shared];
        let own = BagsCase::new(rng, [tables, table_rows], own_sizes, bins_of(false), entries);
        let name = format!("{rows} rows, {entries:?}, groups {groups:?}");
        let groups = groups.map(|groups| {
            let (count, of_rows) = groups.draw(rng, rows);
            let other = if rng.random() { Entries::Single } else { Entries::Bags };
            let features = Arc::new(SharedFeatures { sparse, dense });
            let bags = BagsCase::new(rng, [tables, table_rows], [count, shared], bins_of(true), other);
            (bags, of_rows, features)
        });
        Self {
            name,
            repeats: matches!(entries, Entries::OneRow | Entries::OneRowInBags),
            tables,
            table_rows,
            dim,
            own,
            groups,
            towers,
            inputs,
            outputs: rng.random_range(1..150),
            batch_norm: false,
            spec: LayerSpec::LINEAR,
            seed: rng.random::<u32>().into(),
        }
    }

    pub(super) fn table<B: Backend>(&self) -> FloatTensor<B> {
        random::<B, 2>(self.seed + 7, [self.tables * self.table_rows, self.dim])
    }

    pub(super) fn bags<B: DeviceFacts>(&self) -> InputBags<FloatTensor<B>, Indices<B>> {
        let groups = self.groups.as_ref().map(|(bags, of_rows, features)| GroupBags {
            bags: bags.bags::<B>(),
            of_rows: ints::<B>(of_rows),
            features: features.clone(),
        });
        InputBags { own: self.own.bags::<B>(), groups }
    }

    /// Copies of the table, rows of one, and their width.
    pub(super) fn table_sizes(&self) -> [usize; 3] {
        [self.tables, self.table_rows, self.dim]
    }

    /// Towers, rows, width of the input.
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.towers, self.own.rows, self.inputs]
    }

    /// The shapes of what is pooled: of what rows have of their own, and of what groups share.
    fn pooled_shapes(&self) -> Pooled<[usize; 3]> {
        let shape =
            |bags: &BagsCase| [bags.tables, bags.rows, bags.num_sparse * self.dim + bags.dense_width()];
        Pooled { own: shape(&self.own), shared: self.groups.as_ref().map(|(bags, ..)| shape(bags)) }
    }

    /// Gradients of what is pooled.
    pub(super) fn pooled_grads<B: Backend>(&self, seed: u64) -> Pooled<FloatTensor<B>> {
        let mut seeds = seed..;
        self.pooled_shapes().map(|shape| random::<B, 3>(seeds.next().unwrap(), shape))
    }

    /// What the first layer reads where groups share features, in what the definition pooled.
    pub(super) fn grouped<B: DeviceFacts>(&self) -> GroupedInput<FloatTensor<B>, Indices<B>> {
        let pooled =
            <Reference as Kernels<Expected>>::pool(self.table::<Expected>(), self.bags::<Expected>());
        let Pooled { own, shared } = pooled.map(moved::<Expected, B>);
        let shared = shared.unwrap();
        GroupedInput { own, shared, bags: self.bags::<B>(), num_rows: self.table_rows }
    }

    /// Many rows of few columns, so that software devices are done soon.
    pub(super) fn narrow(mut self) -> Self {
        self.dim = 4;
        self.outputs = 4;
        let columns = |bags: &BagsCase| bags.num_sparse * 4 + bags.dense_width();
        self.inputs = columns(&self.own) + self.groups.as_ref().map_or(0, |(bags, ..)| columns(bags));
        self
    }

    pub(super) fn operands<B: DeviceFacts>(&self) -> FirstLayer<FloatTensor<B>, Indices<B>> {
        let shape = [self.towers, self.inputs, self.outputs];
        let weights = weights::<B>(self.seed, shape, self.batch_norm, self.spec.activation);
        FirstLayer { table: self.table::<B>(), bags: self.bags::<B>(), weights }
    }

    pub(super) fn grad<B: Backend>(&self, outputs: usize) -> FloatTensor<B> {
        random::<B, 3>(self.seed + 6, [self.towers, self.own.rows, outputs])
    }

    pub(super) fn spec(&self) -> LayerSpec {
        self.spec
    }

    /// The same with this block.
    pub(super) fn with_block(self, batch_norm: bool, spec: LayerSpec) -> Self {
        Self { batch_norm, spec, ..self }
    }

    /// Number of groups; 0 without.
    pub(super) fn num_groups(&self) -> usize {
        self.groups.as_ref().map_or(0, |(bags, ..)| bags.rows)
    }

    /// Columns of the layer's output.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Whether rounding may decide the slope of an activation, because a value lies at its kink, or a batch norm divides by the
    /// spread of a column that hardly has any. Gradients are then no test of a kernel.
    pub(super) fn is_decided_by_rounding(&self) -> bool {
        let mut operands = self.operands::<Expected>();
        operands.weights.slope = None;
        let spec = LayerSpec { activation: Activation::None, dropout: None, ..self.spec };
        let (before, _) = <Reference as Kernels<Expected>>::first_layer(operands, spec);
        let is_flat = |moments: &Moments<FloatTensor<Expected>>| {
            flat::<Expected>(&moments.variance).into_iter().any(|variance| variance < FLAT)
        };
        let bends = !matches!(self.spec.activation, Activation::None);
        let mut values = flat::<Expected>(&before.output).into_iter();
        before.saved.moments.as_ref().is_some_and(is_flat) || bends && values.any(|value| value.abs() < KINK)
    }

    /// Whether nothing but cancellation may be left of gradients.
    pub(super) fn floor(&self) -> f64 {
        // Where every entry reads one row its gradient is one sum of all of theirs.
        let cancels = self.repeats || self.batch_norm && self.own.rows <= 3;
        if cancels { 1.0 } else { 0.01 }
    }

    fn check<B: EsmmBackend>(
        &self,
        on_b: &FirstLayer<FloatTensor<B>, Indices<B>>,
        on_expected: &FirstLayer<FloatTensor<Expected>, Indices<Expected>>,
        outputs: usize,
    ) {
        let what = |name: &str| {
            let shape = (self.tables, self.table_rows, self.dim, self.towers, self.inputs, outputs);
            format!(
                "{name}, T, U, D, K, I, O {shape:?}, {}, batch norm {}, {:?}",
                self.name, self.batch_norm, self.spec
            )
        };
        let (found, own) = B::Kernels::first_layer(on_b.clone(), self.spec);
        let (expected, expected_own) =
            <Reference as Kernels<Expected>>::first_layer(on_expected.clone(), self.spec);
        assert_eq!(found.output.shape(), expected.output.shape(), "{}", what("shape"));
        near::<B>(&what("output"), &found.output, &expected.output);
        near_saved::<B>(&what, &found.saved, &expected.saved);
        // Both backward passes from the same point: near a kink of the activation rounding decides the slope.
        let saved = moved_saved::<B>(&expected.saved);
        let grad = self.grad::<B>(outputs);
        let found = B::Kernels::first_layer_backward(on_b.clone(), saved, own, grad, self.spec);
        let expected = <Reference as Kernels<Expected>>::first_layer_backward(
            on_expected.clone(),
            expected.saved,
            expected_own,
            self.grad::<Expected>(outputs),
            self.spec,
        );
        near_first_layer::<B>(&what, self.floor(), &found, &expected);
    }
}

/// The identity `[K, I, I]` without a bias: the layer returns its pooled input.
fn identity<B: Backend>(towers: usize, width: usize) -> LayerWeights<FloatTensor<B>> {
    let eye = (0..towers * width * width).map(|index| f64::from(index / width % width == index % width));
    LayerWeights {
        weight: primitive(tensor::<B, 3>(&eye.collect::<Vec<_>>(), [towers, width, width])),
        bias: primitive(Tensor::<B, 2>::zeros([towers, width], &Default::default())),
        norm: None,
        slope: None,
    }
}

/// Rows of the table, to the bit.
fn gathering<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for dim in [1, 7, 18, 32] {
        let height = rng.random_range(1..500);
        let count = rng.random_range(1..700);
        let rows: Vec<usize> = (0..count).map(|_| rng.random_range(0..height)).collect();
        let seed = rng.random::<u32>().into();
        let found = B::Kernels::gather_rows(random::<B, 2>(seed, [height, dim]), ints::<B>(&rows));
        let table = random::<Expected, 2>(seed, [height, dim]);
        let expected = <Reference as Kernels<Expected>>::gather_rows(table, ints::<Expected>(&rows));
        assert_eq!(flat::<B>(&found), flat::<Expected>(&expected));
    }
}

/// Pooling alone, and its backward: the weights are the identity.
fn pooling<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for entries in Entries::ALL {
        for (index, &rows) in batch_rows::<B>().iter().enumerate() {
            let case = FirstLayerCase::new(&mut rng, rows, entries, index % 3 == 2);
            let [towers, _, width] = case.sizes();
            let on_b = FirstLayer { weights: identity::<B>(towers, width), ..case.operands::<B>() };
            let on_expected =
                FirstLayer { weights: identity::<Expected>(towers, width), ..case.operands::<Expected>() };
            case.check::<B>(&on_b, &on_expected, width);
        }
    }
}

/// A slot with more entries than a piece of a device's sum holds: 5000 need 40 pieces.
fn popular_rows<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for entries in [Entries::Single, Entries::Bags] {
        let mut case = FirstLayerCase::new(&mut rng, 5000, entries, false).narrow();
        let last = case.table_rows - 1;
        case.own.slots.iter_mut().step_by(2).for_each(|slot| *slot = last);
        case.check::<B>(&case.operands::<B>(), &case.operands::<Expected>(), 4);
    }
}

/// Every kind of block on every kind of entries, with groups and without.
fn layers<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let rows = batch_rows::<B>();
    let mut entries = Entries::ALL.into_iter().cycle();
    for (index, (activation, batch_norm, dropout)) in blocks().into_iter().enumerate() {
        for with_groups in [false, true] {
            // A batch norm over rows that are alike, as two may be, divides their rounding by the root of epsilon.
            let entries = match entries.next().unwrap() {
                Entries::OneRow | Entries::OneRowInBags | Entries::Empty if batch_norm => Entries::Bags,
                entries => entries,
            };
            let rows = match rows[(2 * index + usize::from(with_groups)) % rows.len()] {
                2 if batch_norm => 3,
                rows => rows,
            };
            let spec = LayerSpec { epsilon: 1e-5, activation, dropout, ..LayerSpec::LINEAR };
            let mut drawn = || FirstLayerCase {
                batch_norm,
                spec,
                ..FirstLayerCase::new(&mut rng, rows, entries, with_groups)
            };
            let mut case = drawn();
            for _ in 0..DRAWS {
                if !case.is_decided_by_rounding() {
                    break;
                }
                case = drawn();
            }
            case.check::<B>(&case.operands::<B>(), &case.operands::<Expected>(), case.outputs);
        }
    }
}

/// Tensors that are not f32 go to the definition.
fn other_types<B: EsmmBackend>() {
    let dtype = if B::QUEUES_WORK { DType::F16 } else { DType::F64 };
    if !B::supports_dtype(&Default::default(), dtype) {
        eprintln!("this device has no {dtype:?}: the fallback was not run");
        return;
    }
    let case = FirstLayerCase::new(&mut ChaCha8Rng::seed_from_u64(9), 5, Entries::Bags, false);
    let as_other = |tensor: FloatTensor<B>| B::float_cast(tensor, dtype.into());
    let rows = ints::<B>(&case.own.slots);
    let found = B::Kernels::gather_rows(as_other(case.table::<B>()), rows);
    assert_eq!(found.dtype(), dtype);
    let rows = ints::<Expected>(&case.own.slots);
    let expected = <Reference as Kernels<Expected>>::gather_rows(case.table::<Expected>(), rows);
    // f16 keeps 11 bits.
    let found = flat::<B>(&found);
    let expected = flat::<Expected>(&expected);
    crate::common::assert_near("other type", &found, &expected, 1e-3, 0.0);
    if dtype == DType::F64 {
        let operands = case.operands::<B>().map(as_other, |indices| indices);
        let (output, own) = B::Kernels::first_layer(operands.clone(), case.spec);
        assert_eq!(output.output.dtype(), dtype);
        let grad = as_other(case.grad::<B>(case.outputs));
        let found = B::Kernels::first_layer_backward(operands, output.saved, own, grad, case.spec);
        assert_eq!(found.table.dtype(), dtype);
        assert_eq!(case.spec.activation, Activation::None);
    }
}
