//! Matmuls, on one core each, through the `gemm` crate.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A view of a slice as a matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The row-major matrix `[rows, columns]`.
    ///
    /// # Panics
    /// When there are fewer or more values.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "values of a matrix of {rows} x {columns}");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Some of its columns.
    ///
    /// # Panics
    /// When it has no such columns.
    pub(super) fn columns(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.columns, "{range:?} of {}", self.columns);
        let first = (range.start * self.column_stride).min(self.values.len());
        Self { values: &self.values[first..], columns: range.len(), ..self }
    }

    /// Some of its rows.
    ///
    /// # Panics
    /// When it has no such rows.
    pub(super) fn rows(self, range: Range<usize>) -> Self {
        self.transposed().columns(range).transposed()
    }

    /// Rows as columns.
    pub(super) fn transposed(self) -> Self {
        let rows = self.columns;
        let columns = self.rows;
        Self { rows, columns, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn fits(&self) -> bool {
        if self.rows == 0 || self.columns == 0 {
            return true;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride < self.values.len()
    }
}

/// A tile of one of several row-major matrices: some of its rows, some of its columns. No two of them overlap.
#[derive(Debug)]
pub(super) struct Tile<'a> {
    matrix: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Its first element.
    first: *mut f32,
    /// Distance of two rows.
    stride: usize,
    lives: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: a tile is the only one that points to its elements, as a `&mut` to them would be.
unsafe impl Send for Tile<'_> {}

impl Tile<'_> {
    /// Which of the matrices it is part of.
    pub(super) fn matrix(&self) -> usize {
        self.matrix
    }

    /// Its rows of the matrix.
    pub(super) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Its columns of the matrix.
    pub(super) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// One of its rows, to be written; the first is 0.
    ///
    /// # Panics
    /// When it has no such row.
    #[inline(always)]
    pub(super) fn row(&mut self, row: usize) -> &mut [MaybeUninit<f32>] {
        assert!(row < self.rows.len(), "row {row} of a tile of {}", self.rows.len());
        // SAFETY: the row lies in the tile, whose elements are its own, and `&mut self` lends them to one at a time.
        unsafe {
            std::slice::from_raw_parts_mut(self.first.add(row * self.stride).cast(), self.columns.len())
        }
    }
}

/// Columns of a tile: `gemm`'s kernels compute 48 at once with AVX-512, twice that of AVX2, and pack nothing then. Its
/// kernel for 64 is the faster one where no column is left over.
fn tile_columns(columns: usize) -> usize {
    if columns.is_multiple_of(64) { 64 } else { 48 }
}

/// Rows of a tile at least.
const TILE_ROWS: usize = 24;

/// Cuts `matrices` row-major matrices `[rows, columns]` into tiles: [`tile_columns`] wide, and as high as leaves at least
/// `count` of them, as far as rows and columns go so far.
///
/// # Panics
/// When there are fewer or more values.
pub(super) fn tiles(
    out: &mut [MaybeUninit<f32>],
    matrices: usize,
    rows: usize,
    columns: usize,
    count: usize,
) -> Vec<Tile<'_>> {
    let width = tile_columns(columns);
    let across = columns.div_ceil(width);
    let down = count.div_ceil((matrices * across).max(1));
    let height = rows.div_ceil(down).next_multiple_of(8).max(TILE_ROWS);
    cut(out, matrices, (rows, columns), (height, width))
}

/// Cuts `matrices` row-major matrices `[rows, columns]` into tiles of all rows and `width` columns.
///
/// # Panics
/// When there are fewer or more values.
pub(super) fn strips(
    out: &mut [MaybeUninit<f32>],
    matrices: usize,
    rows: usize,
    columns: usize,
    width: usize,
) -> Vec<Tile<'_>> {
    cut(out, matrices, (rows, columns), (rows.max(1), width))
}

/// Tiles of `height` x `width`; at the edges smaller ones.
fn cut(
    out: &mut [MaybeUninit<f32>],
    matrices: usize,
    (rows, columns): (usize, usize),
    (height, width): (usize, usize),
) -> Vec<Tile<'_>> {
    assert_eq!(out.len(), matrices * rows * columns, "values of {matrices} matrices of {rows} x {columns}");
    let mut tiles = Vec::with_capacity(matrices * columns.div_ceil(width) * rows.div_ceil(height));
    for (matrix, values) in out.chunks_exact_mut((rows * columns).max(1)).enumerate() {
        let start = values.as_mut_ptr().cast::<f32>();
        for row in (0..rows).step_by(height) {
            for column in (0..columns).step_by(width) {
                tiles.push(Tile {
                    matrix,
                    rows: row..rows.min(row + height),
                    columns: column..columns.min(column + width),
                    // SAFETY: the place lies in the matrix.
                    first: unsafe { start.add(row * columns + column) },
                    stride: columns,
                    lives: PhantomData,
                });
            }
        }
    }
    tiles
}

/// `tile = lhs * rhs`. Writes every element.
///
/// # Panics
/// When the shapes do not fit.
pub(super) fn tile_matmul(lhs: Matrix<'_>, rhs: Matrix<'_>, tile: Tile<'_>) {
    let shape = (tile.rows.len(), tile.columns.len());
    assert!(
        lhs.columns > 0
            && lhs.columns == rhs.rows
            && shape == (lhs.rows, rhs.columns)
            && lhs.fits()
            && rhs.fits(),
        "{lhs:?} times {rhs:?} into a tile of {shape:?}"
    );
    // SAFETY: the shapes fit, the tile's elements are its own, and the old values are not read.
    unsafe { run(lhs, rhs, tile.first, tile.stride, false) }
}

/// `out = lhs * rhs`, row-major. Writes every element.
///
/// # Panics
/// When the shapes do not fit.
pub(super) fn matmul(lhs: Matrix<'_>, rhs: Matrix<'_>, out: &mut [MaybeUninit<f32>]) {
    if lhs.columns == 0 {
        out.fill(MaybeUninit::new(0.0));
        return;
    }
    check(lhs, rhs, out.len());
    // SAFETY: `check` holds, and the old values are not read.
    unsafe { run(lhs, rhs, out.as_mut_ptr().cast(), rhs.columns, false) }
}

/// `out += lhs * rhs`, row-major.
///
/// # Panics
/// When the shapes do not fit.
pub(super) fn add_matmul(lhs: Matrix<'_>, rhs: Matrix<'_>, out: &mut [f32]) {
    check(lhs, rhs, out.len());
    // SAFETY: `check` holds, and `out` is initialized.
    unsafe { run(lhs, rhs, out.as_mut_ptr(), rhs.columns, true) }
}

fn check(lhs: Matrix<'_>, rhs: Matrix<'_>, out: usize) {
    assert!(
        lhs.columns == rhs.rows && out == lhs.rows * rhs.columns && lhs.fits() && rhs.fits(),
        "{lhs:?} times {rhs:?} into {out} values"
    );
}

/// # Safety
/// The matrices fit their slices and each other, `out` points to `lhs.rows` rows of `rhs.columns` values, `stride` apart, that
/// nobody else touches, and they are initialized if `add`.
unsafe fn run(lhs: Matrix<'_>, rhs: Matrix<'_>, out: *mut f32, stride: usize, add: bool) {
    let rows = lhs.rows;
    let columns = rhs.columns;
    let depth = lhs.columns;
    // SAFETY: every element that the strides reach lies in its slice, as the caller promises.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out,
            1,
            stride as isize,
            add,
            lhs.values.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.values.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weight gradients of `aliccp`, of its logits and of small towers: enough tasks, and each element in one tile.
    #[test]
    fn tiles_are_all_of_the_matrices() {
        for (matrices, rows, columns, expected) in [
            (2, 216, 360, 32),
            (2, 414, 360, 32),
            (2, 360, 200, 40),
            (2, 200, 80, 28),
            (2, 80, 1, 8),
            (2, 514, 128, 32),
            (1, 7, 3, 1),
            (3, 130, 49, 36),
        ] {
            let mut values = vec![MaybeUninit::new(0.0_f32); matrices * rows * columns];
            let tiles = tiles(&mut values, matrices, rows, columns, 32);
            assert_eq!(tiles.len(), expected, "{matrices} of {rows} x {columns}");
            for tile in tiles {
                let depth = 2;
                let ones = vec![1.0; depth * tile.rows().len()];
                let right: Vec<f32> = tile.columns().map(|column| (1 + column) as f32).collect();
                let right = [right.clone(), right].concat();
                let ones = Matrix::new(&ones, tile.rows().len(), depth);
                tile_matmul(ones, Matrix::new(&right, depth, tile.columns().len()), tile);
            }
            // SAFETY: they were initialized with 0.
            let values = unsafe { values.assume_init_ref() };
            let expected = |place: usize| (2 * (1 + place % columns)) as f32;
            assert!(values.iter().enumerate().all(|(place, value)| *value == expected(place)));
        }
    }

    #[test]
    fn strips_have_all_rows() {
        let mut values = vec![MaybeUninit::new(0.0_f32); 2 * 5 * 7];
        for (index, mut strip) in strips(&mut values, 2, 5, 7, 3).into_iter().enumerate() {
            assert_eq!(
                (strip.matrix(), strip.rows(), strip.columns().start),
                (index / 3, 0..5, index % 3 * 3)
            );
            for row in 0..5 {
                let first = (strip.matrix() * 5 + row) * 7 + strip.columns().start;
                for (place, value) in (first..).zip(strip.row(row)) {
                    value.write(place as f32);
                }
            }
        }
        // SAFETY: they were initialized with 0.
        let values = unsafe { values.assume_init_ref() };
        assert!(values.iter().enumerate().all(|(place, value)| *value == place as f32));
    }

    #[test]
    #[should_panic(expected = "row 5 of a tile of 5")]
    fn a_row_beyond_a_tile() {
        let mut values = vec![MaybeUninit::new(0.0_f32); 2 * 5 * 7];
        strips(&mut values, 2, 5, 7, 3).swap_remove(0).row(5);
    }

    #[test]
    #[should_panic(expected = "into a tile of (24, 48)")]
    fn a_tile_of_another_shape() {
        let mut values = vec![MaybeUninit::new(0.0_f32); 48 * 96];
        let tile = tiles(&mut values, 1, 48, 96, 32).swap_remove(0);
        tile_matmul(Matrix::new(&[1.0; 4], 2, 2), Matrix::new(&[1.0; 4], 2, 2), tile);
    }
}
