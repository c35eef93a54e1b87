//! The norms of a step's gradients, tables included, and clipping by them.

use std::marker::PhantomData;

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorPrimitive};
use esmm_core::backend::{InputBags, Kernels};
use esmm_core::{EsmmBackend, PooledGrads, RowGrads, TableGrads};

/// Squared norms of a step's gradients, `[1]` each, still on the device; `None` where there is no gradient.
#[derive(Debug, Clone)]
pub struct GradientNorms<B: Backend> {
    towers: Option<Tensor<B, 1>>,
    tables: Option<Tensor<B, 1>>,
}

impl<B: EsmmBackend> GradientNorms<B> {
    /// The norms of the gradients of `module`'s parameters and of the touched rows.
    pub fn of<A, M>(module: &M, grads: &GradientsParams, tables: Option<&TableGrads<B>>) -> Self
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: AutodiffModule<A>,
    {
        let mut squares = Squares::<A> { grads, sum: None };
        module.visit(&mut squares);
        let of_rows = |tables: &TableGrads<B>| match tables {
            TableGrads::Rows(rows) => rows.grads.clone(),
            TableGrads::Pooled(PooledGrads { bags, grads, num_rows }) => {
                let grads = grads.clone().map(|grads| grads.into_primitive().tensor());
                let rows = B::Kernels::row_grads(InputBags::clone(bags), grads, *num_rows);
                Tensor::from_primitive(TensorPrimitive::Float(rows))
            }
        };
        let tables = tables.map(|tables| of_rows(tables).powi_scalar(2).sum());
        Self { towers: squares.sum, tables }
    }
}

impl<B: Backend> GradientNorms<B> {
    /// Norms of the towers' and of the tables' gradients, read back from the device.
    pub fn read(&self) -> [f64; 2] {
        let norm = |squares: &Option<Tensor<B, 1>>| {
            let squares = squares.as_ref().map(|squares| squares.to_data().iter::<f64>().sum::<f64>());
            squares.unwrap_or(0.0).sqrt()
        };
        [norm(&self.towers), norm(&self.tables)]
    }

    /// Both squares together.
    fn sum(&self) -> Option<Tensor<B, 1>> {
        match (self.towers.clone(), self.tables.clone()) {
            (Some(towers), Some(tables)) => Some(towers + tables),
            (towers, tables) => towers.or(tables),
        }
    }
}

/// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` does. The norm is
/// over towers and touched rows. Nothing is read back from the device.
pub fn clip_global_norm<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    grads: &mut GradientsParams,
    tables: Option<TableGrads<B::InnerBackend>>,
    norms: &GradientNorms<B::InnerBackend>,
    max_norm: f64,
) -> Option<TableGrads<B::InnerBackend>> {
    let Some(squares) = norms.sum() else { return tables };
    let factor = ((squares.sqrt() + 1e-6).recip() * max_norm).clamp_max(1.0);
    module.visit(&mut Scale::<B> { grads, factor: factor.clone(), backend: PhantomData });
    tables.map(|tables| match tables {
        TableGrads::Rows(RowGrads { rows, grads }) => {
            TableGrads::Rows(RowGrads { rows, grads: grads * factor.reshape([1, 1]) })
        }
        TableGrads::Pooled(PooledGrads { bags, grads, num_rows }) => {
            let grads = grads.map(|grads| grads * factor.clone().reshape([1, 1, 1]));
            TableGrads::Pooled(PooledGrads { bags, grads, num_rows })
        }
    })
}

struct Squares<'a, B: AutodiffBackend> {
    grads: &'a GradientsParams,
    sum: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Squares<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) {
            let square = grad.powi_scalar(2).sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
}

struct Scale<'a, B: AutodiffBackend> {
    grads: &'a mut GradientsParams,
    factor: Tensor<B::InnerBackend, 1>,
    backend: PhantomData<B>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.remove::<B::InnerBackend, D>(param.id) {
            let scaled = grad * self.factor.clone().reshape([1; D]);
            self.grads.register::<B::InnerBackend, D>(param.id, scaled);
        }
    }
}
