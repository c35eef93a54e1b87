//! A tensor that is saved with a model and changed in place, but never by an optimizer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{
    AutodiffModule, Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
    ModuleVisitor, Param, ParamId,
};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

/// State under a lock: clones of a module share it, so that an update reaches all of them and needs no copy.
///
/// Burn's Learner clones the model at every step; a [`Param`] would then never be uniquely owned and each in-place
/// update of a table would copy the table. Records save the state; optimizers skip it, because it gets no gradient.
///
/// # Examples
/// ```
/// use burn::tensor::Tensor;
/// use burn_ndarray::NdArray;
/// use esmm_core::StateTensor;
///
/// let state = StateTensor::<NdArray, 1>::new(Tensor::zeros([2], &Default::default()));
/// let clone = state.clone();
/// state.update(|value| value + 1.0);
/// assert_eq!(clone.value().into_data().to_vec::<f32>().unwrap(), [1.0, 1.0]);
/// ```
#[derive(Clone, Debug)]
pub struct StateTensor<B: Backend, const D: usize> {
    id: ParamId,
    value: Arc<Mutex<Option<Tensor<B, D>>>>,
}

impl<B: Backend, const D: usize> StateTensor<B, D> {
    /// Takes an initial value.
    pub fn new(value: Tensor<B, D>) -> Self {
        Self::with_id(ParamId::new(), value)
    }

    fn with_id(id: ParamId, value: Tensor<B, D>) -> Self {
        Self { id, value: Arc::new(Mutex::new(Some(value))) }
    }

    /// Its identity in records and in Burn's gradient containers.
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// A handle to the present value. Keep it short: an update while a handle is alive copies the tensor.
    ///
    /// # Panics
    /// When an update panicked before.
    pub fn value(&self) -> Tensor<B, D> {
        match self.lock().as_ref() {
            Some(value) => value.clone(),
            None => panic!("the state tensor was lost in an update that panicked"),
        }
    }

    /// Replaces the value by what `change` makes of it. `change` gets the only handle, so it may work in place.
    ///
    /// # Panics
    /// When an update panicked before.
    pub fn update(&self, change: impl FnOnce(Tensor<B, D>) -> Tensor<B, D>) {
        self.put(change(self.take()));
    }

    /// Takes the only handle out. [`put`](Self::put) must follow.
    ///
    /// # Panics
    /// When an update panicked before.
    pub fn take(&self) -> Tensor<B, D> {
        match self.lock().take() {
            Some(value) => value,
            None => panic!("the state tensor was lost in an update that panicked"),
        }
    }

    /// Puts the next value in.
    pub fn put(&self, value: Tensor<B, D>) {
        *self.lock() = Some(value);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tensor<B, D>>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend, const D: usize> Module<B> for StateTensor<B, D> {
    type Record = Param<Tensor<B, D>>;

    fn visit<V: ModuleVisitor<B>>(&self, visitor: &mut V) {
        visitor.visit_float(&Param::initialized(self.id, self.value()));
    }

    fn map<M: ModuleMapper<B>>(self, mapper: &mut M) -> Self {
        self.update(|value| mapper.map_float(Param::initialized(self.id, value)).consume().1);
        self
    }

    fn into_record(self) -> Self::Record {
        Param::initialized(self.id, self.value())
    }

    fn load_record(self, record: Self::Record) -> Self {
        let device = self.value().device();
        let (id, value, _) = record.consume();
        Self::with_id(id, value.to_device(&device))
    }

    fn to_device(self, device: &B::Device) -> Self {
        self.update(|value| value.to_device(device));
        self
    }

    fn fork(self, device: &B::Device) -> Self {
        self.to_device(device)
    }

    fn collect_devices(&self, mut devices: Devices<B>) -> Devices<B> {
        let device = self.value().device();
        if !devices.contains(&device) {
            devices.push(device);
        }
        devices
    }
}

impl<B: AutodiffBackend, const D: usize> AutodiffModule<B> for StateTensor<B, D> {
    type InnerModule = StateTensor<B::InnerBackend, D>;

    fn valid(&self) -> Self::InnerModule {
        StateTensor::with_id(self.id, self.value().inner())
    }

    fn from_inner(module: Self::InnerModule) -> Self {
        Self::with_id(module.id, Tensor::from_inner(module.value()))
    }
}

impl<B: Backend, const D: usize> fmt::Display for StateTensor<B, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateTensor {:?}", self.value().dims())
    }
}

impl<B: Backend, const D: usize> ModuleDisplayDefault for StateTensor<B, D> {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl<B: Backend, const D: usize> ModuleDisplay for StateTensor<B, D> {}
