//! Row numbers of a batch: in host memory, and on a device once something there reads them.

use std::sync::{Arc, OnceLock};

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::IntTensor;

use super::host::upload_ints;

/// Row numbers in host memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct HostIndices {
    pub(crate) values: Arc<Vec<u32>>,
}

/// Row numbers, `[N]`. Kernels for host memory read them where the batch was built; they are uploaded when a device
/// first asks for them, and once. Clones share them.
#[derive(Debug, Clone)]
pub struct Indices<B: Backend> {
    host: HostIndices,
    device: B::Device,
    tensor: Arc<OnceLock<IntTensor<B>>>,
    counts: Arc<OnceLock<(usize, [IntTensor<B>; 2])>>,
    sorted: Arc<OnceLock<(usize, [IntTensor<B>; 2])>>,
}

impl HostIndices {
    pub(crate) fn new(values: Vec<u32>) -> Self {
        Self { values: Arc::new(values) }
    }

    pub(crate) fn to_device<B: Backend>(&self, device: &B::Device) -> Indices<B> {
        Indices::from_host(self.clone(), device.clone())
    }
}

impl<B: Backend> Indices<B> {
    /// Takes row numbers.
    pub fn new(values: Vec<u32>, device: &B::Device) -> Self {
        HostIndices::new(values).to_device(device)
    }

    fn from_host(host: HostIndices, device: B::Device) -> Self {
        let tensor = Arc::default();
        let counts = Arc::default();
        let sorted = Arc::default();
        Self { host, device, tensor, counts, sorted }
    }

    /// The same, uploaded already.
    pub(crate) fn with_tensor(self, tensor: IntTensor<B>) -> Self {
        let _ = self.tensor.set(tensor);
        self
    }

    /// Number of entries, N.
    pub fn len(&self) -> usize {
        self.host.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.host.values.is_empty()
    }

    /// The numbers in host memory.
    pub fn host(&self) -> &[u32] {
        &self.host.values
    }

    /// The device that they are for.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// The numbers as a tensor, in the backend's type of integers; uploaded by the first call.
    pub fn tensor(&self) -> IntTensor<B> {
        self.tensor.get_or_init(|| upload_ints::<B>(self.host(), &self.device)).clone()
    }
}

impl<B: Backend> Indices<B> {
    /// The entries in the order of their numbers, as `sort` makes it: numbers and entries; made by the first call. Where
    /// other lists are sorted with this one, it keeps the order of all.
    ///
    /// # Panics
    /// When an earlier call named another number of rows.
    #[cfg(feature = "cube-kernels")]
    pub(crate) fn sorted(
        &self,
        num_rows: usize,
        sort: impl FnOnce() -> [IntTensor<B>; 2],
    ) -> [IntTensor<B>; 2] {
        let (sorted_for, sorted) = self.sorted.get_or_init(|| (num_rows, sort()));
        assert_eq!(*sorted_for, num_rows, "rows of an order that was made before");
        sorted.clone()
    }

    /// How often digits of the numbers occur, as a sort begins; counted by the first call.
    ///
    /// # Panics
    /// When an earlier call named another number of rows.
    #[cfg(feature = "cube-kernels")]
    pub(crate) fn counts(
        &self,
        num_rows: usize,
        count: impl FnOnce() -> [IntTensor<B>; 2],
    ) -> [IntTensor<B>; 2] {
        let (counted_for, counts) = self.counts.get_or_init(|| (num_rows, count()));
        assert_eq!(*counted_for, num_rows, "rows of counts that were made before");
        counts.clone()
    }

    /// How many different numbers there are in all of these lists: counted in host memory, by a bit for each number up to the
    /// largest.
    pub fn count_distinct(lists: &[Self]) -> usize {
        let numbers = || lists.iter().flat_map(Self::host);
        let largest = numbers().max().copied().unwrap_or(0);
        let mut seen = vec![0_u64; largest as usize / 64 + 1];
        for &value in numbers() {
            seen[value as usize / 64] |= 1 << (value % 64);
        }
        seen.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The same for another backend with the same tensors of integers and devices, as autodiff and its inner backend.
    pub(crate) fn same<A>(self) -> Indices<A>
    where
        A: Backend<Device = B::Device, IntTensorPrimitive = IntTensor<B>>,
    {
        let Self { host, device, tensor, counts, sorted } = self;
        Indices { host, device, tensor, counts, sorted }
    }
}

impl<B: AutodiffBackend> Indices<B> {
    /// The same for the inner backend; what was uploaded, counted and sorted stays so.
    pub fn inner(&self) -> Indices<B::InnerBackend> {
        let inner = Indices::<B::InnerBackend>::from_host(self.host.clone(), self.device.clone());
        if let Some(tensor) = self.tensor.get() {
            let _ = inner.tensor.set(B::int_inner(tensor.clone()));
        }
        for (made, kept) in [(&self.counts, &inner.counts), (&self.sorted, &inner.sorted)] {
            if let Some((num_rows, tensors)) = made.get() {
                let _ = kept.set((*num_rows, tensors.clone().map(B::int_inner)));
            }
        }
        inner
    }
}
