//! From table to logits for inference: a few rows go through all layers while they are in the cache.

use std::mem::MaybeUninit;

use multiversion::multiversion;
use rayon::prelude::*;

use super::bags::HostBags;
use super::block::slope_of;
use super::matmul::{Matrix, matmul};
use super::shared::{Addends, RowAddends, add_to_rows};
use super::work::{ROWS, written};
use crate::backend::InferenceLayer;

/// A layer in host memory, and its widths.
#[derive(Debug, Clone)]
pub(super) struct HostInferenceLayer<'a> {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) layer: InferenceLayer<&'a [f32]>,
}

/// Logits `[B, K]` of `towers` towers; rows add `addends` to the matmul of the first layer.
pub(super) fn logits(
    table: &[f32],
    dim: usize,
    bags: &HostBags<'_>,
    layers: &[HostInferenceLayer<'_>],
    addends: Addends<'_>,
    towers: usize,
) -> Vec<f32> {
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let chunks = out.par_chunks_mut(ROWS * towers).enumerate();
        chunks.for_each_init(Scratch::default, |scratch, (chunk, out)| {
            let rows = chunk * ROWS..bags.rows.min((chunk + 1) * ROWS);
            for (index, table) in table.chunks(table.len() / bags.tables).enumerate() {
                let input = Scratch::sized(&mut scratch.pooled, rows.len() * bags.width(dim));
                bags.pool_rows(table, dim, rows.clone(), input);
                // SAFETY: `pool_rows` wrote every element.
                let input = unsafe { input.assume_init_ref() };
                let readers = if bags.tables == 1 { 0..towers } else { index..index + 1 };
                for tower in readers {
                    let buffers = [&mut scratch.from, &mut scratch.to];
                    let addends = addends.of(tower, towers, rows.clone());
                    let logits = run_tower(input, rows.len(), layers, &addends, tower, buffers);
                    for (row, logit) in logits.iter().enumerate() {
                        out[row * towers + tower].write(*logit);
                    }
                }
            }
        });
    };
    // SAFETY: each task writes the logit of every tower of every row of its chunk.
    unsafe { written(bags.rows * towers, fill) }.0
}

/// Memory of one worker.
#[derive(Default)]
struct Scratch {
    pooled: Vec<MaybeUninit<f32>>,
    from: Vec<MaybeUninit<f32>>,
    to: Vec<MaybeUninit<f32>>,
}

impl Scratch {
    fn sized(buffer: &mut Vec<MaybeUninit<f32>>, len: usize) -> &mut [MaybeUninit<f32>] {
        if buffer.len() < len {
            buffer.resize(len, MaybeUninit::uninit());
        }
        &mut buffer[..len]
    }
}

fn run_tower<'b>(
    input: &[f32],
    rows: usize,
    layers: &[HostInferenceLayer<'_>],
    addends: &RowAddends<'_>,
    tower: usize,
    [mut from, mut to]: [&'b mut Vec<MaybeUninit<f32>>; 2],
) -> &'b [f32] {
    let mut len = 0;
    for (index, layer) in layers.iter().enumerate() {
        let input = match index {
            0 => input,
            // SAFETY: the layer before wrote `len` elements into this buffer.
            1.. => unsafe { from[..len].assume_init_ref() },
        };
        len = rows * layer.outputs;
        let none = RowAddends::default();
        let addends = if index == 0 { addends } else { &none };
        layer.run(input, rows, addends, tower, Scratch::sized(to, len));
        std::mem::swap(&mut from, &mut to);
    }
    // SAFETY: the last layer wrote `len` elements into the buffer that was swapped to `from`.
    unsafe { from[..len].assume_init_ref() }
}

impl HostInferenceLayer<'_> {
    /// Writes every element of `out`.
    fn run(
        &self,
        input: &[f32],
        rows: usize,
        addends: &RowAddends<'_>,
        tower: usize,
        out: &mut [MaybeUninit<f32>],
    ) {
        let len = self.inputs * self.outputs;
        let weight = Matrix::new(&self.layer.weight[tower * len..][..len], self.inputs, self.outputs);
        matmul(Matrix::new(input, rows, self.inputs), weight, out);
        // SAFETY: `matmul` wrote every element.
        let out = unsafe { out.assume_init_mut() };
        if !addends.is_empty() {
            add_to_rows(out, &vec![0.0; self.outputs], addends);
        }
        let own = |all: &'_ [f32]| -> Vec<f32> { all[tower * self.outputs..][..self.outputs].to_vec() };
        let scale = self.layer.scale.map_or_else(|| vec![1.0; self.outputs], own);
        let shift = own(self.layer.shift);
        let slope = slope_of(self.layer.activation, self.layer.slope, tower);
        activate_rows(out, &scale, &shift, slope);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn activate_rows(rows: &mut [f32], scale: &[f32], shift: &[f32], slope: f32) {
    for row in rows.chunks_exact_mut(scale.len()) {
        for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
            let z = *x * scale + shift;
            *x = if z > 0.0 { z } else { z * slope };
        }
    }
}
