//! Running statistics: how they move, and what they fold to.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use esmm_core::EsmmBackend;
use esmm_core::backend::{Blend, Kernels, Moments, Norm, Reference};

use super::{Expected, near, on_all_backends};
use crate::common::{flat, float, primitive, random};

on_all_backends!(blends, folding);

/// Shapes that a step blends at once, the second of which someone else holds.
const BLENDED: [[usize; 2]; 3] = [[1, 1], [2, 33], [3, 128]];

fn blended<B: Backend>() -> Vec<Blend<FloatTensor<B>>> {
    let blend = |(shape, seed): ([usize; 2], u64)| Blend {
        old: random::<B, 2>(seed, shape),
        new: random::<B, 2>(seed + 1, shape),
        keep: 0.9,
        take: 0.1003 * seed as f64 / 60.0,
    };
    BLENDED.into_iter().zip((60..).step_by(2)).map(blend).collect()
}

/// In place, unless someone else holds the old ones; one alone, all at once, none.
fn blends<B: EsmmBackend>() {
    for count in [1, 0, BLENDED.len()] {
        let mut blends = blended::<B>();
        blends.truncate(count);
        let kept = blends.get(1).map(|blend| blend.old.clone());
        let found = B::Kernels::blend(blends);
        let mut expected = blended::<Expected>();
        expected.truncate(count);
        let old = expected.get(1).map(|blend| blend.old.clone());
        let expected = <Reference as Kernels<Expected>>::blend(expected);
        assert_eq!((found.len(), expected.len()), (count, count));
        for ((found, expected), shape) in found.iter().zip(&expected).zip(BLENDED) {
            near::<B>(&format!("{shape:?} of {count}"), found, expected);
        }
        if let Some((kept, old)) = kept.zip(old) {
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
