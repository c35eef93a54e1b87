//! One batch of impressions, checked once and de-duplicated: what the model reads.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive, backend::Backend};

use crate::backend::{BagPlan, GroupPlan, InputPlan, SharedFeatures};
use crate::batch_builder::BatchBuilder;
use crate::batch_input::BatchInput;
use crate::error::EsmmError;
use crate::schema::FeatureSchema;
use crate::slot_order::{HostSlotOrder, SlotOrder};

/// A batch in host memory, free of any backend, so that another thread can build it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch {
    /// What each row has of its own.
    pub(crate) own: HostPart,
    /// What groups of rows share.
    pub(crate) groups: Option<Box<HostGroups>>,
    /// Distinct rows, where they were looked for.
    pub(crate) touched: Option<Vec<i32>>,
}

/// Some features for some rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct HostPart {
    pub(crate) rows: usize,
    pub(crate) num_sparse: usize,
    /// Place of each entry among the distinct rows, or else its row of the arena.
    pub(crate) entries: Vec<i32>,
    /// Where distinct rows were looked for, the entries sorted by them.
    pub(crate) order: Option<Box<HostSlotOrder>>,
    pub(crate) bags: Option<HostBags>,
    pub(crate) dense: Vec<f32>,
    pub(crate) num_dense: usize,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct HostBags {
    pub(crate) segments: Vec<i32>,
    pub(crate) weights: Vec<f32>,
}

/// Features that were given once a group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostGroups {
    pub(crate) part: HostPart,
    pub(crate) of_rows: Vec<i32>,
    /// Where distinct rows were looked for, the rows of the batch sorted by group.
    pub(crate) rows_by_group: Option<Box<HostSlotOrder>>,
    pub(crate) features: Arc<SharedFeatures>,
}

/// Which bag each entry of a batch belongs to, and what it weighs there.
#[derive(Debug, Clone)]
pub struct Bags<B: Backend> {
    /// Bag of each entry, `row * F + feature`, never falling, `[N]`.
    pub segments: Tensor<B, 1, Int>,
    /// Weight of each entry, mean pooling already divided out, `[N]`.
    pub weights: Tensor<B, 1>,
}

/// How the entries of a batch (ids in order of row, then feature) find their rows.
#[derive(Debug, Clone)]
pub enum Lookup<B: Backend> {
    /// In two steps, so that each row gets one gradient: for training, and good for inference.
    Touched {
        /// The arena rows that the batch touches, each once, `[U]`.
        touched: Tensor<B, 1, Int>,
        /// Place of each entry in `touched`, `[N]`.
        slots: Tensor<B, 1, Int>,
        /// The entries by their place: spares devices a sort on the way back. It belongs to `slots`; whoever changes
        /// those sets it to `None`.
        order: Option<SlotOrder<B>>,
    },
    /// Directly: for inference only.
    Rows(
        /// Arena row of each entry, `[N]`.
        Tensor<B, 1, Int>,
    ),
}

/// A batch on a device.
#[derive(Debug, Clone)]
pub struct FeatureBatch<B: Backend> {
    /// Rows, B.
    pub rows: usize,
    /// Sparse features, F; with groups only those that each row has of its own.
    pub num_sparse: usize,
    /// Where the entries find their rows.
    pub lookup: Lookup<B>,
    /// `None` when every feature has exactly one id of weight 1 in every row; then `N = B * F`.
    pub bags: Option<Bags<B>>,
    /// `[B, dense]`, or `None` without dense features.
    pub dense: Option<Tensor<B, 2>>,
    /// What groups of rows share, where it was given once a group.
    pub groups: Option<GroupFeatures<B>>,
}

/// Features that G groups of rows share, on a device.
#[derive(Debug, Clone)]
pub struct GroupFeatures<B: Backend> {
    /// Groups, G.
    pub count: usize,
    /// Group of each row, `[B]`.
    pub of_rows: Tensor<B, 1, Int>,
    /// The rows by group; as `order` it belongs to what it sorts.
    pub rows_by_group: Option<SlotOrder<B>>,
    /// Sparse features of a group.
    pub num_sparse: usize,
    /// Where each entry finds its row: in `touched`, or in the arena where the batch looks up directly.
    pub entries: Tensor<B, 1, Int>,
    /// As in [`Lookup::Touched`].
    pub order: Option<SlotOrder<B>>,
    /// As in [`FeatureBatch`], with groups for rows.
    pub bags: Option<Bags<B>>,
    /// `[G, dense]`, or `None`.
    pub dense: Option<Tensor<B, 2>>,
    /// Which features of the schema these are.
    pub features: Arc<SharedFeatures>,
}

impl HostBatch {
    /// Rows, B.
    pub fn rows(&self) -> usize {
        self.own.rows
    }

    /// Groups whose features are given once, G; `None` when each row has all of its features.
    pub fn num_groups(&self) -> Option<usize> {
        self.groups.as_ref().map(|groups| groups.part.rows)
    }

    /// Distinct table rows that the batch touches, U; `None` in a batch for inference.
    pub fn num_touched(&self) -> Option<usize> {
        self.touched.as_ref().map(Vec::len)
    }

    /// What follows from the entries once all are there.
    ///
    /// Not every backend takes tensors without elements: a part of empty bags reads row 0 with weight 0.
    pub(crate) fn finish(&mut self) {
        if let Some(touched) = self.touched.as_mut().filter(|touched| touched.is_empty()) {
            touched.push(0);
        }
        let touched = self.touched.as_ref().map(Vec::len);
        self.own.finish(touched);
        if let Some(groups) = &mut self.groups {
            groups.part.finish(touched);
            let order = || HostSlotOrder::new(&groups.of_rows, groups.part.rows);
            groups.rows_by_group = touched.map(|_| Box::new(order()));
        }
    }

    /// Uploads the batch.
    pub fn to_device<B: Backend>(&self, device: &B::Device) -> FeatureBatch<B> {
        self.clone().into_device(device)
    }

    /// Uploads the batch, without a copy of it in host memory on the way.
    pub fn into_device<B: Backend>(self, device: &B::Device) -> FeatureBatch<B> {
        let HostBatch { own, groups, touched } = self;
        let (rows, num_sparse) = (own.rows, own.num_sparse);
        let own = own.into_device::<B>(device);
        FeatureBatch {
            rows,
            num_sparse,
            lookup: match touched {
                Some(touched) => {
                    Lookup::Touched { touched: ints(touched, device), slots: own.entries, order: own.order }
                }
                None => Lookup::Rows(own.entries),
            },
            bags: own.bags,
            dense: own.dense,
            groups: groups.map(|groups| {
                let HostGroups { part, of_rows, rows_by_group, features } = *groups;
                let (count, num_sparse) = (part.rows, part.num_sparse);
                let part = part.into_device::<B>(device);
                GroupFeatures {
                    count,
                    of_rows: ints(of_rows, device),
                    rows_by_group: rows_by_group.map(|order| order.into_device(device)),
                    num_sparse,
                    entries: part.entries,
                    order: part.order,
                    bags: part.bags,
                    dense: part.dense,
                    features,
                }
            }),
        }
    }
}

/// A [`HostPart`] on a device.
struct DevicePart<B: Backend> {
    entries: Tensor<B, 1, Int>,
    order: Option<SlotOrder<B>>,
    bags: Option<Bags<B>>,
    dense: Option<Tensor<B, 2>>,
}

impl HostPart {
    fn finish(&mut self, touched: Option<usize>) {
        if self.entries.is_empty() {
            self.entries.push(0);
            if let Some(bags) = &mut self.bags {
                bags.segments.push(0);
                bags.weights.push(0.0);
            }
        }
        self.order = touched.map(|touched| Box::new(HostSlotOrder::new(&self.entries, touched)));
    }

    fn into_device<B: Backend>(self, device: &B::Device) -> DevicePart<B> {
        let HostPart { rows, num_sparse: _, entries, order, bags, dense, num_dense } = self;
        DevicePart {
            entries: ints(entries, device),
            order: order.map(|order| order.into_device(device)),
            bags: bags.map(|HostBags { segments, weights }| Bags {
                segments: ints(segments, device),
                weights: floats(weights, device),
            }),
            // As one row: CUDA uploads short rows one by one.
            dense: (num_dense > 0).then(|| floats(dense, device).reshape([rows, num_dense])),
        }
    }
}

fn ints<B: Backend>(values: Vec<i32>, device: &B::Device) -> Tensor<B, 1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

fn floats<B: Backend>(values: Vec<f32>, device: &B::Device) -> Tensor<B, 1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

impl<B: Backend> FeatureBatch<B> {
    /// Checks the columns and uploads them: the short way for a single batch.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn new(schema: &FeatureSchema, input: BatchInput<'_>, device: &B::Device) -> Result<Self, EsmmError> {
        Ok(BatchBuilder::new(schema).build(input)?.to_device(device))
    }

    /// Whether no feature is sparse.
    pub(crate) fn is_dense(&self) -> bool {
        self.num_sparse == 0 && self.groups.is_none()
    }

    /// The bags of the touched rows, or of the arena where the batch looks up directly.
    pub(crate) fn plan(&self, tables: usize) -> InputPlan<B> {
        let (entries, order) = match &self.lookup {
            Lookup::Touched { slots, order, .. } => (slots.clone(), order.clone()),
            Lookup::Rows(rows) => (rows.clone(), None),
        };
        let plan = |groups: &GroupFeatures<B>| {
            let mut plan = groups.plan(groups.entries.clone(), tables);
            plan.bags.order = groups.order.clone();
            plan
        };
        let own = BagPlan { order, ..self.own_plan(entries, tables) };
        InputPlan { own, groups: self.groups.as_ref().map(plan) }
    }

    /// The bags of the arena.
    pub(crate) fn arena_plan(&self, tables: usize) -> InputPlan<B> {
        let Lookup::Touched { touched, slots, .. } = &self.lookup else { return self.plan(tables) };
        let rows = |slots: &Tensor<B, 1, Int>| touched.clone().select(0, slots.clone());
        let groups = self.groups.as_ref().map(|groups| groups.plan(rows(&groups.entries), tables));
        InputPlan { own: self.own_plan(rows(slots), tables), groups }
    }

    fn own_plan(&self, entries: Tensor<B, 1, Int>, tables: usize) -> BagPlan<B> {
        plan((tables, self.rows, self.num_sparse), entries, &self.bags, &self.dense)
    }
}

impl<B: Backend> GroupFeatures<B> {
    fn plan(&self, entries: Tensor<B, 1, Int>, tables: usize) -> GroupPlan<B> {
        GroupPlan {
            bags: plan((tables, self.count, self.num_sparse), entries, &self.bags, &self.dense),
            of_rows: self.of_rows.clone().into_primitive(),
            rows_by_group: self.rows_by_group.clone(),
            features: self.features.clone(),
        }
    }
}

fn plan<B: Backend>(
    (tables, rows, num_sparse): (usize, usize, usize),
    entries: Tensor<B, 1, Int>,
    bags: &Option<Bags<B>>,
    dense: &Option<Tensor<B, 2>>,
) -> BagPlan<B> {
    let float = |tensor: TensorPrimitive<B>| tensor.tensor();
    let bags = bags
        .as_ref()
        .map(|bags| (bags.segments.clone().into_primitive(), float(bags.weights.clone().into_primitive())));
    let dense = dense.as_ref().map(|dense| float(dense.clone().into_primitive()));
    BagPlan { tables, rows, num_sparse, slots: entries.into_primitive(), order: None, bags, dense }
}
