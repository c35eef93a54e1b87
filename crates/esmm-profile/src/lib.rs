//! A first look at files of impressions: what their columns seem to be, and a run file made of that.
//!
//! ```text
//! files --dialect, Sample--> columns of text --Column--> labels, split, group, features, left out --> TOML
//!          bounded rows                        counts      guesses, each with its reason             tried on the sample
//! ```
//!
//! Guesses are made to be edited: each one stands in the run file with its reason and the nearest alternatives, and
//! what was unsure is listed. The run file is parsed, resolved and tried on the rows that were looked at before anyone
//! sees it, so `esmm train` takes it as it is.

mod bags;
mod choose;
mod column;
mod dialect;
mod doubts;
mod draft;
mod expect;
mod feature;
mod group;
mod guesses;
mod label;
mod leak;
mod list;
mod named_files;
mod numbers;
mod plan;
mod sample;
mod split;
mod stats;
mod time_order;
mod trial;
mod words;
mod worth;
mod write;

pub use draft::{Draft, ProfileRequest};
