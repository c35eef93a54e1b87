//! Columns of scores: the names that predictions have in files.

use crate::ranker::Scores;

/// One column of scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreColumn {
    /// Its name, as in the files of `esmm predict`.
    pub name: String,
    /// What it holds.
    pub kind: ScoreKind,
}

/// Which probability a column holds; stages count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreKind {
    /// Of reaching a stage from an impression: pCTR, pCTCVR.
    Reach(usize),
    /// Of reaching a stage from the one before: pCVR.
    Conditional(usize),
}

impl ScoreColumn {
    /// All columns of a funnel, in the order of `esmm predict`: `pctr`, `pcvr`, `pctcvr` for two stages; for more, `p_x` for
    /// each stage x and `p_x_given_y` for each but the first.
    pub fn all(stages: &[String]) -> Vec<Self> {
        let column = |name: String, kind| Self { name, kind };
        if stages.len() == 2 {
            return vec![
                column("pctr".to_owned(), ScoreKind::Reach(0)),
                column("pcvr".to_owned(), ScoreKind::Conditional(1)),
                column("pctcvr".to_owned(), ScoreKind::Reach(1)),
            ];
        }
        let mut columns = Vec::new();
        for (stage, name) in stages.iter().enumerate() {
            if stage > 0 {
                let given = format!("p_{name}_given_{}", stages[stage - 1]);
                columns.push(column(given, ScoreKind::Conditional(stage)));
            }
            columns.push(column(format!("p_{name}"), ScoreKind::Reach(stage)));
        }
        columns
    }
}

impl Scores<'_> {
    /// The score of a candidate in a column.
    ///
    /// # Panics
    /// When there is no such candidate or stage.
    pub fn get(&self, candidate: usize, kind: ScoreKind) -> f32 {
        match kind {
            ScoreKind::Reach(stage) => self.reach(candidate)[stage],
            ScoreKind::Conditional(stage) => self.conditional(candidate)[stage],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_names_of_predictions() {
        let names = |stages: &[&str]| -> Vec<String> {
            let stages: Vec<String> = stages.iter().map(|stage| (*stage).to_owned()).collect();
            ScoreColumn::all(&stages).into_iter().map(|column| column.name).collect()
        };
        assert_eq!(names(&["click", "conversion"]), ["pctr", "pcvr", "pctcvr"]);
        let three = ["p_click", "p_cart_given_click", "p_cart", "p_purchase_given_cart", "p_purchase"];
        assert_eq!(names(&["click", "cart", "purchase"]), three);
    }
}
