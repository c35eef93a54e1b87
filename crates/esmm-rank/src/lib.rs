//! Ranking with a trained ESMM: one user, many candidates, f32, no autodiff.
//!
//! A [`Ranker`] is made of a model's configuration and weights. It folds batch norm into the weights and cuts the first
//! layer into three shares: what the query (user and context) brings, computed once a request; what an item brings,
//! computed once a model for the items of a [`Catalogue`] and once a request for others; and what belongs to a pair of
//! both, as the position on a page. [`Ranker::score`] adds the shares and runs the hidden layers, some candidates at a
//! time, on one thread and without allocating once its [`Scratch`] is warm.
//!
//! The scores are those of `Esmm::forward` of [`esmm_core`], but for the rounding of sums.
#![deny(unsafe_code)]

mod aligned;
mod catalogue;
mod encoded;
mod error;
mod funnel;
mod ids;
mod items;
mod kernel;
mod model;
mod open;
mod order;
mod part;
mod prefetch;
mod ranker;
mod score;
mod score_column;
mod shares;
mod simd;
mod stairs;
mod weights;

pub use catalogue::Catalogue;
pub use encoded::{Borrowed, Encoded};
pub use error::RankError;
pub use ids::Lookup;
pub use items::ItemSource;
pub use model::{ModelParts, RankModel};
pub use open::version;
pub use order::best;
pub use part::{Columns, Part};
pub use ranker::{Ranker, Request, Scores};
pub use score::Scratch;
pub use score_column::{ScoreColumn, ScoreKind};
pub use shares::SharePrecision;
pub use weights::{FoldedLayer, FoldedModel, input_columns};
