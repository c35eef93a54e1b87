//! What the documentation says under `# Panics`: bad code is told with what disagrees.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::panic::{UnwindSafe, catch_unwind};

use esmm_metrics::{
    EvaluationRows, Evaluator, Link, Ranking, TruthRows, auc, calibration, group_auc, log_loss,
    normalized_entropy, soft_auc, soft_calibration, weighted_auc,
};

/// What a call says that must panic.
fn message<T>(work: impl FnOnce() -> T + UnwindSafe) -> String {
    let Err(error) = catch_unwind(work) else { panic!("no panic") };
    let text = error.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| error.downcast_ref::<&str>().unwrap().to_string())
}

fn assert_told<T>(expected: &str, work: impl FnOnce() -> T + UnwindSafe) {
    let found = message(work);
    assert!(found.contains(expected), "expected `{expected}`, found: {found}");
}

#[test]
fn columns_of_different_lengths() {
    let (two, three) = ([0.1_f32, 0.2], [true, false, true]);
    assert_told("2 scores and 3 labels", || auc(&two, &three));
    assert_told("2 scores and 3 labels", || Ranking::new(&two, &three, Link::Logit));
    assert_told("scores, labels and weights have [2, 3, 2] rows", || weighted_auc(&two, &three, &two));
    assert_told("groups, scores and labels have [1, 2, 3] rows", || group_auc(&[1], &two, &three));
    assert_told("2 scores and 1 true probabilities", || soft_auc(&two, &[0.5]));
    assert_told("log p, log(1 - p) and labels have [2, 2, 3] rows", || log_loss(&two, &two, &three));
    assert_told("log p, log(1 - p) and labels have", || normalized_entropy(&two, &two, &three));
    for text in [message(|| calibration(&two, &three)), message(|| soft_calibration(&two, &[0.5]))] {
        assert!(text.contains('2'), "{text}");
    }
}

fn evaluator(with_group: bool, with_truth: bool) -> Evaluator {
    Evaluator::new(&["click".to_owned(), "conversion".to_owned()], with_group, with_truth).unwrap()
}

/// Two rows of two stages.
fn rows() -> EvaluationRows<'static> {
    EvaluationRows {
        log_reach: &[-1.0; 4],
        log_not_reach: &[-1.0; 4],
        conditional_logit: &[0.0; 4],
        depth: &[0, 2],
        group: None,
        truth: None,
        open: None,
    }
}

#[test]
fn rows_that_an_evaluator_cannot_take() {
    let truth = TruthRows { cvr: &[0.1, 0.2], ctr: None, ctcvr: None };
    let wrong = [
        EvaluationRows { log_reach: &[-1.0; 3], ..rows() },
        EvaluationRows { log_not_reach: &[-1.0; 6], ..rows() },
        EvaluationRows { conditional_logit: &[], ..rows() },
        EvaluationRows { depth: &[0, 3], ..rows() },
        EvaluationRows { group: Some(&[1, 2]), ..rows() },
        EvaluationRows { truth: Some(truth), ..rows() },
    ];
    for rows in wrong {
        assert!(!message(move || evaluator(false, false).push(rows)).is_empty(), "{rows:?}");
    }
    assert!(
        !message(|| evaluator(true, false).push(rows())).is_empty(),
        "no groups where some were announced"
    );
    assert!(!message(|| evaluator(false, true).push(rows())).is_empty(), "no truth where some was announced");
    let mut taken = evaluator(false, false);
    taken.push(rows());
    assert_eq!(taken.metrics().rows, 2);
}

#[test]
fn truth_of_other_lengths_and_of_some_batches_only() {
    let with = |cvr, ctr, ctcvr| EvaluationRows { truth: Some(TruthRows { cvr, ctr, ctcvr }), ..rows() };
    assert_told("true CVR, CTR and CTCVR of 2 rows", move || {
        evaluator(false, true).push(with(&[0.1], None, None));
    });
    assert_told("true CVR, CTR and CTCVR of 2 rows", move || {
        evaluator(false, true).push(with(&[0.1, 0.2], Some(&[0.1; 3]), None));
    });
    assert_told("it must be there for all or none", move || {
        let mut evaluator = evaluator(false, true);
        evaluator.push(with(&[0.1, 0.2], None, None));
        evaluator.push(with(&[0.1, 0.2], Some(&[0.1; 2]), None));
    });
}

#[test]
fn weights_of_too_few_rows() {
    assert_told("one weight for each row", || {
        evaluator(false, false).push_weighted(rows(), &[1.0]);
    });
}

/// Whichever come first.
#[test]
fn rows_without_weights_count_once_beside_weighted_ones() {
    let mut after = evaluator(false, false);
    after.push_weighted(rows(), &[1.0, 2.0]);
    after.push(rows());
    let mut before = evaluator(false, false);
    before.push(rows());
    before.push_weighted(rows(), &[1.0, 2.0]);
    assert_eq!(after.total_weight(), 5.0);
    assert_eq!(before.total_weight(), 5.0);
}
