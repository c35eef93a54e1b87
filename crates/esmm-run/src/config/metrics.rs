//! `[metrics]`: what is measured beyond the metrics that need labels only.

use esmm_data::TruthSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is measured beyond the metrics that need labels only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricSection {
    /// The column whose values are the groups of GAUC.
    pub group: Option<String>,
    /// Column with the true CTR; with `true_cvr`.
    pub true_ctr: Option<String>,
    /// Column with the true CVR, over all impressions; with `true_ctr`.
    pub true_cvr: Option<String>,
    /// Column with the true CTCVR, where hidden causes keep it from being true CTR x true CVR.
    pub true_ctcvr: Option<String>,
}

/// The columns with true rates.
pub(super) fn truth(metrics: &MetricSection) -> Option<TruthSpec> {
    let truth = TruthSpec {
        ctr: metrics.true_ctr.clone(),
        cvr: metrics.true_cvr.clone(),
        ctcvr: metrics.true_ctcvr.clone(),
    };
    let is_given = truth.ctr.is_some() || truth.cvr.is_some() || truth.ctcvr.is_some();
    is_given.then_some(truth)
}
