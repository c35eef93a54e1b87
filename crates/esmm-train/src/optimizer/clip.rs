//! Gradient clipping by the norm of all gradients together, tables included.

use std::marker::PhantomData;

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use esmm_core::RowGrads;

/// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` does. The norm is
/// over towers and touched rows. Nothing is read back from the device.
pub fn clip_global_norm<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    grads: &mut GradientsParams,
    rows: Option<RowGrads<B::InnerBackend>>,
    max_norm: f64,
) -> Option<RowGrads<B::InnerBackend>> {
    let squares = rows.as_ref().map(|rows| rows.grads.clone().powi_scalar(2).sum());
    let mut norm = Norm::<B> { grads, squares };
    module.visit(&mut norm);
    let Some(squares) = norm.squares else { return rows };
    let factor = ((squares.sqrt() + 1e-6).recip() * max_norm).clamp_max(1.0);
    module.visit(&mut Scale::<B> { grads, factor: factor.clone(), backend: PhantomData });
    rows.map(|rows| RowGrads { grads: rows.grads * factor.reshape([1, 1]), rows: rows.rows })
}

struct Norm<'a, B: AutodiffBackend> {
    grads: &'a GradientsParams,
    squares: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Norm<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) {
            let square = grad.powi_scalar(2).sum();
            self.squares = Some(match self.squares.take() {
                Some(squares) => squares + square,
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
