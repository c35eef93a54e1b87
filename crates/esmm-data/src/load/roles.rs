//! What columns are read for beside features: each role with its key of a run file.

use super::spec::DataSpec;
use crate::error::DataError;
use crate::outcome::counting::CountSpec;
use crate::outcome::truth::TruthSpec;

/// A column that is read for something else than a feature.
struct Role<'a> {
    /// The key of a run file that names the column.
    key: &'static str,
    /// What the column holds.
    what: &'static str,
    column: &'a str,
}

impl DataSpec {
    /// Checks that no column of a label is read for anything else: a model, a weight or a split that knows the labels of its
    /// rows makes numbers that no other rows have.
    pub(super) fn check_labels_apart(&self) -> Result<(), DataError> {
        for Role { key, what, column } in self.other_roles() {
            self.labels.check_other(key, what, column)?;
        }
        let is_label = |column: &str| self.labels.columns.iter().any(|label| label == column);
        for feature in &self.features {
            if let Some(column) = feature.columns().find(|column| is_label(column)) {
                let reason = format!(
                    "it reads `{column}`, a label (labels.stages), which no row has before it is scored: leave it out"
                );
                return Err(DataError::setting(format!("feature `{}`", feature.name), reason));
            }
        }
        Ok(())
    }

    /// The same error; one about a column that is missing is told with the key that asks for it, where that is not a
    /// feature's.
    #[must_use]
    pub fn with_key(&self, error: DataError) -> DataError {
        let DataError::UnknownColumn { path, column, hint } = error else { return error };
        let labels =
            self.labels.columns.iter().map(|column| Role { key: "labels.stages", what: "a label", column });
        let role = labels.chain(self.other_roles()).find(|role| role.column == column);
        let asked = role.map(|Role { key, what, .. }| format!(" ({key}: {what})"));
        DataError::UnknownColumn { path, column, hint: hint + &asked.unwrap_or_default() }
    }

    /// All roles but those of labels and features.
    fn other_roles(&self) -> Vec<Role<'_>> {
        let CountSpec { weight, negative_rate, window } = &self.counting;
        let truth = self.truth.as_ref();
        let truth = |of: fn(&TruthSpec) -> Option<&String>| truth.and_then(of).map(String::as_str);
        let roles = [
            ("labels.weight", "the weight of each row", weight.as_deref()),
            ("labels.negative_rate", "the negative rate of each row", negative_rate.as_deref()),
            ("labels.time", "the time of each row", window.as_ref().map(|window| window.column.as_str())),
            ("data.split.column", "what divides the rows", self.split.column()),
            ("metrics.group", "the group of GAUC", self.group.as_deref()),
            ("metrics.true_ctr", "a true rate", truth(|truth| truth.ctr.as_ref())),
            ("metrics.true_cvr", "a true rate", truth(|truth| truth.cvr.as_ref())),
            ("metrics.true_ctcvr", "a true rate", truth(|truth| truth.ctcvr.as_ref())),
        ];
        roles
            .into_iter()
            .filter_map(|(key, what, column)| Some(Role { key, what, column: column? }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use esmm_core::Side;

    use super::*;
    use crate::{
        ConversionWindow, CountSpec, DenseTransform, FeatureKind, FeatureSpec, LabelSpec, Outside,
        SourceSpec, SplitSpec, TruthSpec,
    };

    /// A specification in which every role has a column of its own, named after it.
    fn spec() -> DataSpec {
        let text = |text: &str| Some(text.to_owned());
        DataSpec {
            split: SplitSpec::Hash {
                source: SourceSpec::new(["a.csv"]),
                column: "data.split.column".to_owned(),
                valid: 0.1,
                test: 0.1,
                seed: 1,
            },
            features: vec![FeatureSpec {
                name: "price".to_owned(),
                column: "price".to_owned(),
                side: Side::Item,
                kind: FeatureKind::Dense { transform: DenseTransform::None, missing: None },
                outside: Outside::Clip,
            }],
            unknown_share: 0.0,
            labels: LabelSpec::new(["click", "conversion"]),
            group: text("metrics.group"),
            truth: Some(TruthSpec {
                ctr: text("metrics.true_ctr"),
                cvr: text("metrics.true_cvr"),
                ctcvr: text("metrics.true_ctcvr"),
            }),
            counting: CountSpec {
                weight: text("labels.weight"),
                negative_rate: text("labels.negative_rate"),
                window: Some(ConversionWindow {
                    column: "labels.time".to_owned(),
                    length: "7d".to_owned(),
                    until: None,
                }),
            },
        }
    }

    #[test]
    fn a_label_is_nothing_else() {
        spec().validate().unwrap();
        let keys: Vec<&str> = spec().other_roles().iter().map(|role| role.key).collect();
        assert_eq!(keys.len(), 8);
        for key in keys {
            let mut spec = spec();
            spec.labels.columns[1] = key.to_owned();
            let error = spec.validate().unwrap_err();
            let expected = format!("{key}: column `{key}` is a label (labels.stages): it cannot be ");
            assert!(error.is_setting() && error.to_string().starts_with(&expected), "{error}");
        }
        let mut spec = spec();
        spec.features[0].column = "click".to_owned();
        let error = spec.validate().unwrap_err().to_string();
        assert!(error.starts_with("feature `price`: it reads `click`, a label (labels.stages), "), "{error}");
    }

    #[test]
    fn a_missing_column_names_its_key() {
        let told = |column: &str| {
            let missing = DataError::UnknownColumn {
                path: "a.csv".into(),
                column: column.to_owned(),
                hint: ", there is `x`".to_owned(),
            };
            spec().with_key(missing).to_string()
        };
        for role in spec().other_roles() {
            let Role { key, what, column } = role;
            assert_eq!(
                told(column),
                format!("a.csv: there is no column `{column}`, there is `x` ({key}: {what})")
            );
        }
        assert!(told("conversion").ends_with(" (labels.stages: a label)"));
        assert!(told("price").ends_with("`, there is `x`"));
    }
}
