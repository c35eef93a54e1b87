//! The funnel as a whole: reproducible, on target, and its labels drawn from its truth.

use std::fs;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{CHUNK_ROWS, SyntheticConfig, SyntheticFunnel, write_csv, write_parquet};

fn config(rows: usize, confounding: f64) -> SyntheticConfig {
    SyntheticConfig { rows, users: 500, items: 100, confounding, ..SyntheticConfig::default() }
}

fn generate(config: SyntheticConfig) -> RecordBatch {
    let funnel = SyntheticFunnel::new(config).unwrap();
    let schema = funnel.schema();
    concat_batches(&schema, &funnel.collect::<Vec<_>>()).unwrap()
}

fn integers(batch: &RecordBatch, name: &str) -> Vec<i64> {
    let column = batch.column_by_name(name).unwrap();
    column.as_primitive::<Int64Type>().values().to_vec()
}

fn reals(batch: &RecordBatch, name: &str) -> Vec<f64> {
    let column = batch.column_by_name(name).unwrap();
    column.as_primitive::<Float64Type>().values().to_vec()
}

fn labels(batch: &RecordBatch, name: &str) -> Vec<f64> {
    integers(batch, name).into_iter().map(|label| label as f64).collect()
}

/// Labels minus their probabilities, summed, in standard errors of that sum under the probabilities.
fn standard_errors(rows: &[(f64, f64)]) -> f64 {
    let difference: f64 = rows.iter().map(|(label, p)| label - p).sum();
    let variance: f64 = rows.iter().map(|(_, p)| p * (1.0 - p)).sum();
    difference / variance.sqrt()
}

/// [`standard_errors`] of all rows, then of each tenth of them in the order of probability.
fn deciles(mut rows: Vec<(f64, f64)>) -> Vec<f64> {
    let mut errors = vec![standard_errors(&rows)];
    rows.sort_by(|a, b| a.1.total_cmp(&b.1));
    errors.extend(rows.chunks(rows.len().div_ceil(10)).map(standard_errors));
    errors
}

/// Label and probability of the clicked rows, from a function of (true CTR, true CVR, true CTCVR).
fn clicked(batch: &RecordBatch, rate: impl Fn(f64, f64, f64) -> f64) -> Vec<(f64, f64)> {
    let click = labels(batch, "click");
    let conversion = labels(batch, "conversion");
    let ctr = reals(batch, "true_ctr");
    let cvr = reals(batch, "true_cvr");
    let ctcvr = reals(batch, "true_ctcvr");
    (0..batch.num_rows())
        .filter(|&row| click[row] == 1.0)
        .map(|row| (conversion[row], rate(ctr[row], cvr[row], ctcvr[row])))
        .collect()
}

fn assert_small(errors: &[f64], what: &str) {
    assert!(errors.iter().all(|error| error.abs() < 4.0), "{what}: {errors:.2?}");
}

#[test]
fn same_seed_same_rows_other_seed_other_rows() {
    let first = generate(config(3_000, 0.5));
    assert_eq!(first, generate(config(3_000, 0.5)));
    let other = generate(SyntheticConfig { seed: 2, ..config(3_000, 0.5) });
    assert_ne!(first, other);
}

#[test]
fn more_rows_do_not_change_the_earlier_ones() {
    let short = generate(config(CHUNK_ROWS + 100, 0.5));
    let long = generate(config(3 * CHUNK_ROWS, 0.5));
    assert_eq!(short, long.slice(0, CHUNK_ROWS + 100));
    let funnel = SyntheticFunnel::new(config(CHUNK_ROWS + 100, 0.5)).unwrap();
    assert_eq!(funnel.len(), 2);
    assert_eq!(funnel.map(|batch| batch.num_rows()).collect::<Vec<_>>(), [CHUNK_ROWS, 100]);
}

#[test]
fn strength_changes_labels_but_not_what_is_seen() {
    let weak = generate(config(2_000, 0.0));
    let strong = generate(config(2_000, 1.5));
    let seen = weak.schema().index_of("click").unwrap();
    assert_eq!(weak.columns()[..seen], strong.columns()[..seen]);
    assert_ne!(weak.columns()[seen..], strong.columns()[seen..]);
}

#[test]
fn rates_hit_their_targets() {
    // 5% for the calibration sample; four standard errors for these rows.
    for (click_rate, conversion_rate, confounding) in [(0.2, 0.2, 0.5), (0.04, 0.5, 0.0), (0.6, 0.05, 1.5)] {
        let batch = generate(SyntheticConfig { click_rate, conversion_rate, ..config(60_000, confounding) });
        let clicks: f64 = labels(&batch, "click").iter().sum();
        let conversions: f64 = labels(&batch, "conversion").iter().sum();
        for (found, of, target) in [(clicks, 60_000.0, click_rate), (conversions, clicks, conversion_rate)] {
            let error: f64 = 4.0 * (of * target * (1.0 - target)).sqrt();
            let difference = (found - of * target).abs();
            assert!(difference < 0.05 * of * target + error, "{found} of {of}, target {target}");
        }
    }
}

#[test]
fn labels_are_drawn_from_the_truth() {
    for confounding in [0.0, 0.5, 1.5] {
        let batch = generate(config(100_000, confounding));
        for (label, truth) in [("click", "true_ctr"), ("conversion", "true_ctcvr")] {
            let rows = labels(&batch, label).into_iter().zip(reals(&batch, truth));
            assert_small(&deciles(rows.collect()), &format!("{truth} at {confounding}"));
        }
        let among_clicks = clicked(&batch, |ctr, _, ctcvr| ctcvr / ctr);
        assert_small(&deciles(among_clicks), &format!("CVR of clicked rows at {confounding}"));
    }
}

#[test]
fn without_confounding_clicked_rows_show_the_true_cvr() {
    let batch = generate(config(100_000, 0.0));
    let product = reals(&batch, "true_ctr").into_iter().zip(reals(&batch, "true_cvr"));
    for ((ctr, cvr), ctcvr) in product.zip(reals(&batch, "true_ctcvr")) {
        assert!((ctr * cvr - ctcvr).abs() < 1e-6);
    }
    assert_small(&deciles(clicked(&batch, |_, cvr, _| cvr)), "true CVR");
}

#[test]
fn with_confounding_clicked_rows_convert_far_more_often() {
    let rows = clicked(&generate(config(100_000, 1.5)), |_, cvr, _| cvr);
    let errors = standard_errors(&rows);
    assert!(errors > 20.0, "{errors} standard errors");
    let (conversions, expected) = rows.iter().fold((0.0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    assert!(conversions > 1.3 * expected, "{conversions} conversions, true CVR sums to {expected}");
}

#[test]
fn columns_stay_in_their_ranges() {
    let batch = generate(config(20_000, 1.5));
    assert_eq!(integers(&batch, "impression_id"), (0..20_000).collect::<Vec<i64>>());
    let click = integers(&batch, "click");
    let conversion = integers(&batch, "conversion");
    assert!(click.iter().zip(&conversion).all(|(click, conversion)| conversion <= click));
    let time = integers(&batch, "time");
    assert!(time.windows(2).all(|pair| pair[0] < pair[1]));
    let hour = integers(&batch, "hour");
    assert!(time.iter().zip(&hour).all(|(time, hour)| time / 3600 % 24 == *hour));
    for (name, low, high) in [
        ("user_id", 0, 499),
        ("segment", 0, 7),
        ("age", 18, 80),
        ("item_id", 0, 99),
        ("hour", 0, 23),
        ("position", 1, 10),
        ("campaign", 0, 9),
        ("click", 0, 1),
        ("conversion", 0, 1),
    ] {
        let values = integers(&batch, name);
        let range = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
        assert!(range.0 >= low && range.1 <= high && range.0 < range.1, "{name}: {range:?}");
    }
    assert!(reals(&batch, "price").iter().all(|price| *price >= 0.01 && price.is_finite()));
    assert!(reals(&batch, "rating").iter().all(|rating| (1.0..=5.0).contains(rating)));
}

#[test]
fn bags_stay_in_their_ranges() {
    let batch = generate(config(20_000, 0.5));
    for (name, longest) in [("user_history", 8), ("user_spend", 4)] {
        let lists = batch.column_by_name(name).unwrap().as_list::<i32>();
        let lengths = || lists.offsets().lengths();
        assert_eq!((lengths().min(), lengths().max()), (Some(0), Some(longest)), "{name}");
    }
    let spend = batch.column_by_name("user_spend").unwrap().as_list::<i32>();
    let weights = spend.values().as_struct().column(1).as_primitive::<Float32Type>();
    assert!(weights.values().iter().all(|weight| (0.05..=1.0).contains(weight)));
    for row in 0..batch.num_rows() {
        let ids = spend.value(row);
        let ids = ids.as_struct().column(0).as_string::<i32>();
        let mut distinct: Vec<&str> = ids.iter().flatten().collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ids.len(), "row {row} names a category twice");
    }
}

#[test]
fn no_user_and_no_item_has_more_than_the_head_share() {
    let batch =
        generate(SyntheticConfig { user_zipf: 1.5, item_zipf: 1.5, head_share: 0.03, ..config(50_000, 0.5) });
    for (name, ids) in [("user_id", 500), ("item_id", 100)] {
        let mut counts = vec![0.0; ids];
        integers(&batch, name).iter().for_each(|&id| counts[id as usize] += 1.0);
        let n = 50_000.0_f64;
        let p = 0.03;
        let error = 4.0 * (n * p * (1.0 - p)).sqrt();
        assert!((counts[0] - n * p).abs() < error, "{name}: the first has {}", counts[0]);
        assert!(counts.iter().all(|count| *count < n * p + error), "{name}");
        assert!(counts[ids / 2] < 0.5 * counts[0], "{name}: no Zipf in {counts:?}");
    }
}

#[test]
fn the_smallest_populations_work() {
    let batch = generate(SyntheticConfig { users: 1, items: 1, categories: 1, ..config(10, 0.5) });
    assert_eq!(batch.num_rows(), 10);
}

#[test]
fn csv_and_parquet_hold_the_same_rows_and_are_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let settings = || config(CHUNK_ROWS + 50, 0.5);
    let expected = generate(settings());
    for name in ["a.csv", "b.csv"] {
        write_csv(settings(), at(name)).unwrap();
    }
    for name in ["a.parquet", "b.parquet"] {
        write_parquet(settings(), at(name)).unwrap();
    }
    assert!(fs::read(at("a.csv")).unwrap() == fs::read(at("b.csv")).unwrap());
    assert!(fs::read(at("a.parquet")).unwrap() == fs::read(at("b.parquet")).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "a temporary file was left");
    assert_eq!(read_parquet(&at("a.parquet")), expected);
    assert_csv(&at("a.csv"), &expected);
}

fn read_parquet(path: &Path) -> RecordBatch {
    let file = fs::File::open(path).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let schema = builder.schema().clone();
    let batches = builder.build().unwrap().map(Result::unwrap).collect::<Vec<_>>();
    concat_batches(&schema, &batches).unwrap()
}

fn assert_csv(path: &Path, expected: &RecordBatch) {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let schema = expected.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(reader.headers().unwrap(), names);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), expected.num_rows());
    let column = |name: &str| schema.index_of(name).unwrap();
    for name in ["user_id", "hour", "conversion"] {
        let found = rows.iter().map(|row| row[column(name)].parse().unwrap());
        assert_eq!(found.collect::<Vec<i64>>(), integers(expected, name));
    }
    for name in ["price", "true_ctcvr"] {
        let found = rows.iter().map(|row| row[column(name)].parse().unwrap());
        assert_eq!(found.collect::<Vec<f64>>(), reals(expected, name));
    }
    let history = expected.column_by_name("user_history").unwrap().as_list::<i32>();
    let spend = expected.column_by_name("user_spend").unwrap().as_list::<i32>();
    for (row, record) in rows.iter().enumerate() {
        let bag = history.value(row);
        let bag: Vec<&str> = bag.as_string::<i32>().iter().flatten().collect();
        assert_eq!(record[column("user_history")], bag.join("|"));
        let pairs = spend.value(row);
        let ids = pairs.as_struct().column(0).as_string::<i32>();
        let weights = pairs.as_struct().column(1).as_primitive::<Float32Type>();
        let pairs = ids.iter().flatten().zip(weights.values());
        let pairs: Vec<String> = pairs.map(|(id, weight)| format!("{id}:{weight}")).collect();
        assert_eq!(record[column("user_spend")], pairs.join("|"));
    }
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("out.csv");
    for result in [write_csv(config(10, 0.5), &missing), write_parquet(config(10, 0.5), &missing)] {
        let message = result.unwrap_err().to_string();
        assert!(message.starts_with(&missing.display().to_string()), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    // The target is a folder: the rename fails, and the partial file goes.
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    assert!(write_csv(config(10, 0.5), &taken).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn settings_travel_through_serde() {
    let settings = config(10, 0.25);
    let text = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<SyntheticConfig>(&text).unwrap(), settings);
    assert_eq!(serde_json::from_str::<SyntheticConfig>("{}").unwrap(), SyntheticConfig::default());
    let error = serde_json::from_str::<SyntheticConfig>(r#"{"row": 5}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `row`"), "{error}");
}
