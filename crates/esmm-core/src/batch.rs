//! One batch of impressions, checked once and de-duplicated: what the model reads.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

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
    pub(crate) touched: Vec<i32>,
    pub(crate) slots: Vec<i32>,
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

/// A batch on a device.
#[derive(Debug, Clone)]
pub struct FeatureBatch<B: Backend> {
    /// Rows, B.
    pub rows: usize,
    /// Sparse features, F.
    pub num_sparse: usize,
    /// The arena rows that the batch touches, each once, `[U]`.
    pub touched: Tensor<B, 1, Int>,
    /// For each entry (ids in order of row, then feature) its place in `touched`, `[N]`.
    pub slots: Tensor<B, 1, Int>,
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

    /// Distinct table rows that the batch touches, U.
    pub fn num_touched(&self) -> usize {
        self.touched.len()
    }

    /// Not every backend takes tensors without elements: a batch of empty bags reads row 0 with weight 0.
    pub(crate) fn fill_if_empty(&mut self) {
        if self.touched.is_empty() {
            self.touched.push(0);
            self.slots.push(0);
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
            touched: ints(&self.touched),
            slots: ints(&self.slots),
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
