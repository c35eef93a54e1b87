//! Rows that stay in their files and are read again in every pass, for data that does not fit in memory.
//!
//! One pass over the files fits the encoders and counts, for each block (`read/blocks.rs`), the rows of every split. After
//! that a split is a list of blocks. A pass reads them in an order of its own, a block after another, keeps the split's
//! rows, encodes them and hands them over in windows of equal size; only windows are in memory. As the rows of each block
//! are known, a pass can start at any window without reading the ones before: this is what an exact resume needs.

pub(crate) mod reading;
pub(crate) mod rows;
mod windows;

pub use rows::FileRows;
pub use windows::WindowSizes;
