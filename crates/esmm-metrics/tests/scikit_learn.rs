//! The metrics against scikit-learn and against DeLong's definition; `tests/metrics/generate.py` made the expected values.

use esmm_metrics::{
    EvaluationRows, Evaluator, SplitMetrics, TruthRows, Undefined, auc, calibration, log_loss,
    normalized_entropy,
};
use serde_json::{Value, from_str, from_value, json, to_string};

fn numbers(array: &Value) -> impl Iterator<Item = f64> {
    array.as_array().into_iter().flatten().filter_map(Value::as_f64)
}

fn floats(array: &Value) -> Vec<f32> {
    numbers(array).map(|value| value as f32).collect()
}

fn flags(array: &Value) -> Vec<bool> {
    numbers(array).map(|value| value == 1.0).collect()
}

fn stages(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(error <= tolerance * expected.abs(), "{what}: found {found}, expected {expected}");
}

/// The words of the three cases in which scikit-learn has no value.
fn missing_class(name: &str) -> &'static str {
    match name {
        "no positives" => "none of the 300 rows is positive",
        "no negatives" => "all of the 300 rows are positive",
        "no rows" => "there are no rows",
        _ => "a value",
    }
}

#[test]
fn auc_and_its_variance() {
    let file: Value = from_str(include_str!("../../../tests/metrics/ranking.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let found = auc(&floats(&case["scores"]), &flags(&case["labels"]));
        let Some(expected) = case["auc"].as_f64() else {
            assert_eq!(found.unwrap_err().to_string(), missing_class(name), "{name}");
            continue;
        };
        let found = found.unwrap();
        assert_near(found.value, expected, 1e-13, name);
        let Some(variance) = case["variance"].as_f64() else {
            assert_eq!(found.ci95(), Err(Undefined::NoVariance { positives: 1, negatives: 299 }), "{name}");
            continue;
        };
        assert_near(found.variance.unwrap(), variance, 1e-11, name);
        let (low, high) = found.ci95().unwrap();
        let expected: Vec<f64> = numbers(&case["ci95"]).collect();
        assert_near(low, expected[0], 1e-12, name);
        assert_near(high, expected[1], 1e-12, name);
    }
}

#[test]
fn log_loss_entropy_and_calibration() {
    let file: Value = from_str(include_str!("../../../tests/metrics/log_loss.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let log_p = floats(&case["log_p"]);
        let log_not_p = floats(&case["log_not_p"]);
        let labels = flags(&case["labels"]);
        let expected = |key: &str| case[key].as_f64().unwrap();
        // The log-probabilities were rounded to f32, scikit-learn's probabilities were not: 2^-24 each.
        assert_near(log_loss(&log_p, &log_not_p, &labels).unwrap(), expected("log_loss"), 1e-7, name);
        let entropy = normalized_entropy(&log_p, &log_not_p, &labels).unwrap();
        assert_near(entropy, expected("normalized_entropy"), 1e-7, name);
        assert_near(calibration(&log_p, &labels).unwrap(), expected("calibration"), 1e-6, name);
    }
}

#[test]
fn a_million_rows_with_ties() {
    let file: Value = from_str(include_str!("../../../tests/metrics/million.json")).unwrap();
    let expected = |key: &str| file[key].as_f64().unwrap();
    let mut scores = Vec::new();
    let mut labels = Vec::new();
    let mut state = 20_180_407_u64;
    let mut top_bits = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    for _ in 0..1_000_000 {
        let first = top_bits();
        let second = top_bits();
        scores.push((first >> 12) as f32 / 4096.0);
        labels.push(second < (1 << 24) / 50 + first / 8);
    }
    let found = auc(&scores, &labels).unwrap();
    assert_eq!(found.positives as f64, expected("positives"));
    assert_eq!(found.negatives + found.positives, 1_000_000);
    assert_near(found.value, expected("auc"), 1e-13, "auc");
    assert_near(found.variance.unwrap(), expected("variance"), 1e-9, "variance");
    let probs = scores.iter().map(|score| 0.02 + f64::from(*score) / 8.0);
    let log_p: Vec<f32> = probs.clone().map(|prob| prob.ln() as f32).collect();
    let log_not_p: Vec<f32> = probs.map(|prob| (-prob).ln_1p() as f32).collect();
    assert_near(log_loss(&log_p, &log_not_p, &labels).unwrap(), expected("log_loss"), 1e-8, "log loss");
    let entropy = normalized_entropy(&log_p, &log_not_p, &labels).unwrap();
    assert_near(entropy, expected("normalized_entropy"), 1e-8, "normalized entropy");
    assert_near(calibration(&log_p, &labels).unwrap(), expected("calibration"), 1e-8, "calibration");
}

/// The rows of `funnel.json`.
struct Funnel {
    log_reach: Vec<f32>,
    log_not_reach: Vec<f32>,
    logits: Vec<f32>,
    depth: Vec<u8>,
    groups: Vec<u64>,
    ctr: Vec<f32>,
    cvr: Vec<f32>,
    ctcvr: Vec<f32>,
}

impl Funnel {
    fn read(rows: &Value) -> Self {
        Self {
            log_reach: floats(&rows["log_reach"]),
            log_not_reach: floats(&rows["log_not_reach"]),
            logits: floats(&rows["conditional_logit"]),
            depth: numbers(&rows["depth"]).map(|depth| depth as u8).collect(),
            groups: numbers(&rows["group"]).map(|group| group as u64).collect(),
            ctr: floats(&rows["true_ctr"]),
            cvr: floats(&rows["true_cvr"]),
            ctcvr: floats(&rows["true_ctcvr"]),
        }
    }

    /// The metrics, pushed in batches of `size`.
    fn evaluate(&self, mut evaluator: Evaluator, size: usize) -> SplitMetrics {
        for start in (0..self.depth.len()).step_by(size) {
            let rows = start..self.depth.len().min(start + size);
            let cells = 2 * rows.start..2 * rows.end;
            evaluator.push(EvaluationRows {
                log_reach: &self.log_reach[cells.clone()],
                log_not_reach: &self.log_not_reach[cells.clone()],
                conditional_logit: &self.logits[cells],
                depth: &self.depth[rows.clone()],
                group: Some(&self.groups[rows.clone()]),
                truth: Some(TruthRows {
                    cvr: &self.cvr[rows.clone()],
                    ctr: Some(&self.ctr[rows.clone()]),
                    ctcvr: Some(&self.ctcvr[rows]),
                }),
                open: None,
            });
        }
        evaluator.metrics()
    }
}

#[test]
fn a_funnel_of_two_stages() {
    let file: Value = from_str(include_str!("../../../tests/metrics/funnel.json")).unwrap();
    let funnel = Funnel::read(&file["rows"]);
    let evaluator = Evaluator::new(&stages(&["viewed", "bought"]), true, true).unwrap();
    let found = funnel.evaluate(evaluator.clone(), 600);
    let expected: SplitMetrics = from_value(file["expected"].clone()).unwrap();
    assert_eq!(found.rows, expected.rows);
    assert_eq!(found.reached, expected.reached);
    assert_eq!(found.metric_names(), evaluator.metric_names());
    assert_eq!(found.metric_names().len(), 17);
    for name in found.metric_names() {
        // CVR comes from logits in f64, CTR and CTCVR from log-probabilities that were rounded to f32.
        let tolerance = if name.starts_with("cvr") || name.ends_with("auc") { 1e-12 } else { 1e-7 };
        assert_near(found.metric(&name).unwrap(), expected.metric(&name).unwrap(), tolerance, &name);
    }
    for (name, found) in &found.tasks {
        let expected = expected.task(name).unwrap();
        let ([low, high], [expected_low, expected_high]) =
            (found.auc_ci95.unwrap(), expected.auc_ci95.unwrap());
        assert_near(low, expected_low, 1e-12, name);
        assert_near(high, expected_high, 1e-12, name);
        let found = found.gauc.clone().unwrap();
        let expected = expected.gauc.clone().unwrap();
        assert_eq!(found.groups_used, expected.groups_used, "{name}");
        assert_eq!(found.groups_skipped, expected.groups_skipped, "{name}");
    }
    let best = found.entire_space.unwrap().best.unwrap();
    let expected = expected.entire_space.unwrap().best.unwrap();
    assert_near(best.ctr_auc.unwrap(), expected.ctr_auc.unwrap(), 1e-12, "best CTR");
    assert_near(best.cvr_auc.unwrap(), expected.cvr_auc.unwrap(), 1e-12, "best CVR");
    assert_near(best.ctcvr_auc.unwrap(), expected.ctcvr_auc.unwrap(), 1e-12, "best CTCVR");
    let found = best.entire_space_cvr_auc.unwrap();
    let expected = expected.entire_space_cvr_auc.unwrap();
    assert_near(found, expected, 1e-12, "best over the entire space");
}

#[test]
fn batches_leave_no_trace() {
    let file: Value = from_str(include_str!("../../../tests/metrics/funnel.json")).unwrap();
    let funnel = Funnel::read(&file["rows"]);
    let evaluate =
        |size| funnel.evaluate(Evaluator::new(&stages(&["click", "conversion"]), true, true).unwrap(), size);
    let whole = to_string(&evaluate(600)).unwrap();
    assert_eq!(to_string(&evaluate(1)).unwrap(), whole);
    assert_eq!(to_string(&evaluate(77)).unwrap(), whole);
}

#[test]
fn a_split_without_conversions_is_null_with_reasons() {
    let file: Value = from_str(include_str!("../../../tests/metrics/funnel.json")).unwrap();
    let mut funnel = Funnel::read(&file["rows"]);
    funnel.depth.iter_mut().for_each(|depth| *depth = (*depth).min(1));
    let evaluator = Evaluator::new(&stages(&["click", "conversion"]), true, true).unwrap();
    let report: Value = from_str(&to_string(&funnel.evaluate(evaluator, 50)).unwrap()).unwrap();
    let clicks = report["clicks"].as_u64().unwrap();
    assert_eq!((clicks, report["conversions"].as_u64()), (200, Some(0)));
    assert!(report["ctr"]["auc"].is_f64() && report["ctr"].get("undefined").is_none());
    assert!(report["cvr"]["log_loss"].is_f64());
    // 82 of the 90 groups have a click: 31 used and 51 skipped in the file.
    for (task, rows, groups) in [("cvr", 200, 82), ("ctcvr", 600, 90)] {
        for key in ["auc", "auc_ci95", "normalized_entropy", "calibration"] {
            assert!(report[task][key].is_null(), "{task}.{key}");
            let reason = format!("none of the {rows} rows is positive");
            assert_eq!(report[task]["undefined"][key], Value::from(reason), "{task}.{key}");
        }
        let gauc = json!({"value": null, "groups_used": 0, "groups_skipped": groups});
        assert_eq!(report[task]["gauc"], gauc, "{task}");
        let reason = format!("none of the {groups} groups has both classes");
        assert_eq!(report[task]["undefined"]["gauc"], Value::from(reason), "{task}");
    }
    assert!(report["entire_space"]["cvr_auc"].is_f64());
    assert!(report["entire_space"]["best"]["ctcvr_auc"].is_null());
    assert!(report["entire_space"]["undefined"]["best.ctcvr_auc"].is_string());
}
