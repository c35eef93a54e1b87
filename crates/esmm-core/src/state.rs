//! A tensor that is saved with a model and changed in place, but never by an optimizer.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{
    AutodiffModule, Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
    ModuleVisitor, Param, ParamId,
};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

/// A tensor of a module that training changes in place, behind a lock: a table, a running mean.
///
/// A clone is a copy: what happens to one is not seen by the other. The values are copied when one of the two changes
/// for the first time, so a clone that is dropped before that costs nothing. [`share`](Self::share) makes a handle to the
/// same state instead.
///
/// Records save the state. Optimizers skip it, because it gets no gradient.
///
/// # Examples
/// ```
/// use burn::tensor::Tensor;
/// use burn_ndarray::NdArray;
/// use esmm_core::StateTensor;
///
/// let state = StateTensor::<NdArray, 1>::new(Tensor::zeros([2], &Default::default()));
/// let copy = state.clone();
/// let shared = state.share();
/// state.update(|value| value + 1.0);
/// assert_eq!(copy.value().into_data().to_vec::<f32>().unwrap(), [0.0, 0.0]);
/// assert_eq!(shared.value().into_data().to_vec::<f32>().unwrap(), [1.0, 1.0]);
/// ```
#[derive(Debug)]
pub struct StateTensor<B: Backend, const D: usize> {
    id: ParamId,
    cell: Arc<Mutex<Cell<B, D>>>,
}

/// What a state holds.
#[derive(Debug, Clone)]
struct Cell<B: Backend, const D: usize> {
    value: Held<B, D>,
    /// Whether a forward pass read rows whose update is still to come.
    awaits_update: bool,
}

/// The value of a state, or where it is.
#[derive(Debug, Clone)]
enum Held<B: Backend, const D: usize> {
    /// The value, and a number that no other value has: copies of it have the same.
    Value(Tensor<B, D>, u64),
    /// In an update, or lost in one that panicked.
    Taken,
    /// In the copy for which it was given up.
    HandedOver,
}

/// A number for a value.
fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<B: Backend, const D: usize> Clone for StateTensor<B, D> {
    /// A copy.
    fn clone(&self) -> Self {
        let cell = self.lock().clone();
        Self { id: self.id, cell: Arc::new(Mutex::new(cell)) }
    }
}

impl<B: Backend, const D: usize> StateTensor<B, D> {
    /// Takes an initial value.
    pub fn new(value: Tensor<B, D>) -> Self {
        Self::with_id(ParamId::new(), value)
    }

    fn with_id(id: ParamId, value: Tensor<B, D>) -> Self {
        let value = Held::Value(value, next_version());
        Self { id, cell: Arc::new(Mutex::new(Cell { value, awaits_update: false })) }
    }

    /// Its identity in records and in Burn's gradient containers.
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// Another handle to this very state: an update through one of them is seen through both.
    pub fn share(&self) -> Self {
        Self { id: self.id, cell: self.cell.clone() }
    }

    /// A handle to the present value. Keep it short: an update while a handle is alive copies the tensor.
    ///
    /// # Panics
    /// When an update panicked before, or after [`hand_over`](Self::hand_over).
    pub fn value(&self) -> Tensor<B, D> {
        match self.lock().value.clone() {
            Held::Value(value, _) => value,
            Held::Taken => lost(),
            Held::HandedOver => handed_over(),
        }
    }

    /// Replaces the value by what `change` makes of it. `change` gets the only handle, so it may work in place.
    ///
    /// # Panics
    /// As [`value`](Self::value).
    pub fn update(&self, change: impl FnOnce(Tensor<B, D>) -> Tensor<B, D>) {
        self.put(change(self.take()));
    }

    /// Takes the only handle out. [`put`](Self::put) must follow.
    ///
    /// # Panics
    /// As [`value`](Self::value).
    pub fn take(&self) -> Tensor<B, D> {
        let mut cell = self.lock();
        match std::mem::replace(&mut cell.value, Held::Taken) {
            Held::Value(value, _) => value,
            Held::Taken => {
                drop(cell);
                lost()
            }
            Held::HandedOver => {
                cell.value = Held::HandedOver;
                drop(cell);
                handed_over()
            }
        }
    }

    /// Puts the next value in.
    pub fn put(&self, value: Tensor<B, D>) {
        let value = Held::Value(value, next_version());
        *self.lock() = Cell { value, awaits_update: false };
    }

    /// Gives this state up in favour of a copy, which can then be updated in place, without a copy of the values. Whoever
    /// reads this one afterwards panics. Nothing happens if both are handles to one state, or if one of them has changed
    /// since the other was cloned.
    pub fn hand_over(&self, copy: &Self) {
        if Arc::ptr_eq(&self.cell, &copy.cell) {
            return;
        }
        let of_copy = copy.lock().value.version();
        let mut own = self.lock();
        if of_copy.is_some() && own.value.version() == of_copy {
            own.value = Held::HandedOver;
        }
    }

    /// Notes that a forward pass read rows of this state whose gradients an update must follow. Until one does, or
    /// [`keep`](Self::keep) is called, an optimizer that goes over the module panics: it would train everything else.
    pub(crate) fn await_update(&self) {
        self.lock().awaits_update = true;
    }

    /// Leaves the value as it is: no update follows the forward pass before. For towers that are trained on fixed tables.
    pub fn keep(&self) {
        self.lock().awaits_update = false;
    }

    fn lock(&self) -> MutexGuard<'_, Cell<B, D>> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend, const D: usize> Held<B, D> {
    fn version(&self) -> Option<u64> {
        match self {
            Self::Value(_, version) => Some(*version),
            Self::Taken | Self::HandedOver => None,
        }
    }
}

fn lost() -> ! {
    panic!("the state tensor was lost in an update that panicked")
}

fn handed_over() -> ! {
    panic!(
        "the tables of this learner went on with the clone that was optimized after its step: clone a learner before \
         its step to keep both"
    )
}

impl<B: Backend, const D: usize> Module<B> for StateTensor<B, D> {
    type Record = Param<Tensor<B, D>>;

    fn visit<V: ModuleVisitor<B>>(&self, visitor: &mut V) {
        visitor.visit_float(&Param::initialized(self.id, self.value()));
    }

    /// # Panics
    /// When a forward pass for training read rows that were not updated after it.
    fn map<M: ModuleMapper<B>>(self, mapper: &mut M) -> Self {
        assert!(
            !self.lock().awaits_update,
            "a batch read rows of the tables, and nothing has updated them: an optimizer of Burn's trains the towers \
             alone. Apply the rows' gradients with `TableOptimizer::step` first (`EsmmLearner::optimize` does), or \
             call `embeddings.table.keep()` to leave the tables as they are"
        );
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
