//! From the table to the logits, for inference.

use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use esmm_core::backend::{InferenceLayer, Kernels, Reference};
use esmm_core::{Activation, EsmmBackend};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::first_layer::{Entries, FirstLayerCase};
use super::{Expected, activations, batch_rows, near, on_all_backends};
use crate::common::random;

on_all_backends!(inference);

/// Random layers of `towers` towers through these widths, with a scale in every other one.
pub(super) fn layers<B: Backend>(
    seed: u64,
    towers: usize,
    widths: &[usize],
    activation: Activation,
) -> Vec<InferenceLayer<FloatTensor<B>>> {
    let layers = widths.windows(2).zip(seed..).map(|(pair, seed)| {
        let activation = if pair[1] == 1 { Activation::None } else { activation };
        InferenceLayer {
            weight: random::<B, 3>(seed, [towers, pair[0], pair[1]]),
            scale: (seed % 2 == 0).then(|| random::<B, 2>(seed + 100, [towers, pair[1]])),
            shift: random::<B, 2>(seed + 200, [towers, pair[1]]),
            activation,
            slope: (activation == Activation::Prelu).then(|| random::<B, 1>(seed + 300, [towers])),
        }
    });
    layers.collect()
}

pub(super) fn inference<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let rows = batch_rows::<B>();
    let depths: [&[usize]; 3] = [&[1], &[20, 1], &[33, 9, 1]];
    let mut index = 0;
    for entries in Entries::ALL {
        for with_groups in [false, true] {
            for activation in activations() {
                let case = FirstLayerCase::new(&mut rng, rows[index % rows.len()], entries, with_groups);
                let [towers, rows, width] = case.sizes();
                let widths = [&[width], depths[index % 3]].concat();
                let seed = u64::from(rng.random::<u32>());
                let layers_on_b = layers::<B>(seed, towers, &widths, activation);
                let found = B::Kernels::infer(case.table::<B>(), case.bags::<B>(), layers_on_b);
                let expected = <Reference as Kernels<Expected>>::infer(
                    case.table::<Expected>(),
                    case.bags::<Expected>(),
                    layers::<Expected>(seed, towers, &widths, activation),
                );
                assert_eq!(found.shape()[..], [rows, towers]);
                let what =
                    format!("{entries:?}, groups {with_groups}, {activation:?}, {widths:?}, {rows} rows");
                near::<B>(&what, &found, &expected);
                index += 1;
            }
        }
    }
}
