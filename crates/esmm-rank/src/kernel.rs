//! The loops of the engine: a layer on a few rows, and what surrounds it. Plain safe code; the compiler sees the width of a
//! register as a type.

use pulp::{Simd, WithSimd};

use crate::aligned::Aligned;
use crate::prefetch::Ahead;

/// Floats to which rows of weights and activations are padded: one register of AVX-512.
pub(crate) const PAD: usize = 16;

/// Width of a row in memory.
pub(crate) fn padded(width: usize) -> usize {
    width.next_multiple_of(PAD)
}

/// What a layer does to its sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bend {
    /// Nothing.
    None,
    /// Multiplies those that are not above zero: 0 is ReLU. NaN stays NaN, and so minus infinity becomes with 0.
    Slope(f32),
}

/// Weights of a layer, `[inputs, outputs]`, each row padded with zeros.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) inputs: usize,
    pub(crate) stride: usize,
    values: Aligned<f32>,
}

/// Rows of activations, `width` values of each, `stride` floats apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) width: usize,
}

/// What a layer's sums begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// The same row for all.
    Row(&'a [f32]),
    /// What lies in the output, which are rows then.
    Output,
}

/// What becomes of a layer's outputs.
#[derive(Debug)]
pub(crate) enum Output<'a> {
    /// They are written, into rows that are `stride` floats apart.
    Rows {
        /// The rows.
        values: &'a mut [f32],
        /// From one row to the next.
        stride: usize,
    },
    /// They are multiplied with the weights of a last layer of one output, and not kept.
    Dot {
        /// One an output, padded with zeros.
        weights: &'a [f32],
        /// [`PAD`] floats a row, of which those of one register are written: their sum is that of the last layer.
        sums: &'a mut [f32],
    },
}

impl Matrix {
    /// All zeros.
    pub(crate) fn zeros(inputs: usize, outputs: usize) -> Self {
        let stride = padded(outputs);
        Self { inputs, stride, values: Aligned::zeros(inputs * stride) }
    }

    /// The weights of an input.
    pub(crate) fn row_mut(&mut self, input: usize) -> &mut [f32] {
        &mut self.values[input * self.stride..][..self.stride]
    }

    /// The weights of an input.
    pub(crate) fn row(&self, input: usize) -> &[f32] {
        &self.values[input * self.stride..][..self.stride]
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&self.values[..]) as u64
    }
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.width]
    }
}

/// `bend(start + input * weight)` for `rows` rows; writes the padding too. Memory that is needed later is asked for meanwhile.
///
/// # Panics
/// When the shapes do not fit.
#[expect(clippy::too_many_arguments, reason = "a loop of the engine; a struct would be built for each call")]
#[inline(always)]
pub(crate) fn layer<S: Simd>(
    simd: S,
    rows: usize,
    input: Rows<'_>,
    weight: &Matrix,
    start: Start<'_>,
    bend: Bend,
    out: &mut Output<'_>,
    ahead: &mut Ahead,
) {
    assert_eq!(input.width, weight.inputs, "width of the input");
    // A function of its own for each instruction set: it is large, and called from many places.
    simd.vectorize(Task { rows, input, weight, start, bend, out, ahead });
}

/// A layer to be computed.
struct Task<'a, 'b> {
    rows: usize,
    input: Rows<'a>,
    weight: &'a Matrix,
    start: Start<'a>,
    bend: Bend,
    out: &'a mut Output<'b>,
    ahead: &'a mut Ahead,
}

impl WithSimd for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let vectors = self.weight.stride / S::F32_LANES;
        let mut column = 0;
        // The columns outside, so that their weights stay in the cache while all rows pass.
        while vectors - column >= 3 {
            columns::<S, 3>(simd, &mut self, column);
            column += 3;
        }
        match vectors - column {
            2 => columns::<S, 2>(simd, &mut self, column),
            1 => columns::<S, 1>(simd, &mut self, column),
            _ => {}
        }
    }
}

/// `N` registers of columns for all rows.
#[inline(always)]
fn columns<S: Simd, const N: usize>(simd: S, task: &mut Task<'_, '_>, column: usize) {
    let rows = task.rows;
    let mut row = 0;
    // As many sums as the registers hold, beside the weights of N columns and one input.
    if S::REGISTER_COUNT >= 32 {
        while rows - row >= 8 {
            tile::<S, 8, N>(simd, task, row, column);
            row += 8;
        }
    }
    while rows - row >= 4 {
        tile::<S, 4, N>(simd, task, row, column);
        row += 4;
    }
    while rows - row >= 2 {
        tile::<S, 2, N>(simd, task, row, column);
        row += 2;
    }
    if row < rows {
        tile::<S, 1, N>(simd, task, row, column);
    }
}

/// Writes code out for each row, or column, of a tile, its number a constant: only then does the compiler keep all sums in
/// registers. Loops over an array are unrolled too late for that, and every sum would be stored in every step.
macro_rules! for_each {
    (row $number:ident in 0..$end:ident, $body:block) => {
        for_each!(@ $number, $end, $body, 0 1 2 3 4 5 6 7)
    };
    (column $number:ident in 0..$end:ident, $body:block) => {
        for_each!(@ $number, $end, $body, 0 1 2)
    };
    (@ $number:ident, $end:ident, $body:block, $($value:literal)*) => {
        $(
            if $value < $end {
                const $number: usize = $value;
                $body
            }
        )*
    };
}

/// Inputs between two looks at what is needed later.
const STEP: usize = 32;
/// Rows of the largest tile.
const ROWS: usize = 8;
/// Registers of columns of the widest tile.
const COLUMNS: usize = 3;

/// `M` rows and `N` registers of columns: all sums stay in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(
    simd: S,
    task: &mut Task<'_, '_>,
    row: usize,
    column: usize,
) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; COLUMNS]; ROWS];
    let inputs = task.weight.inputs;
    let mut lines: [&[f32]; ROWS] = [&[]; ROWS];
    for_each!(row ROW in 0..M, {
        let start: &[f32] = match (task.start, &*task.out) {
            (Start::Row(start), _) => start,
            (Start::Output, Output::Rows { values, stride }) => &values[(row + ROW) * stride..],
            (Start::Output, Output::Dot { .. }) => &[],
        };
        let (start, _) = S::as_simd_f32s(start);
        let start = &start[column..column + N];
        for_each!(column COLUMN in 0..N, { sums[ROW][COLUMN] = start[COLUMN] });
        lines[ROW] = &task.input.row(row + ROW)[..inputs];
    });
    let weights = &task.weight.values[..inputs * task.weight.stride];
    let mut done = 0;
    for weights in weights.chunks(STEP * task.weight.stride) {
        let count = weights.len() / task.weight.stride;
        task.ahead.after((M * N * S::F32_LANES * count) as u64);
        let mut inputs: [&[f32]; ROWS] = [&[]; ROWS];
        for_each!(row ROW in 0..M, { inputs[ROW] = &lines[ROW][done..done + count] });
        for (k, weights) in weights.chunks_exact(task.weight.stride).enumerate() {
            let (weights, _) = S::as_simd_f32s(weights);
            let weights = &weights[column..column + N];
            let mut held = [zero; COLUMNS];
            for_each!(column COLUMN in 0..N, { held[COLUMN] = weights[COLUMN] });
            for_each!(row ROW in 0..M, {
                let x = simd.splat_f32s(inputs[ROW][k]);
                for_each!(column COLUMN in 0..N, {
                    sums[ROW][COLUMN] = simd.mul_add_e_f32s(x, held[COLUMN], sums[ROW][COLUMN]);
                });
            });
        }
        done += count;
    }
    let how = task.bend;
    match task.out {
        Output::Rows { values, stride } => {
            for_each!(row ROW in 0..M, {
                let (out, _) = S::as_mut_simd_f32s(&mut values[(row + ROW) * *stride..]);
                let out = &mut out[column..column + N];
                for_each!(column COLUMN in 0..N, { out[COLUMN] = bend(simd, sums[ROW][COLUMN], how) });
            });
        }
        Output::Dot { weights, sums: dots } => {
            let (weights, _) = S::as_simd_f32s(weights);
            let weights = &weights[column..column + N];
            for_each!(row ROW in 0..M, {
                let (dot, _) = S::as_mut_simd_f32s(&mut dots[(row + ROW) * PAD..][..PAD]);
                let mut sum = if column == 0 { zero } else { dot[0] };
                for_each!(column COLUMN in 0..N, {
                    sum = simd.mul_add_e_f32s(bend(simd, sums[ROW][COLUMN], how), weights[COLUMN], sum);
                });
                dot[0] = sum;
            });
        }
    }
}

#[inline(always)]
fn bend<S: Simd>(simd: S, x: S::f32s, bend: Bend) -> S::f32s {
    match bend {
        Bend::None => x,
        Bend::Slope(slope) => {
            let is_positive = simd.greater_than_f32s(x, simd.splat_f32s(0.0));
            simd.select_f32s(is_positive, x, simd.mul_f32s(x, simd.splat_f32s(slope)))
        }
    }
}

/// `out = bend(a + b)` over a row.
///
/// # Panics
/// When the lengths differ.
#[inline(always)]
pub(crate) fn add_bent<S: Simd>(simd: S, a: &[f32], b: &[f32], how: Bend, out: &mut [f32]) {
    assert!(a.len() == b.len() && a.len() == out.len(), "rows of one length");
    let ((a, _), (b, _)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let (out, _) = S::as_mut_simd_f32s(out);
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = bend(simd, simd.add_f32s(*a, *b), how);
    }
}

/// `out = bend(out)` over a row.
#[inline(always)]
pub(crate) fn bend_row<S: Simd>(simd: S, how: Bend, out: &mut [f32]) {
    let (out, _) = S::as_mut_simd_f32s(out);
    for value in out {
        *value = bend(simd, *value, how);
    }
}

/// `out += factor * values` over a row.
#[inline(always)]
pub(crate) fn add_scaled<S: Simd>(simd: S, values: &[f32], factor: f32, out: &mut [f32]) {
    let factors = simd.splat_f32s(factor);
    let (vectors, tail) = S::as_simd_f32s(values);
    let (out, out_tail) = S::as_mut_simd_f32s(out);
    for (out, value) in out.iter_mut().zip(vectors) {
        *out = simd.mul_add_e_f32s(factors, *value, *out);
    }
    for (out, value) in out_tail.iter_mut().zip(tail) {
        *out += factor * value;
    }
}

/// `out += values + factor * scaled` over a padded row.
#[inline(always)]
pub(crate) fn add_with_scaled<S: Simd>(
    simd: S,
    values: &[f32],
    scaled: &[f32],
    factor: f32,
    out: &mut [f32],
) {
    let factors = simd.splat_f32s(factor);
    let (values, _) = S::as_simd_f32s(values);
    let (scaled, _) = S::as_simd_f32s(scaled);
    let (out, _) = S::as_mut_simd_f32s(out);
    for ((out, value), scaled) in out.iter_mut().zip(values).zip(scaled) {
        *out = simd.add_f32s(*out, simd.mul_add_e_f32s(factors, *scaled, *value));
    }
}

/// The sum of a row's [`Output::Dot`].
#[inline(always)]
pub(crate) fn sum_of_dot<S: Simd>(simd: S, dot: &[f32]) -> f32 {
    let (sums, _) = S::as_simd_f32s(dot);
    simd.reduce_sum_f32s(sums[0])
}

/// `sum(a * b)` of two padded rows.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, _), (b, _)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    simd.reduce_sum_f32s(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Instructions;

    struct Layer<'a, 'b> {
        rows: usize,
        input: Rows<'a>,
        weight: &'a Matrix,
        start: Start<'a>,
        bend: Bend,
        out: &'a mut Output<'b>,
        ahead: &'a mut Ahead,
    }

    impl WithSimd for Layer<'_, '_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            let Self { rows, input, weight, start, bend, out, ahead } = self;
            layer(simd, rows, input, weight, start, bend, out, ahead);
        }
    }

    /// Small whole numbers: every order of summation gives the same.
    fn whole(index: usize) -> f32 {
        (index * 7919 % 11) as f32 - 5.0
    }

    #[test]
    fn layers_of_all_shapes_equal_three_loops() {
        for rows in [1, 2, 3, 7, 8, 13, 32] {
            for (inputs, outputs) in [(0, 3), (1, 1), (5, 16), (17, 33), (40, 80), (3, 200)] {
                for bend in [Bend::None, Bend::Slope(0.0), Bend::Slope(0.25)] {
                    check(rows, inputs, outputs, bend);
                }
            }
        }
    }

    fn check(rows: usize, inputs: usize, outputs: usize, bend: Bend) {
        let mut weight = Matrix::zeros(inputs, outputs);
        for input in 0..inputs {
            for output in 0..outputs {
                weight.row_mut(input)[output] = whole(input * outputs + output);
            }
        }
        let values: Vec<f32> = (0..rows * (inputs + 2)).map(whole).collect();
        let input = Rows { values: &values, stride: inputs + 2, width: inputs };
        let mut begin = vec![0.0; weight.stride];
        (0..outputs).for_each(|output| begin[output] = whole(output + 3));
        let expected = |row: usize, output: usize| {
            let terms = (0..inputs).map(|i| input.row(row)[i] * whole(i * outputs + output));
            let sum = whole(output + 3) + terms.sum::<f32>();
            match bend {
                Bend::None => sum,
                Bend::Slope(slope) => sum.max(0.0) + slope * sum.min(0.0),
            }
        };
        let run = |start: Start<'_>, out: &mut Output<'_>| {
            let mut ahead = Ahead::default();
            ahead.begin((rows * inputs * weight.stride) as u64);
            ahead.push(&values, 0..values.len());
            let ahead = &mut ahead;
            Instructions::detect().run(Layer { rows, input, weight: &weight, start, bend, out, ahead });
        };
        let what = format!("{rows} x {inputs} x {outputs}");
        for from_output in [false, true] {
            let mut found: Vec<f32> = begin.repeat(rows);
            let start = if from_output { Start::Output } else { Start::Row(&begin) };
            run(start, &mut Output::Rows { values: &mut found, stride: weight.stride });
            for row in 0..rows {
                for output in 0..outputs {
                    let found = found[row * weight.stride + output];
                    assert_eq!(found, expected(row, output), "{what}, {row}, {output}");
                }
            }
        }
        let mut last = vec![0.0; weight.stride];
        (0..outputs).for_each(|output| last[output] = whole(output + 1));
        let mut sums = vec![0.0; rows * PAD];
        run(Start::Row(&begin), &mut Output::Dot { weights: &last, sums: &mut sums });
        for row in 0..rows {
            let expected: f32 = (0..outputs).map(|output| expected(row, output) * last[output]).sum();
            let found: f32 = sums[row * PAD..][..PAD].iter().sum();
            assert_eq!(found, expected, "{what}, {row}, dot");
        }
    }
}
