//! Features: what a person says about them, what is fitted on training rows, and how values become rows of tables and
//! numbers of the model.

mod cells;
pub(crate) mod counter;
mod dense;
mod describe;
pub(crate) mod encoder;
pub(crate) mod feature;
pub(crate) mod fit;
mod hasher;
mod pieces;
mod quantile;
pub(crate) mod save;
mod table;
pub(crate) mod trained_rows;
pub(crate) mod unknown_row;
pub(crate) mod users;
pub(crate) mod vocabulary;
pub(crate) mod vocabulary_file;
