//! Running statistics of batch norms: steps from the old towards the new, all of them in one launch.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{address, array, owned, plain, vector_size};
use crate::backend::Blend;

/// Units of a cube.
const UNITS: u32 = 256;
/// Tensors of a blend.
const EACH: usize = 2;

/// Blends, each in place where no one else holds its old value: one launch for as many as a kernel of the device can
/// bind.
pub(super) fn blend<R: CubeRuntime>(blends: Vec<Blend<CubeTensor<R>>>) -> Vec<CubeTensor<R>> {
    let prepared: Vec<Blend<CubeTensor<R>>> = blends
        .into_iter()
        .map(|blend| Blend { old: plain(owned(blend.old).tensor), new: plain(blend.new), ..blend })
        .collect();
    let Some(client) = prepared.first().map(|blend| blend.old.client.clone()) else { return Vec::new() };
    let bindings = client.properties().hardware.max_bindings as usize;
    // One binding is for the scalars.
    let at_once = (bindings.saturating_sub(1) / EACH).max(1);
    prepared.chunks(at_once).for_each(|blends| launch(&client, blends));
    prepared.into_iter().map(|blend| blend.old).collect()
}

fn launch<R: CubeRuntime>(client: &ComputeClient<R>, blends: &[Blend<CubeTensor<R>>]) {
    let lengths: Vec<usize> = blends.iter().map(|blend| blend.old.meta.num_elements()).collect();
    let vector = vector_size(&lengths);
    let tensors: Vec<&CubeTensor<R>> = blends.iter().flat_map(|blend| [&blend.old, &blend.new]).collect();
    let mut arrays = SequenceArg::new();
    tensors.iter().for_each(|tensor| arrays.push(array(tensor)));
    let mut units = SequenceArg::new();
    let mut factors = SequenceArg::new();
    lengths.iter().for_each(|length| units.push(length / vector));
    let shares = blends.iter().flat_map(|blend| [blend.keep, blend.take]);
    shares.for_each(|share| factors.push(share as f32));
    let cubes: usize = lengths.iter().map(|length| (length / vector).div_ceil(UNITS as usize)).sum();
    // SAFETY: each unit changes its own vector of one tensor; units beyond its last one do nothing. Both tensors of a blend
    // have one length.
    unsafe {
        blend_kernel::launch_unchecked(
            client,
            CubeCount::Static(cubes as u32, 1, 1),
            CubeDim::new_1d(UNITS),
            address(&tensors),
            vector,
            arrays,
            units,
            factors,
            blends.len(),
        );
    }
}

/// Cubes are dealt to the tensors in their order.
#[cube(launch_unchecked, address_type = "dynamic")]
fn blend_kernel<N: Size>(
    arrays: &mut Sequence<Array<Vector<f32, N>>>,
    units: &Sequence<usize>,
    factors: &Sequence<f32>,
    #[comptime] blends: usize,
) {
    let cube = CUBE_POS;
    let mut first = 0usize;
    #[unroll]
    for blend in 0..blends {
        let len = units[blend];
        let next = first + len.div_ceil(comptime!(UNITS as usize));
        if cube >= first && cube < next {
            let place = (cube - first) * comptime!(UNITS as usize) + UNIT_POS as usize;
            if place < len {
                let new = arrays.index(comptime!(EACH * blend + 1))[place];
                let keep = Vector::new(factors[comptime!(EACH * blend)]);
                let take = Vector::new(factors[comptime!(EACH * blend + 1)]);
                let old = arrays.index_mut(comptime!(EACH * blend));
                old[place] = old[place] * keep + new * take;
            }
        }
        first = next;
    }
}
