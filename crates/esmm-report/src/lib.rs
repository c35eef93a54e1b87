//! `esmm report`: run directories as one HTML page that needs nothing else, to be looked at and handed on.
//!
//! [`tuning_page`] writes one about a tuning. [`RunReport::read`] takes what a run directory holds, in whatever state it is; [`page`] writes it. Charts are SVG of our
//! own, texts from the data are escaped in one place, and nothing is loaded from anywhere.

mod chart;
mod compare;
mod configuration;
mod correction;
mod curves;
mod drift;
mod format;
mod headline;
mod html;
mod learning;
mod members;
mod overview;
mod page;
mod run;
mod table;
mod tables;
mod tuning;
mod values;

pub use page::page;
pub use run::RunReport;
pub use tuning::tuning_page;
