//! A trained ESMM as an ONNX model.
//!
//! [`export()`] writes the model of a run directory: table rows in, probabilities out, the user's half of the first layer
//! computed once for all items. Beside it go `preprocessing.json` and `vocabularies.parquet`, which suffice to encode rows
//! anywhere, and `golden.json`, a request with its answer.
//!
//! ```no_run
//! # fn main() -> Result<(), esmm_onnx::OnnxError> {
//! let exported = esmm_onnx::export("runs/mine".as_ref(), "model.onnx".as_ref(), &Default::default())?;
//! println!("{}", exported.model.display());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod error;
mod export;
mod golden;
mod graph;
mod inputs;
mod message;

pub use error::OnnxError;
pub use export::{ExportOptions, Exported, MOST_INSIDE, OPSET, export};
