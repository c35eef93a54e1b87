//! Running statistics: how they move, and what they fold to.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use esmm_core::EsmmBackend;
use esmm_core::backend::{Kernels, Moments, Norm, Reference};

use super::{Expected, near, on_all_backends};
use crate::common::{flat, float, primitive, random};

on_all_backends!(blends, folding);

/// In place, unless someone else holds the old ones.
fn blends<B: EsmmBackend>() {
    for (shape, held) in [([1, 1], false), ([2, 33], true), ([3, 128], false)] {
        let old = random::<B, 2>(60, shape);
        let kept = held.then(|| old.clone());
        let found = B::Kernels::blend(old, random::<B, 2>(61, shape), [0.9, 0.1003]);
        let (old, new) = (random::<Expected, 2>(60, shape), random::<Expected, 2>(61, shape));
        let expected = <Reference as Kernels<Expected>>::blend(old.clone(), new, [0.9, 0.1003]);
        near::<B>(&format!("{shape:?}"), &found, &expected);
        if let Some(kept) = kept {
            assert_eq!(flat::<B>(&kept), flat::<Expected>(&old), "statistics that someone holds changed");
        }
    }
}

fn folding<B: EsmmBackend>() {
    for shape in [[1, 1], [2, 37], [3, 130]] {
        let found = fold::<B, B::Kernels>(shape);
        for (found, expected) in found.iter().zip(fold::<Expected, Reference>(shape)) {
            near::<B>(&format!("{shape:?}"), found, &expected);
        }
    }
}

fn fold<B: Backend, K: Kernels<B>>(shape: [usize; 2]) -> [FloatTensor<B>; 2] {
    let line = |seed: u64| random::<B, 2>(seed, shape);
    let variance = primitive(float::<B, 2>(line(5)).powi_scalar(2));
    let norm = Norm { gamma: line(2), beta: line(3) };
    K::fold_norm(line(1), norm, Moments { mean: line(4), variance }, 1e-2)
}
