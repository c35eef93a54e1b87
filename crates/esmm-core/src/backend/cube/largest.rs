//! The largest magnitude of a gradient, for the power of two by which f16 multiplies it: found in parts by the kernel that
//! writes the gradient, joined by those that round it, so neither takes a launch.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::chunks::UNITS;
use super::tensor::OnCube;

/// Units of a cube that join the parts.
const JOINING: usize = 32;

/// A gradient that matmuls read.
pub(super) struct Gradient<R: CubeRuntime> {
    pub(super) tensor: CubeTensor<R>,
    /// The largest magnitude of each of its parts, where the kernel that wrote it found them.
    largest: Option<CubeTensor<R>>,
}

impl<R: CubeRuntime> Gradient<R> {
    /// `largest` has one value for each part of the gradient, in any order.
    pub(super) fn new(tensor: CubeTensor<R>, largest: Option<CubeTensor<R>>) -> Self {
        Self { tensor, largest }
    }

    /// The largest magnitude of each part of the gradient, or of the whole.
    pub(super) fn largest<B: OnCube<R>>(&self) -> CubeTensor<R> {
        self.largest.clone().unwrap_or_else(|| B::float_max_abs(self.tensor.clone()))
    }
}

impl<R: CubeRuntime> From<CubeTensor<R>> for Gradient<R> {
    fn from(tensor: CubeTensor<R>) -> Self {
        Self::new(tensor, None)
    }
}

/// The larger of two magnitudes; a NaN is passed over.
#[cube]
fn larger(magnitude: f32, known: f32) -> f32 {
    select(magnitude > known, magnitude, known)
}

/// The largest magnitude of a vector and of what is known.
#[cube]
pub(super) fn largest_in<N: Size>(values: Vector<f32, N>, known: f32) -> f32 {
    let mut largest = known;
    #[unroll]
    for part in 0..N::value() {
        let magnitude = values[part].abs();
        largest = larger(magnitude, largest);
    }
    largest
}

/// Writes the largest of what the [`UNITS`] of a cube found, a value a cube; all of them must ask.
#[cube]
pub(super) fn write_largest(found: f32, largest: &mut Array<f32>) {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let unit = UNIT_POS as usize;
    shared[unit] = found;
    sync_cube();
    #[unroll]
    for halving in 0..comptime!(UNITS.ilog2()) {
        let half = comptime!((UNITS >> (halving + 1)) as usize);
        if unit < half {
            let other = shared[unit + half];
            let here = shared[unit];
            shared[unit] = larger(other, here);
        }
        sync_cube();
    }
    if unit == 0 {
        largest[CUBE_POS] = shared[0];
    }
}

/// The largest of `parts` magnitudes; all units of a cube must ask, at least [`JOINING`] of them.
#[cube]
pub(super) fn join_largest(largest: &Array<f32>, parts: usize) -> f32 {
    let mut shared = SharedMemory::<f32>::new(JOINING);
    let unit = UNIT_POS as usize;
    if unit < comptime!(JOINING) {
        let mut found = 0.0f32;
        for part in range_stepped(unit, parts, comptime!(JOINING)) {
            found = larger(largest[part], found);
        }
        shared[unit] = found;
    }
    sync_cube();
    let mut whole = 0.0f32;
    #[unroll]
    for other in 0..comptime!(JOINING) {
        whole = larger(shared[other], whole);
    }
    whole
}
