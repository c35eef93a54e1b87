//! How the rows of labelled data count: as those of the training, or as somebody says of data that is not like them.

use esmm_data::{ConversionWindow, CountSpec, DataError};
use serde::{Deserialize, Serialize};

use crate::config::{NegativeRate, NegativeRateSetting, TrainConfig};
use crate::error::RunError;

/// How the rows of labelled data count: what each weighs, how many impressions were left out, which conversions may still
/// come.
///
/// In JSON `negative_rate` is a share (1 of a full log) or a column, `weight` a column or null, `conversion_window` null where
/// no row is too young.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stated", into = "Stated")]
pub struct RowCounting {
    share: Option<NegativeRate>,
    columns: CountSpec,
}

/// What somebody says of labelled data that is not like the training data. By default nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LabelledAs {
    /// The share of the impressions without a click that the data still holds, or the column that has it for each row;
    /// `None`: as in the training.
    pub negative_rate: Option<NegativeRateSetting>,
    /// Each row counts once, though those of the training have weights.
    pub unweighted: bool,
    /// When the log ends; `None`: at the newest time of the data.
    pub conversions_until: Option<String>,
    /// All conversions are there already: no row is too young, and no times are read.
    pub conversions_complete: bool,
}

/// The form in JSON.
#[derive(Serialize, Deserialize)]
struct Stated {
    negative_rate: NegativeRateSetting,
    weight: Option<String>,
    conversion_window: Option<ConversionWindow>,
}

impl RowCounting {
    /// As the rows of a training counted. When its log ended holds for its own data only.
    pub fn of_training(config: &TrainConfig) -> Self {
        let CountSpec { weight, negative_rate, window } = config.counting.clone();
        let window = window.map(|window| ConversionWindow { until: None, ..window });
        Self { share: config.negative_rate, columns: CountSpec { weight, negative_rate, window } }
    }

    /// The same for data of which something else is said.
    ///
    /// # Errors
    /// A share outside `(0, 1]`; a word about weights or times where the training had none.
    pub fn changed(&self, said: &LabelledAs) -> Result<Self, RunError> {
        let Self { mut share, mut columns } = self.clone();
        if let Some(rate) = &said.negative_rate {
            share = rate.share().map_err(|_| {
                RunError::Config(format!("--negative-rate {rate}: {}", NegativeRate::allowed()))
            })?;
            columns.negative_rate = rate.column().map(str::to_owned);
        }
        let missing = |flag: &str, key: &str| Err(RunError::Config(format!("{flag}: this run has no {key}")));
        if said.unweighted && columns.weight.take().is_none() {
            return missing("--no-weights", "labels.weight");
        }
        if said.conversions_complete && columns.window.take().is_none() {
            return missing("--conversions-complete", "labels.conversion_window");
        }
        if said.conversions_until.is_some() {
            let Some(window) = &mut columns.window else {
                return missing("--conversions-until", "labels.conversion_window");
            };
            window.until = said.conversions_until.clone();
        }
        Ok(Self { share, columns })
    }

    /// The share of the impressions without a click that the data still holds, where one holds for all rows and is below 1.
    pub fn share(&self) -> Option<NegativeRate> {
        self.share
    }

    /// The columns that say how rows count.
    pub fn columns(&self) -> &CountSpec {
        &self.columns
    }

    /// A line for each way of counting, and for each that the training had and this has not.
    pub fn described(&self, trained: &Self) -> Vec<String> {
        let mut lines = self.columns.described();
        if let Some(rate) = self.share {
            let times = 1.0 / rate.get();
            let rate = rate.get();
            lines.push(format!(
                "an impression without a click counts {times:.4} times (negative_rate = {rate})"
            ));
        }
        if self.columns.weight.is_none()
            && let Some(column) = &trained.columns.weight
        {
            lines.push(format!(
                "each row counts once (--no-weights); those of the training counted as often as column `{column}` said"
            ));
        }
        if self.is_full() && !trained.is_full() {
            lines.push(
                "the log is full (--negative-rate 1): each impression without a click counts once; that of the training was \
                 sampled"
                    .to_owned(),
            );
        }
        if self.columns.window.is_none() && trained.columns.window.is_some() {
            lines.push(
                "all conversions are there already (--conversions-complete): no row is too young".to_owned(),
            );
        }
        lines
    }

    /// The same error; one about a column that says how rows count is told with what there is to do without it.
    pub fn with_way_out(&self, error: RunError) -> RunError {
        let RunError::Data(DataError::UnknownColumn { path, column, hint }) = error else { return error };
        let named = Some(column.as_str());
        let time = self.columns.window.as_ref().map(|window| window.column.as_str());
        let way_out = if self.columns.weight.as_deref() == named {
            " (labels.weight of the run: the weight of each row; --no-weights counts each row once)"
        } else if self.columns.negative_rate.as_deref() == named {
            " (the negative rate of each row; --negative-rate takes another column, or one share for all rows: 1 for a full log)"
        } else if time == named {
            " (labels.conversion_window of the run: the time of each row; --conversions-complete takes no row for too young)"
        } else {
            ""
        };
        DataError::UnknownColumn { path, column, hint: hint + way_out }.into()
    }

    /// A warning where the share of clicks is as if the data were sampled in another way than it is taken for: as a full log,
    /// or as the training data was. `before` is the share in the training data, `now` that in this data, both as counted.
    ///
    /// Taking data of the share s for data of the share r multiplies the odds of a click by `r / s`. The warning comes where
    /// this explains more than half of the logarithm of the odds ratio, for factors of 2 and more.
    pub fn doubt(&self, trained: &Self, before: f64, now: f64) -> Option<String> {
        let taken_for = self.one_share()?;
        let ratio = odds_ratio(before, now)?;
        let left_open = |share: &f64| (ratio.ln() - (taken_for / share).ln()).abs();
        let shares = [Some(1.0), trained.one_share()].into_iter().flatten();
        let others = shares.filter(|share| (taken_for / share).ln().abs() >= std::f64::consts::LN_2);
        let perhaps = others.min_by(|one, other| left_open(one).total_cmp(&left_open(other)))?;
        if left_open(&perhaps) >= ratio.ln().abs() {
            return None;
        }
        let found = format!("the odds of a click are {ratio:.2} times those of the training data");
        let counts_as = match taken_for < 1.0 {
            true => format!("one with negative_rate = {taken_for}"),
            false => "a full one".to_owned(),
        };
        Some(match perhaps < 1.0 {
            true => format!(
                "{found}, as of a log with negative_rate = {perhaps} that counts as {counts_as}: if this data is sampled as the \
                 training data was, leave --negative-rate out"
            ),
            false => format!(
                "{found}, as of a full log that counts as {counts_as}: if this data holds all impressions, say --negative-rate 1"
            ),
        })
    }

    /// A warning where the odds of a click are twice those of the training data or more, or half of them or less, though no
    /// rate that is known would explain it. `before` and `now` as in [`doubt`](Self::doubt).
    pub fn oddity(&self, before: f64, now: f64) -> Option<String> {
        let ratio = odds_ratio(before, now)?;
        (ratio.ln().abs() >= std::f64::consts::LN_2).then(|| {
            format!(
                "the odds of a click are {ratio:.2} times those of the training data: if impressions without a click were left \
                 out of one of them and not alike of the other, --negative-rate says how many this data still holds"
            )
        })
    }

    /// Whether no impression was left out.
    fn is_full(&self) -> bool {
        self.share.is_none() && self.columns.negative_rate.is_none()
    }

    /// The share that was kept; `None` where each row has its own.
    fn one_share(&self) -> Option<f64> {
        match self.columns.negative_rate {
            Some(_) => None,
            None => Some(self.share.map_or(1.0, NegativeRate::get)),
        }
    }
}

/// By what the odds of a click were multiplied; `None` where there are no clicks, or nothing else.
fn odds_ratio(before: f64, now: f64) -> Option<f64> {
    let odds = |share: f64| share / (1.0 - share);
    let ratio = odds(now) / odds(before);
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

impl From<RowCounting> for Stated {
    fn from(counting: RowCounting) -> Self {
        let share = counting.share.map_or(1.0, NegativeRate::get);
        let CountSpec { weight, negative_rate, window } = counting.columns;
        let negative_rate =
            negative_rate.map_or(NegativeRateSetting::Share(share), NegativeRateSetting::Column);
        Self { negative_rate, weight, conversion_window: window }
    }
}

impl TryFrom<Stated> for RowCounting {
    type Error = String;

    fn try_from(stated: Stated) -> Result<Self, String> {
        let share = stated.negative_rate.share().map_err(|error| error.to_string())?;
        let negative_rate = stated.negative_rate.column().map(str::to_owned);
        let columns = CountSpec { weight: stated.weight, negative_rate, window: stated.conversion_window };
        Ok(Self { share, columns })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn trained() -> RowCounting {
        let window = ConversionWindow { column: "at".into(), length: "7d".into(), until: None };
        let columns = CountSpec { weight: Some("w".into()), negative_rate: None, window: Some(window) };
        RowCounting { share: NegativeRate::new(0.2).unwrap(), columns }
    }

    fn full() -> RowCounting {
        RowCounting { share: None, columns: CountSpec::default() }
    }

    fn rate(text: &str) -> LabelledAs {
        LabelledAs { negative_rate: Some(text.parse().unwrap()), ..LabelledAs::default() }
    }

    #[test]
    fn what_is_said_changes_what_it_is_about() {
        let trained = trained();
        assert_eq!(trained.changed(&LabelledAs::default()).unwrap(), trained);
        let found = trained.changed(&rate("1")).unwrap();
        assert_eq!((found.share(), &found.columns), (None, &trained.columns));
        let found = trained.changed(&rate("0.5")).unwrap();
        assert_eq!(found.share().map(NegativeRate::get), Some(0.5));
        let found = trained.changed(&rate("kept")).unwrap();
        assert_eq!((found.share(), found.columns.negative_rate.as_deref()), (None, Some("kept")));
        let said = LabelledAs { unweighted: true, conversions_complete: true, ..LabelledAs::default() };
        let found = trained.changed(&said).unwrap();
        assert_eq!((found.share(), &found.columns), (trained.share(), &CountSpec::default()));
        let said = LabelledAs { conversions_until: Some("2024-05-01".into()), ..LabelledAs::default() };
        let window = trained.changed(&said).unwrap().columns.window.unwrap();
        assert_eq!(window.until.as_deref(), Some("2024-05-01"));
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let message = |said: LabelledAs| full().changed(&said).unwrap_err().to_string();
        let none = LabelledAs::default;
        assert_eq!(
            message(LabelledAs { unweighted: true, ..none() }),
            "--no-weights: this run has no labels.weight"
        );
        let expected = "this run has no labels.conversion_window";
        assert!(message(LabelledAs { conversions_complete: true, ..none() }).ends_with(expected));
        assert!(message(LabelledAs { conversions_until: Some("9".into()), ..none() }).ends_with(expected));
        for share in ["0", "1e-10", "-0.5", "1.5", "NaN", "inf"] {
            let said = message(rate(share));
            assert!(said.starts_with("--negative-rate ") && said.contains("above 0 and at most 1"), "{said}");
        }
    }

    #[test]
    fn it_is_stated_in_json_and_read_again() {
        let column = trained().changed(&rate("kept")).unwrap();
        for (counting, expected) in [
            (
                trained(),
                r#"{"negative_rate":0.2,"weight":"w","conversion_window":{"column":"at","length":"7d"}}"#,
            ),
            (full(), r#"{"negative_rate":1.0,"weight":null,"conversion_window":null}"#),
            (
                column,
                r#"{"negative_rate":"kept","weight":"w","conversion_window":{"column":"at","length":"7d"}}"#,
            ),
        ] {
            let text = serde_json::to_string(&counting).unwrap();
            assert_eq!(text, expected);
            assert_eq!(serde_json::from_str::<RowCounting>(&text).unwrap(), counting);
        }
    }

    #[test]
    fn a_column_that_is_not_there_comes_with_a_way_out() {
        let counting = trained().changed(&rate("kept")).unwrap();
        let message = |column: &str| {
            let hint = ", did you mean `x`?".to_owned();
            let error =
                DataError::UnknownColumn { path: PathBuf::from("a.csv"), column: column.into(), hint };
            counting.with_way_out(error.into()).to_string()
        };
        let start = |column: &str| format!("a.csv: there is no column `{column}`, did you mean `x`?");
        for (column, flag) in
            [("w", "--no-weights"), ("kept", "--negative-rate"), ("at", "--conversions-complete")]
        {
            let found = message(column);
            assert!(found.starts_with(&start(column)) && found.contains(flag), "{found}");
        }
        assert_eq!(message("user"), start("user"));
    }

    /// Odds of the full log 1/9; data that holds a fifth of the rows without a click.
    #[test]
    fn a_log_that_is_taken_for_another_raises_a_doubt() {
        let (sampled, full) = (trained(), full());
        let mistaken = sampled.doubt(&sampled, 0.1, 1.0 / 46.0).unwrap();
        assert!(mistaken.starts_with("the odds of a click are 0.20 times"), "{mistaken}");
        assert!(mistaken.ends_with("say --negative-rate 1"), "{mistaken}");
        let mistaken = full.doubt(&sampled, 0.1, 5.0 / 14.0).unwrap();
        assert!(mistaken.ends_with("leave --negative-rate out"), "{mistaken}");
        // A rate that has moved by itself, and less than half way.
        assert_eq!(sampled.doubt(&sampled, 0.1, 0.06), None);
        assert_eq!(full.doubt(&sampled, 0.1, 0.18), None);
        assert_eq!(full.doubt(&full, 0.1, 0.5), None);
        // No click at all, or clicks only, tell nothing.
        assert_eq!(sampled.doubt(&sampled, 0.1, 0.0), None);
        assert_eq!(full.doubt(&sampled, 0.1, 1.0), None);
        let own = trained().changed(&rate("kept")).unwrap();
        assert_eq!(own.doubt(&sampled, 0.1, 1.0 / 46.0), None);
        // A rate of .02 for data that was sampled as the training data was: odds of a tenth.
        let wrong = trained().changed(&rate("0.02")).unwrap();
        let mistaken = wrong.doubt(&sampled, 0.1, 1.0 / 91.0).unwrap();
        assert!(
            mistaken.contains("negative_rate = 0.2 that counts as one with negative_rate = 0.02"),
            "{mistaken}"
        );
        assert!(mistaken.ends_with("leave --negative-rate out"), "{mistaken}");
    }

    #[test]
    fn odds_that_no_known_rate_explains_are_told() {
        let found = full().oddity(0.1, 0.2).unwrap();
        assert!(
            found.starts_with("the odds of a click are 2.25 times those of the training data: "),
            "{found}"
        );
        assert!(full().oddity(0.2, 0.1).is_some());
        for (before, now) in [(0.1, 0.15), (0.1, 0.1), (0.1, 0.0), (0.1, 1.0), (0.0, 0.1)] {
            assert_eq!(full().oddity(before, now), None, "{before} to {now}");
        }
    }
}
