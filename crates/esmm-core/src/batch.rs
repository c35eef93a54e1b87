//! One batch of impressions, checked once and de-duplicated: what the model reads.

use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive, backend::Backend};

use crate::backend::BagPlan;

/// The ids of one sparse feature for the rows of a batch. Ids are rows of the feature's own table.
#[derive(Debug, Clone, Copy)]
pub enum SparseInput<'a> {
    /// One id a row, `[B]`.
    Single(&'a [u32]),
    /// Any number of ids a row: row `i` owns `ids[offsets[i]..offsets[i + 1]]`.
    Bag {
        /// `[B + 1]`, from 0, never falling.
        offsets: &'a [usize],
        /// All ids of the batch.
        ids: &'a [u32],
        /// One weight an id, or 1 for all.
        weights: Option<&'a [f32]>,
    },
}

/// The columns of a batch, in schema order.
#[derive(Debug, Clone, Copy)]
pub struct BatchInput<'a> {
    /// Rows, B.
    pub rows: usize,
    /// One entry a sparse feature.
    pub sparse: &'a [SparseInput<'a>],
    /// One slice of B values a dense feature.
    pub dense: &'a [&'a [f32]],
}

/// A batch in host memory, free of any backend, so that another thread can build it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch {
    pub(crate) rows: usize,
    pub(crate) num_sparse: usize,
    /// Distinct rows, where they were looked for.
    pub(crate) touched: Option<Vec<i32>>,
    /// Place of each entry among the distinct rows, or else its row of the arena.
    pub(crate) entries: Vec<i32>,
    pub(crate) bags: Option<HostBags>,
    pub(crate) dense: Vec<f32>,
    pub(crate) num_dense: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostBags {
    pub(crate) segments: Vec<i32>,
    pub(crate) weights: Vec<f32>,
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
    /// Sparse features, F.
    pub num_sparse: usize,
    /// Where the entries find their rows.
    pub lookup: Lookup<B>,
    /// `None` when every feature has exactly one id of weight 1 in every row; then `N = B * F`.
    pub bags: Option<Bags<B>>,
    /// `[B, dense]`, or `None` without dense features.
    pub dense: Option<Tensor<B, 2>>,
}

impl HostBatch {
    /// Rows, B.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Distinct table rows that the batch touches, U; `None` in a batch for inference.
    pub fn num_touched(&self) -> Option<usize> {
        self.touched.as_ref().map(Vec::len)
    }

    /// Not every backend takes tensors without elements: a batch of empty bags reads row 0 with weight 0.
    pub(crate) fn fill_if_empty(&mut self) {
        if self.entries.is_empty() {
            if let Some(touched) = &mut self.touched {
                touched.push(0);
            }
            self.entries.push(0);
            if let Some(bags) = &mut self.bags {
                bags.segments.push(0);
                bags.weights.push(0.0);
            }
        }
    }

    /// Uploads the batch.
    pub fn to_device<B: Backend>(&self, device: &B::Device) -> FeatureBatch<B> {
        let ints = |values: &[i32]| Tensor::<B, 1, Int>::from_data(TensorData::from(values), device);
        FeatureBatch {
            rows: self.rows,
            num_sparse: self.num_sparse,
            lookup: match &self.touched {
                Some(touched) => Lookup::Touched { touched: ints(touched), slots: ints(&self.entries) },
                None => Lookup::Rows(ints(&self.entries)),
            },
            bags: self.bags.as_ref().map(|bags| Bags {
                segments: ints(&bags.segments),
                weights: Tensor::from_data(TensorData::from(bags.weights.as_slice()), device),
            }),
            dense: (self.num_dense > 0).then(|| {
                let data = TensorData::new(self.dense.clone(), [self.rows, self.num_dense]);
                Tensor::from_data(data, device)
            }),
        }
    }
}

impl<B: Backend> FeatureBatch<B> {
    /// The bags of the touched rows, or of the arena where the batch looks up directly.
    pub(crate) fn plan(&self, tables: usize) -> BagPlan<B> {
        let (Lookup::Touched { slots: entries, .. } | Lookup::Rows(entries)) = &self.lookup;
        self.plan_of(entries.clone(), tables)
    }

    /// The bags of the arena.
    pub(crate) fn arena_plan(&self, tables: usize) -> BagPlan<B> {
        match &self.lookup {
            Lookup::Touched { touched, slots } => {
                self.plan_of(touched.clone().select(0, slots.clone()), tables)
            }
            Lookup::Rows(rows) => self.plan_of(rows.clone(), tables),
        }
    }

    fn plan_of(&self, entries: Tensor<B, 1, Int>, tables: usize) -> BagPlan<B> {
        let float = |tensor: TensorPrimitive<B>| tensor.tensor();
        BagPlan {
            tables,
            rows: self.rows,
            num_sparse: self.num_sparse,
            slots: entries.into_primitive(),
            bags: self.bags.as_ref().map(|bags| {
                (bags.segments.clone().into_primitive(), float(bags.weights.clone().into_primitive()))
            }),
            dense: self.dense.as_ref().map(|dense| float(dense.clone().into_primitive())),
        }
    }
}
