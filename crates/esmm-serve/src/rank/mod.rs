//! `/v1/rank`: from a body to an answer, without anything of HTTP.

pub(crate) mod answer;
pub(crate) mod columns;
pub(crate) mod request;
pub(crate) mod run;
pub(crate) mod value;
