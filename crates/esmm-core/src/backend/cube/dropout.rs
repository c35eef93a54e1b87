//! The bits of [`random`](crate::backend::random) and the dropout factors that follow from them, on a device.

use burn_cubecl::cubecl::{self, prelude::*};

use crate::backend::random::{Dropout, PARITY, ROTATIONS, ROUNDS};

/// Dropout of a layer: see [`Dropout`](crate::backend::random::Dropout).
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct DropoutBits {
    key_0: u32,
    key_1: u32,
    threshold: u32,
    scale: f32,
}

/// The argument of a kernel; anything where nothing is dropped.
pub(super) fn bits<R: Runtime>(dropout: Option<Dropout>) -> DropoutBitsLaunch<R> {
    let ([key_0, key_1], threshold, scale) =
        dropout.map_or(([0; 2], 0, 1.0), |dropout| (dropout.key, dropout.threshold(), dropout.scale()));
    DropoutBitsLaunch::new(key_0, key_1, threshold, scale)
}

/// Factors of elements `first .. first + N`. N divides 4 and `first`, so they lie in one group of four.
#[cube]
pub(super) fn factors<N: Size>(bits: &DropoutBits, first: usize) -> Vector<f32, N> {
    let (low, high) = threefry(bits.key_0, bits.key_1, u32::cast_from(first / 4));
    let lane = u32::cast_from(first % 4);
    let mut factors = Vector::<f32, N>::empty();
    #[unroll]
    for index in 0..N::value() {
        let lane = lane + comptime!(index as u32);
        let word = select(lane < 2, low, high);
        let half = (word >> (16 * (lane % 2))) & 0xffff;
        factors[index] = select(half < bits.threshold, 0.0f32, bits.scale);
    }
    factors
}

/// 64 random bits of a key and the counter `[counter, 0]`: Threefry-2x32 with 13 rounds.
#[cube]
fn threefry(key_0: u32, key_1: u32, counter: u32) -> (u32, u32) {
    let keys_2 = PARITY ^ key_0 ^ key_1;
    let mut x = counter + key_0;
    let mut y = key_1;
    #[unroll]
    for round in 0..ROUNDS {
        let left = comptime!(ROTATIONS[round % 8]);
        let right = comptime!(32 - ROTATIONS[round % 8]);
        x += y;
        y = ((y << left) | (y >> right)) ^ x;
        if comptime!(round % 4 == 3) {
            let injection = comptime!(round as u32 / 4 + 1);
            if comptime!(injection % 3 == 0) {
                x += key_0;
                y += key_1 + injection;
            } else if comptime!(injection % 3 == 1) {
                x += key_1;
                y += keys_2 + injection;
            } else {
                x += keys_2;
                y += key_0 + injection;
            }
        }
    }
    (x, y)
}
