//! The optimizer of the towers: the weights of a module in one call, which is one launch on a GPU, where Burn's own adaptor
//! makes one a tensor. What it keeps has the form of that adaptor's records.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;

use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::adaptor::{GradAdaptor, OptimizerAdaptor};
use burn::optim::record::AdaptorRecord;
use burn::optim::{GradientsParams, MultiGradientsParams, Optimizer, SimpleOptimizer};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;
use esmm_core::TrainBackend;
use esmm_core::backend::{EsmmBackend, Kernels, WithGrad, WithMoments};
use esmm_run::config::TowerOptimizerConfig;

use super::tower::{TowerRule, TowerRuleState, float, primitive, state_of};

/// What the rule keeps for each tensor, as Burn's adaptor keeps it.
type Records<M, B> = <OptimizerAdaptor<TowerRule, M, B> as Optimizer<M, B>>::Record;
type Inner<B> = <B as AutodiffBackend>::InnerBackend;

/// The optimizer of the towers with its state, for all weights of a module at once. Computes what Burn's
/// [`OptimizerAdaptor`] around the same [`TowerRule`] does, to the bit.
#[derive(Clone)]
pub struct TowerOptimizer<M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
    rule: TowerRule,
    records: Records<M, B>,
    module: PhantomData<M>,
}

/// Weights that have a gradient, by the number of the step that is to be done: those that missed a gradient are behind.
type Found<B> = BTreeMap<usize, Vec<(ParamId, WithGrad<FloatTensor<Inner<B>>>)>>;

struct Collect<'a, M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
    rule: TowerRule,
    grads: GradAdaptor,
    records: &'a mut Records<M, B>,
    found: Found<B>,
}

/// Of each weight the steps done, and its new value and moments.
type Updated<B> = HashMap<ParamId, (usize, WithMoments<FloatTensor<Inner<B>>>)>;

struct Put<'a, M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
    updated: Updated<B>,
    records: &'a mut Records<M, B>,
}

impl<M, B> TowerOptimizer<M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
    /// An optimizer without a state yet.
    pub fn new(config: &TowerOptimizerConfig) -> Self {
        Self { rule: TowerRule::new(config), records: Records::<M, B>::default(), module: PhantomData }
    }

    fn step_by(&mut self, lr: f64, module: M, grads: GradAdaptor) -> M {
        let records = &mut self.records;
        let mut collect = Collect::<M, B> { rule: self.rule, grads, records, found: BTreeMap::new() };
        module.visit(&mut collect);
        let mut updated = HashMap::new();
        for (step, found) in collect.found {
            let (ids, weights): (Vec<_>, Vec<_>) = found.into_iter().unzip();
            let update = self.rule.update(lr, step as u64);
            let weights = <Inner<B> as EsmmBackend>::Kernels::update_weights(weights, update);
            updated.extend(ids.into_iter().zip(weights.into_iter().map(|weight| (step, weight))));
        }
        module.map(&mut Put::<M, B> { updated, records: &mut self.records })
    }
}

impl<M, B> ModuleVisitor<B> for Collect<'_, M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some((grad, device)) = self.grads.remove::<Inner<B>, D>(param.id) else { return };
        let state = self.records.remove(&param.id).map(|record| {
            let state: TowerRuleState<Inner<B>, D> = record.into_state();
            <TowerRule as SimpleOptimizer<Inner<B>>>::to_device(state, &device)
        });
        let weight = param.val().inner().to_device(&device);
        let (weight, step) = state_of(weight, state, &self.rule);
        let weight = WithGrad { weight, grad: primitive(grad) };
        self.found.entry(step).or_default().push((param.id, weight));
    }
}

impl<M, B> ModuleMapper<B> for Put<'_, M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, old, mapper) = param.consume();
        let Some((steps, WithMoments { tensor, moments })) = self.updated.remove(&id) else {
            return Param::from_mapped_value(id, old, mapper);
        };
        let moments = moments.into_iter().map(float::<Inner<B>, D>).collect();
        self.records.insert(id, AdaptorRecord::from_state(TowerRuleState { steps, moments }));
        let new = Tensor::from_inner(float::<Inner<B>, D>(tensor));
        Param::from_mapped_value(id, new.set_require_grad(old.is_require_grad()), mapper)
    }
}

impl<M, B> Optimizer<M, B> for TowerOptimizer<M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
    type Record = Records<M, B>;

    fn step(&mut self, lr: f64, module: M, grads: GradientsParams) -> M {
        self.step_by(lr, module, grads.into())
    }

    fn step_multi(&mut self, lr: f64, module: M, grads: MultiGradientsParams) -> M {
        self.step_by(lr, module, grads.into())
    }

    fn to_record(&self) -> Self::Record {
        self.records.clone()
    }

    fn load_record(self, record: Self::Record) -> Self {
        Self { records: record, ..self }
    }
}
