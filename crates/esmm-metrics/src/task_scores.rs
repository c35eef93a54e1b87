//! The scores that the metrics are computed from, row by row, for those who draw them.

use crate::curves::Link;
use crate::evaluator::Evaluator;

/// What the rows of one task were scored with, in the order in which they were pushed.
#[derive(Debug, Clone, Copy)]
pub struct TaskScores<'a> {
    /// The task's name.
    pub name: &'a str,
    /// Whether it is a stage given the one before (CVR), and so measured only on rows that reached that one.
    pub is_conditional: bool,
    /// How the scores become probabilities.
    pub link: Link,
    /// One score for each measured row.
    pub values: &'a [f32],
}

impl Evaluator {
    /// The scores of each task in report order: `ctr`, `cvr`, `ctcvr` for two stages.
    pub fn task_scores(&self) -> impl Iterator<Item = TaskScores<'_>> {
        self.tasks.iter().map(|task| TaskScores {
            name: &task.name,
            is_conditional: task.given > 0,
            link: task.link(),
            values: &task.scores,
        })
    }
}
