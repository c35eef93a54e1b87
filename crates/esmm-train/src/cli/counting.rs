//! Flags that say how labelled data counts where it is not like the training data.

use esmm_train::config::NegativeRateSetting;
use esmm_train::counting::LabelledAs;

/// How the rows of DATA count where that is not as in the training.
#[derive(Debug, clap::Args)]
pub(super) struct CountingArgs {
    /// The share of the impressions without a click that DATA still holds, in (0, 1], or the column that has it for each row;
    /// by default as in the training data. 1 is for a full log.
    #[arg(long, value_name = "RATE|COLUMN", allow_negative_numbers = true)]
    negative_rate: Option<NegativeRateSetting>,
    /// Where the run has `labels.weight`: each row counts once, and DATA needs no column of weights.
    #[arg(long)]
    no_weights: bool,
    /// Where the run has `labels.conversion_window`: when the log of DATA ends, as its column of times has it; by default at the
    /// newest time in DATA.
    #[arg(long, value_name = "MOMENT", allow_negative_numbers = true)]
    conversions_until: Option<String>,
    /// Where the run has `labels.conversion_window`: all conversions are in DATA already, so no row is too young, and DATA needs
    /// no column of times.
    #[arg(long, conflicts_with = "conversions_until")]
    conversions_complete: bool,
}

impl CountingArgs {
    /// The flags, for a command that has others that they do not go with.
    pub(super) const FLAGS: [&str; 4] =
        ["negative_rate", "no_weights", "conversions_until", "conversions_complete"];

    /// What they say.
    pub(super) fn said(&self) -> LabelledAs {
        LabelledAs {
            negative_rate: self.negative_rate.clone(),
            unweighted: self.no_weights,
            conversions_until: self.conversions_until.clone(),
            conversions_complete: self.conversions_complete,
        }
    }
}
