//! The gradients of embedding tables after a backward pass: by touched row, or of what was pooled from them.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorPrimitive};

use crate::backend::{EsmmBackend, Indices, InputBags, Kernels, Pooled};
use crate::embedding::TouchedRows;

/// What the arena gets from a backward pass.
#[derive(Debug, Clone)]
pub enum TableGrads<B: Backend> {
    /// A gradient for each touched row.
    Rows(RowGrads<B>),
    /// The gradient of what was pooled, where the device finds the distinct rows and sums for them as it updates them.
    Pooled(PooledGrads<B>),
}

/// The gradient of what was pooled from rows of the arena.
#[derive(Debug, Clone)]
pub struct PooledGrads<B: Backend> {
    /// How it was pooled.
    pub bags: Box<InputBags<FloatTensor<B>, Indices<B>>>,
    /// `[T, B, own columns]`, and where groups share features `[T, G, shared columns]`.
    pub grads: Pooled<Tensor<B, 3>>,
    /// Rows of one copy of the arena, R.
    pub num_rows: usize,
}

/// The gradient of the touched rows of the arena.
#[derive(Debug, Clone)]
pub struct RowGrads<B: Backend> {
    /// Rows of the arena, each once, `[N]`.
    pub rows: Indices<B>,
    /// Their gradients, `[N, D]`.
    pub grads: Tensor<B, 2>,
}

impl<B: AutodiffBackend> TouchedRows<B> {
    /// Takes the gradients of the touched rows out of a backward pass; `None` if they took no part in it. They are no
    /// gradients of a parameter: no optimizer of Burn's applies them. Lets go of the rows' values, for an update of the
    /// arena while a handle to it is alive copies it.
    ///
    /// # Examples
    /// One step of plain gradient descent on the tables.
    /// ```
    /// use burn::backend::Autodiff;
    /// use burn::tensor::{IndexingUpdateOp, Int, Tensor};
    /// use burn_ndarray::NdArray;
    /// use esmm_core::{
    ///     BatchInput, DropoutKey, EsmmConfig, Feature, FeatureBatch, FeatureSchema, Side, SparseInput,
    /// };
    ///
    /// # fn main() -> Result<(), esmm_core::EsmmError> {
    /// let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 10)])?;
    /// let device = Default::default();
    /// let model = EsmmConfig::new(schema.clone()).init::<Autodiff<NdArray>>(&device)?;
    /// let best = model.clone(); // a copy: it stays as it is
    /// let input = BatchInput { rows: 1, sparse: &[SparseInput::Single(&[7])], dense: &[], groups: None };
    /// let batch = FeatureBatch::new(&schema, input, &device)?;
    ///
    /// let forward = model.forward_train(&batch, DropoutKey { seed: 1, step: 0 });
    /// let mut grads = forward.logits.losses(Tensor::ones([1, 2], &device)).sum().backward();
    /// if let Some(tables) = forward.touched.take_grads(&mut grads) {
    ///     let rows = tables.into_rows();
    ///     let numbers = Tensor::<_, 1, Int>::from_ints([rows.rows.host()[0] as i32], &device);
    ///     let step = Tensor::<Autodiff<NdArray>, 2>::from_inner(rows.grads) * -0.1;
    ///     model.embeddings.table.update(|table| {
    ///         table.select_assign(0, numbers, step, IndexingUpdateOp::Add)
    ///     });
    /// }
    /// let change = (model.embeddings.table.value() - best.embeddings.table.value()).abs();
    /// let changed: Vec<f32> = change.sum_dim(1).into_data().iter().collect();
    /// assert!(changed[7] > 0.0 && changed[8] == 0.0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_grads(self, grads: &mut B::Gradients) -> Option<TableGrads<B::InnerBackend>> {
        Some(match self {
            Self::Gathered { rows, values } => {
                TableGrads::Rows(RowGrads { rows: rows.inner(), grads: values.grad_remove(grads)? })
            }
            Self::Pooled { bags, values, num_rows } => {
                let own = values.own.grad_remove(grads)?;
                let shared = match values.shared {
                    Some(shared) => Some(shared.grad_remove(grads)?),
                    None => None,
                };
                let bags = bags.map(|tensor| B::inner(tensor), |indices| indices.inner());
                let bags = Box::new(bags);
                TableGrads::Pooled(PooledGrads { bags, grads: Pooled { own, shared }, num_rows })
            }
        })
    }
}

impl<B: EsmmBackend> TableGrads<B> {
    /// The gradients by row, summed for each row where they are not yet.
    pub fn into_rows(self) -> RowGrads<B> {
        match self {
            Self::Rows(rows) => rows,
            Self::Pooled(pooled) => pooled.into_rows(),
        }
    }

    /// The gradients of several backward passes added up, as Burn's `GradientsAccumulator` does for parameters; `None` of
    /// none.
    pub fn sum(mut parts: Vec<Self>) -> Option<Self> {
        if parts.len() < 2 {
            return parts.pop();
        }
        RowGrads::sum(parts.into_iter().map(Self::into_rows).collect()).map(Self::Rows)
    }
}

impl<B: EsmmBackend> PooledGrads<B> {
    /// Summed for each row that was pooled; which rows these are is found in host memory.
    pub fn into_rows(self) -> RowGrads<B> {
        let Self { bags, grads, num_rows } = self;
        let device = grads.own.device();
        let copies = bags.own.tables;
        let mut sorted: Vec<u32> = bags.parts().flat_map(|part| part.slots.host()).copied().collect();
        sorted.sort_unstable();
        let is_first = |place: &usize| *place == 0 || sorted[*place] != sorted[*place - 1];
        let firsts: Vec<usize> = (0..sorted.len()).filter(is_first).collect();
        let of_copy = |copy: usize| firsts.iter().map(move |&place| (copy, place));
        let touched: Vec<(usize, usize)> = (0..copies).flat_map(of_copy).collect();
        let rows = touched.iter().map(|&(copy, place)| sorted[place] + (copy * num_rows) as u32).collect();
        let places: Vec<i32> =
            touched.iter().map(|&(copy, place)| (copy * sorted.len() + place) as i32).collect();
        let grads = grads.map(|grads| grads.into_primitive().tensor());
        let sums = B::Kernels::row_grads(*bags, grads, num_rows);
        let sums = Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(sums));
        let grads = sums.select(0, Tensor::from_ints(places.as_slice(), &device));
        RowGrads { rows: Indices::new(rows, &device), grads }
    }
}

impl<B: Backend> RowGrads<B> {
    /// The gradients of several backward passes added up, as Burn's `GradientsAccumulator` does for parameters; `None` of
    /// none.
    pub fn sum(mut parts: Vec<Self>) -> Option<Self> {
        if parts.len() < 2 {
            return parts.pop();
        }
        let mut rows: Vec<u32> = parts.iter().flat_map(|part| part.rows.host()).copied().collect();
        rows.sort_unstable();
        rows.dedup();
        let device = parts[0].grads.device();
        let mut grads = Tensor::<B, 2>::zeros([rows.len(), parts[0].grads.dims()[1]], &device);
        for part in parts {
            let places = part.rows.host().iter().map(|row| rows.partition_point(|other| other < row) as i32);
            let places: Vec<i32> = places.collect();
            let places = Tensor::<B, 1, Int>::from_ints(places.as_slice(), &device);
            grads = grads.select_assign(0, places, part.grads, IndexingUpdateOp::Add);
        }
        Some(Self { rows: Indices::new(rows, &device), grads })
    }
}
