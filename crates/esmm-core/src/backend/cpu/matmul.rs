//! Matmuls, on one core each, through the `gemm` crate.

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
    unsafe { run(lhs, rhs, out.as_mut_ptr().cast(), false) }
}

/// `out += lhs * rhs`, row-major.
///
/// # Panics
/// When the shapes do not fit.
pub(super) fn add_matmul(lhs: Matrix<'_>, rhs: Matrix<'_>, out: &mut [f32]) {
    check(lhs, rhs, out.len());
    // SAFETY: `check` holds, and `out` is initialized.
    unsafe { run(lhs, rhs, out.as_mut_ptr(), true) }
}

fn check(lhs: Matrix<'_>, rhs: Matrix<'_>, out: usize) {
    assert!(
        lhs.columns == rhs.rows && out == lhs.rows * rhs.columns && lhs.fits() && rhs.fits(),
        "{lhs:?} times {rhs:?} into {out} values"
    );
}

/// # Safety
/// The matrices fit their slices and each other, `out` points to `lhs.rows * rhs.columns` values that nobody else
/// touches, and they are initialized if `add`.
unsafe fn run(lhs: Matrix<'_>, rhs: Matrix<'_>, out: *mut f32, add: bool) {
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
            columns as isize,
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
