//! Parts of a layer's input that rows share: multiplied once for each of their rows, added to the rows of the batch.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use multiversion::multiversion;

use super::matmul::{Matrix, add_matmul, matmul, tile_matmul, tiles};
use super::stairs::StairAddend;
use super::tasks;
use super::work::{Piece, pieces, written};

/// Rows of a part in one task.
const PART_ROWS: usize = 64;

/// A part of the input of which rows of the batch read the same few rows.
pub(super) struct Shared<'a> {
    /// Rows of the part, R.
    pub(super) rows: usize,
    /// Its values for each copy of the table, `[R, W]`.
    pub(super) values: Vec<&'a [f32]>,
    /// Its rows of the weights.
    pub(super) weight: WeightRows<'a>,
    /// Its columns of the input.
    pub(super) columns: &'a [Range<usize>],
    /// Row of the part that each row of the batch reads, `[B]`.
    pub(super) of_rows: &'a [u32],
}

/// Some rows of every tower's weights.
pub(super) struct WeightRows<'a> {
    values: Cow<'a, [f32]>,
    /// Distance of two towers.
    stride: usize,
    /// Place of the first row in a tower.
    first: usize,
}

/// The matmuls of a part, `[K, R, O]`, and who reads them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addend<'a> {
    pub(super) matmuls: &'a [f32],
    pub(super) of_rows: &'a [u32],
}

/// What rows add to the matmul of what they have of their own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Addends<'a> {
    pub(super) shared: &'a [Addend<'a>],
    pub(super) stairs: &'a [StairAddend<'a>],
}

/// The addends of some rows of one tower.
#[derive(Debug, Default)]
pub(super) struct RowAddends<'a> {
    /// Matmuls of parts, and the row of them that each row reads.
    shared: Vec<(&'a [f32], &'a [u32])>,
    stairs: Vec<StairAddend<'a>>,
}

/// Gradients of parts, one after the other.
pub(super) struct SharedGrads {
    /// `[K, W, O]` each.
    pub(super) weight: Vec<f32>,
    /// `[T, R, W]` each.
    pub(super) values: Vec<f32>,
}

impl Shared<'_> {
    /// Its columns, W.
    pub(super) fn width(&self) -> usize {
        self.values.first().map_or(0, |values| values.len() / self.rows)
    }

    fn values_of(&self, tower: usize) -> Matrix<'_> {
        let copy = if self.values.len() == 1 { 0 } else { tower };
        Matrix::new(self.values[copy], self.rows, self.width())
    }

    fn weight_of(&self, tower: usize, outputs: usize) -> Matrix<'_> {
        self.weight.of(tower, self.width(), outputs)
    }

    fn copies(&self) -> usize {
        self.values.len()
    }
}

/// The matmuls of all parts, `[K, R, O]` of one after the other.
pub(super) fn matmuls(parts: &[Shared<'_>], towers: usize, outputs: usize) -> Vec<f32> {
    let lens: Vec<_> = parts.iter().map(|part| towers * part.rows * outputs).collect();
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let outs = parts.iter().zip(split_mut(out, &lens));
        let tasks = outs.flat_map(|(part, out)| {
            pieces(out, towers, outputs, PART_ROWS).into_iter().map(move |piece| (part, piece))
        });
        tasks::each("matmul of shared rows", tasks.collect(), |(part, Piece { tower, rows, values })| {
            matmul(part.values_of(tower).rows(rows), part.weight_of(tower, outputs), values);
        });
    };
    // SAFETY: the pieces are all of `out`, and `matmul` writes all of each.
    unsafe { written(lens.iter().sum(), fill) }.0
}

/// Gradients of all parts, out of `sums`, the gradients of their matmuls: of the weights `[K, W, O]`, and of the values
/// `[T, R, W]`, of one part after the other.
pub(super) fn backward(parts: &[Shared<'_>], sums: &[f32], towers: usize, outputs: usize) -> SharedGrads {
    let sums: Vec<&[f32]> = split(sums, parts.iter().map(|part| towers * part.rows * outputs)).collect();
    let sums_of = |part: usize, tower: usize| {
        let rows = parts[part].rows;
        Matrix::new(&sums[part][tower * rows * outputs..][..rows * outputs], rows, outputs)
    };
    let lens: Vec<_> = parts.iter().map(|part| towers * part.width() * outputs).collect();
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let outs = parts.iter().zip(split_mut(out, &lens)).enumerate();
        let tasks = outs.flat_map(|(index, (part, out))| {
            let tiles = tiles(out, towers, part.width(), outputs, 1);
            tiles.into_iter().map(move |tile| (index, part, tile))
        });
        tasks::each("weight gradient of shared rows", tasks.collect(), |(index, part, tile)| {
            let values = part.values_of(tile.matrix()).columns(tile.rows());
            let sums = sums_of(index, tile.matrix()).columns(tile.columns());
            tile_matmul(values.transposed(), sums, tile);
        });
    };
    // SAFETY: the tiles are all of `out`, and `tile_matmul` writes all of each.
    let weight = unsafe { written(lens.iter().sum(), fill) }.0;
    let lens: Vec<_> = parts.iter().map(|part| part.copies() * part.rows * part.width()).collect();
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let outs = parts.iter().zip(split_mut(out, &lens)).enumerate();
        let tasks = outs.flat_map(|(index, (part, out))| {
            let pieces = pieces(out, part.copies(), part.width(), PART_ROWS);
            pieces.into_iter().map(move |piece| (index, part, piece))
        });
        tasks::each(
            "gradient of shared rows",
            tasks.collect(),
            |(index, part, Piece { tower: copy, rows, values })| {
                let members = if part.copies() == 1 { 0..towers } else { copy..copy + 1 };
                for tower in members.clone() {
                    let grad = sums_of(index, tower).rows(rows.clone());
                    let weight = part.weight_of(tower, outputs).transposed();
                    if tower == members.start {
                        matmul(grad, weight, values);
                    } else {
                        // SAFETY: the matmul of the first member wrote every element.
                        add_matmul(grad, weight, unsafe { values.assume_init_mut() });
                    }
                }
            },
        );
    };
    // SAFETY: the pieces are all of `out`, and the matmul of the first tower of each writes all of it.
    let values = unsafe { written(lens.iter().sum(), fill) }.0;
    SharedGrads { weight, values }
}

/// Values cut into pieces of these lengths.
pub(super) fn split(values: &[f32], lens: impl Iterator<Item = usize>) -> impl Iterator<Item = &[f32]> {
    let mut rest = values;
    lens.map(move |len| {
        let (piece, after) = rest.split_at(len);
        rest = after;
        piece
    })
}

/// The same, to write them.
pub(super) fn split_mut<'a, T>(values: &'a mut [T], lens: &[usize]) -> Vec<&'a mut [T]> {
    let mut rest = values;
    let pieces = lens.iter().map(|len| {
        let (piece, after) = std::mem::take(&mut rest).split_at_mut(*len);
        rest = after;
        piece
    });
    pieces.collect()
}

impl<'a> Addend<'a> {
    /// What rows `rows` of the batch add in tower `tower`.
    pub(super) fn of(self, tower: usize, towers: usize, rows: Range<usize>) -> (&'a [f32], &'a [u32]) {
        let len = self.matmuls.len() / towers;
        (&self.matmuls[tower * len..][..len], &self.of_rows[rows])
    }
}

impl<'a> Addends<'a> {
    /// What rows `rows` of the batch add in tower `tower`.
    pub(super) fn of(self, tower: usize, towers: usize, rows: Range<usize>) -> RowAddends<'a> {
        let shared = self.shared.iter().map(|addend| addend.of(tower, towers, rows.clone()));
        let stairs = self.stairs.iter().map(|addend| addend.of(tower, towers, rows.clone()));
        RowAddends { shared: shared.collect(), stairs: stairs.collect() }
    }
}

impl RowAddends<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.stairs.is_empty()
    }
}

/// Adds `bias` and what each row reads of every part to it.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
pub(super) fn add_to_rows(rows: &mut [f32], bias: &[f32], addends: &RowAddends<'_>) {
    let width = bias.len();
    for (row, out) in rows.chunks_exact_mut(width).enumerate() {
        for (to, value) in out.iter_mut().zip(bias) {
            *to += value;
        }
        // Two at a time: half as many passes over the row.
        let mut pairs = addends.shared.chunks_exact(2);
        for pair in &mut pairs {
            for ((to, first), second) in
                out.iter_mut().zip(read(pair[0], row, width)).zip(read(pair[1], row, width))
            {
                *to += first + second;
            }
        }
        for last in pairs.remainder() {
            for (to, value) in out.iter_mut().zip(read(*last, row, width)) {
                *to += value;
            }
        }
        for stairs in &addends.stairs {
            let (below, next, factor) = stairs.read(row, width);
            for ((to, below), next) in out.iter_mut().zip(below).zip(next) {
                *to += below + factor * next;
            }
        }
    }
}

#[inline(always)]
fn read<'a>((matmuls, of_rows): (&'a [f32], &[u32]), row: usize, width: usize) -> &'a [f32] {
    &matmuls[of_rows[row] as usize * width..][..width]
}

impl<'a> WeightRows<'a> {
    /// Rows `columns` of `weight [K, I, O]`: where they lie if they are neighbours, else one after the other in a copy.
    pub(super) fn pick(weight: &'a [f32], towers: usize, outputs: usize, columns: &[Range<usize>]) -> Self {
        let stride = weight.len() / towers;
        if let [rows] = columns {
            return Self { values: Cow::Borrowed(weight), stride, first: rows.start * outputs };
        }
        let values = pick_rows(weight, towers, outputs, columns);
        Self { stride: values.len() / towers, values, first: 0 }
    }

    fn of(&self, tower: usize, rows: usize, outputs: usize) -> Matrix<'_> {
        Matrix::new(&self.values[tower * self.stride + self.first..][..rows * outputs], rows, outputs)
    }
}

/// Rows `columns` of every tower's weights one after the other, `[K, I, O]` to `[K, W, O]`.
pub(super) fn pick_rows<'a>(
    weight: &'a [f32],
    towers: usize,
    outputs: usize,
    columns: &[Range<usize>],
) -> Cow<'a, [f32]> {
    let len = weight.len() / towers;
    if matches!(columns, [all] if *all == (0..len / outputs)) {
        return Cow::Borrowed(weight);
    }
    let segments = segments(columns);
    let width: usize = columns.iter().map(Range::len).sum();
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let lens: Vec<_> = segments.iter().map(|rows| rows.len() * outputs).collect();
        let towers = weight.chunks_exact(len).zip(out.chunks_exact_mut((width * outputs).max(1)));
        let tasks = towers.flat_map(|(tower, out)| {
            let rows = segments.iter().map(move |rows| &tower[rows.start * outputs..rows.end * outputs]);
            split_mut(out, &lens).into_iter().zip(rows)
        });
        tasks::each("own weights", tasks.collect(), |(out, rows)| {
            out.write_copy_of_slice(rows);
        });
    };
    // SAFETY: the segments are all of `out`, and all of each is written.
    Cow::Owned(unsafe { written(towers * width * outputs, fill) }.0)
}

/// Rows of weights that are copied in one task.
const COPIED_ROWS: usize = 32;

/// The ranges, cut into ranges of at most [`COPIED_ROWS`].
fn segments(columns: &[Range<usize>]) -> Vec<Range<usize>> {
    let cut = |rows: &Range<usize>| {
        let end = rows.end;
        rows.clone().step_by(COPIED_ROWS).map(move |start| start..end.min(start + COPIED_ROWS))
    };
    columns.iter().flat_map(cut).collect()
}

/// All rows of the weights, `[K, I, O]`, out of parts `[K, W, O]` with the rows that each has: the inverse of [`pick_rows`].
///
/// # Panics
/// When the parts are not all of the rows, each once.
pub(super) fn put_rows(parts: &[(&[f32], &[Range<usize>])], towers: usize, outputs: usize) -> Vec<f32> {
    // Row of the weights, and where the rows that begin there come from: the part, its row there.
    let mut segments_of: Vec<(Range<usize>, &[f32], usize)> = Vec::new();
    for (part, columns) in parts {
        let mut row = 0;
        for rows in segments(columns) {
            let len = rows.len();
            segments_of.push((rows, *part, row));
            row += len;
        }
    }
    segments_of.sort_unstable_by_key(|(rows, ..)| rows.start);
    let mut end = 0;
    for (rows, ..) in &segments_of {
        assert_eq!(rows.start, end, "rows of the weights in no part, or in two");
        end = rows.end;
    }
    let lens: Vec<_> = segments_of.iter().map(|(rows, ..)| rows.len() * outputs).collect();
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let outs = out.chunks_exact_mut((end * outputs).max(1)).enumerate();
        let tasks = outs.flat_map(|(tower, out)| {
            let rows = segments_of
                .iter()
                .map(move |(_, part, row)| &part[tower * (part.len() / towers) + row * outputs..]);
            split_mut(out, &lens).into_iter().zip(rows)
        });
        tasks::each("weight gradients joined", tasks.collect(), |(out, rows)| {
            out.write_copy_of_slice(&rows[..out.len()]);
        });
    };
    // SAFETY: the segments are all of `out`, and all of each is written.
    unsafe { written(towers * end * outputs, fill) }.0
}
