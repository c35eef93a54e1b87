//! Splits and loading: which row lands where, and what is reported.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, TimestampMillisecondArray};

use super::{DataError, Folder, LoadedSplits, dense, load_splits, single_ids, sparse, vocabulary};
use crate::stream::{FileRows, WindowSizes};
use crate::{
    CountSpec, DenseTransform, FeatureSpec, LabelSpec, Orphans, SourceSpec, SplitSpec, Truth, TruthSpec,
};

fn labels() -> LabelSpec {
    LabelSpec::new(["click", "conversion"])
}

/// The row's number is its only feature.
fn load(spec: &SplitSpec) -> Result<LoadedSplits, DataError> {
    load_splits(spec, &[dense("row", DenseTransform::None, None)], &labels(), None, None, false)
}

fn rows(data: &crate::Dataset) -> Vec<usize> {
    data.dense[0].iter().map(|row| *row as usize).collect()
}

fn divided(spec: &SplitSpec) -> [Vec<usize>; 3] {
    let loaded = load(spec).unwrap();
    [Some(loaded.train), loaded.valid, loaded.test].map(|data| data.as_ref().map(rows).unwrap_or_default())
}

/// A file with a column `key` and columns that every test needs.
fn source(folder: &Folder, keys: impl IntoIterator<Item = impl std::fmt::Display>) -> SourceSpec {
    let lines = keys.into_iter().enumerate().map(|(row, key)| format!("{row},{key},{},0\n", row % 2));
    folder.text("a.csv", format!("row,key,click,conversion\n{}", lines.collect::<String>()))
}

fn by_time(source: SourceSpec, valid: f64, test: f64) -> SplitSpec {
    SplitSpec::Time { source, column: "key".into(), valid, test }
}

#[test]
fn time_puts_the_latest_rows_last() {
    let folder = Folder::new();
    let numbers = source(&folder, [9, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(divided(&by_time(numbers, 0.2, 0.1)), [vec![2, 3, 4, 5, 6, 7, 8], vec![0, 9], vec![1]]);
    let dates = source(&folder, ["2024-01-03", "2024-01-02", "2023-12-31T23:59:59", "2024-01-01"]);
    assert_eq!(divided(&by_time(dates, 0.25, 0.25)), [vec![2, 3], vec![1], vec![0]]);
    let reals = source(&folder, ["1.5", "1e1", "9", "-2"]);
    assert_eq!(divided(&by_time(reals, 0.0, 0.25)), [vec![0, 2, 3], vec![], vec![1]]);
    let large = source(&folder, ["9007199254740993", "9007199254740992"]);
    assert_eq!(divided(&by_time(large, 0.0, 0.5)), [vec![1], vec![], vec![0]]);
}

#[test]
fn rows_of_one_time_stay_together() {
    let folder = Folder::new();
    let keys = [1, 1, 1, 2, 2, 2, 2, 3, 3, 3];
    let divide = |valid, test| divided(&by_time(source(&folder, keys), valid, test));
    assert_eq!(divide(0.0, 0.5), [vec![0, 1, 2, 3, 4, 5, 6], vec![], vec![7, 8, 9]]);
    assert_eq!(divide(0.4, 0.3), [vec![0, 1, 2], vec![3, 4, 5, 6], vec![7, 8, 9]]);
    let same = load(&by_time(source(&folder, [5; 4]), 0.0, 0.5)).unwrap_err();
    assert_eq!(same.to_string(), "split: no row is left for the test split (0 orphans were dropped)");
}

#[test]
fn time_reads_every_type_of_time() {
    let folder = Folder::new();
    let times: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![30, 10, 20])),
        Arc::new(Float64Array::from(vec![0.3, -0.1, 0.2])),
        Arc::new(TimestampMillisecondArray::from(vec![30, 10, 20]).with_timezone("UTC")),
    ];
    for time in times {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("row", Arc::new(Int64Array::from(vec![0, 1, 2]))),
            ("key", time),
            ("click", Arc::new(Int64Array::from(vec![0, 0, 1]))),
            ("conversion", Arc::new(Int64Array::from(vec![0, 0, 1]))),
        ];
        let source = folder.parquet("a.parquet", columns);
        assert_eq!(divided(&by_time(source, 0.33, 0.33)), [vec![1], vec![2], vec![0]]);
    }
}

#[test]
fn bad_times_say_where() {
    let folder = Folder::new();
    let fails =
        |keys: [&str; 2]| folder.message(&load(&by_time(source(&folder, keys), 0.1, 0.1)).unwrap_err());
    assert_eq!(fails(["1", ""]), "a.csv:3: column `key`: found nothing, allowed is a time");
    assert_eq!(
        fails(["1", "31/01/2024"]),
        "a.csv:3: column `key`: found `31/01/2024`, allowed is a number or a date, as 2024-01-31, \
         31.01.2024, 2024-01-31 23:59:59 or 2024-01-31T23:59:59+01:00"
    );
    let message = fails(["1", "2024-01-31"]);
    assert_eq!(
        message,
        "a.csv:3: column `key`: found `2024-01-31`, a time without an offset, allowed is a number, as in the rows before"
    );
    let message = fails(["2024-01-31", "20240201"]);
    assert_eq!(
        message,
        "a.csv:3: column `key`: found `20240201`, a number, allowed is a time without an offset, as in the rows before"
    );
    for nonsense in ["2024-13-45", "2024-05-01 oops"] {
        assert!(
            fails(["2024-01-31", nonsense])
                .starts_with(&format!("a.csv:3: column `key`: found `{nonsense}`, "))
        );
    }
    let mixed = fails(["2024-01-31 12:00:00Z", "2024-01-31 12:00:00"]);
    assert!(mixed.ends_with("allowed is a time with an offset or zone, as in the rows before"), "{mixed}");
}

/// The middle row is the earliest and the first one the latest: 23:30 in Tokyo is 14:30 UTC, 11:00 in New York's summer is
/// 15:00 UTC.
#[test]
fn times_are_moments_whatever_they_are_written_like() {
    let folder = Folder::new();
    let last = |keys: [&str; 3]| divided(&by_time(source(&folder, keys), 0.0, 0.3));
    let earliest_second = [vec![1, 2], vec![], vec![0]];
    assert_eq!(
        last(["2024-05-01T11:00:00-04:00", "2024-05-01T23:30:00+09:00", "2024-05-01T14:45:00Z"]),
        earliest_second
    );
    assert_eq!(
        last(["2024-05-01T14:30:00.500Z", "2024-05-01T14:30:00Z", "2024-05-01T14:30:00.25Z"]),
        earliest_second
    );
    assert_eq!(last(["2024-05-02", "2024-05-01 10:00:00", "2024-05-01T10:00:01"]), earliest_second);
    let column = Arc::new(TimestampMillisecondArray::from(vec![1_500, 0, 1_250]).with_timezone("+09:00"));
    let zeros = || Arc::new(Int64Array::from(vec![0; 3]));
    let rows = Arc::new(Int64Array::from(vec![0, 1, 2]));
    let columns: Vec<(&str, ArrayRef)> =
        vec![("row", rows), ("key", column), ("click", zeros()), ("conversion", zeros())];
    assert_eq!(divided(&by_time(folder.parquet("t.parquet", columns), 0.0, 0.3)), earliest_second);
}

#[test]
fn a_date_can_be_split_at() {
    let folder = Folder::new();
    let at = |keys: [&str; 4], valid: Option<&str>, test: Option<&str>| {
        let (valid_from, test_from) = (valid.map(str::to_owned), test.map(str::to_owned));
        SplitSpec::Date { source: source(&folder, keys), column: "key".into(), valid_from, test_from }
    };
    let days = ["2024-05-03", "2024-05-01", "2024-05-02T00:00:00", "2024-05-02 23:59"];
    assert_eq!(divided(&at(days, Some("2024-05-02"), Some("2024-05-03"))), [vec![1], vec![2, 3], vec![0]]);
    assert_eq!(divided(&at(days, None, Some("2024-05-02"))), [vec![1], vec![], vec![0, 2, 3]]);
    assert_eq!(divided(&at(["30", "10", "20", "20"], None, Some("20"))), [vec![1], vec![], vec![0, 2, 3]]);
    let fails = |spec: SplitSpec| load(&spec).unwrap_err().to_string();
    assert!(fails(at(days, None, None)).starts_with("split: a date to split at is missing"));
    assert!(
        fails(at(days, Some("2024-05-03"), Some("2024-05-02")))
            .contains("valid_from must be before test_from")
    );
    assert!(
        fails(at(days, None, Some("soon")))
            .starts_with("split: test_from = `soon`, it must be a date, as 2024-01-31")
    );
    let message = fails(at(days, None, Some("20")));
    assert!(
        message.starts_with("split: test_from is a number, but column `key` holds a time without"),
        "{message}"
    );
    let mut berlin =
        source(&folder, ["2024-07-01 00:30", "2024-06-30 22:15", "2024-07-01 01:00", "2024-07-02"]);
    berlin.spelling.time_zone = Some("Europe/Berlin".into());
    let test_from = Some("2024-06-30 22:30:00Z".into());
    let spec = SplitSpec::Date { source: berlin, column: "key".into(), valid_from: None, test_from };
    assert_eq!(divided(&spec), [vec![1], vec![], vec![0, 2, 3]]);
}

#[test]
fn hash_keeps_all_rows_of_a_value_together() {
    let folder = Folder::new();
    let keys = || (0..4000).map(|row| row % 400);
    let spec = |seed| SplitSpec::Hash {
        source: source(&folder, keys()),
        column: "key".into(),
        valid: 0.2,
        test: 0.1,
        seed,
    };
    let parts = divided(&spec(1));
    let users: Vec<HashSet<usize>> =
        parts.iter().map(|rows| rows.iter().map(|row| row % 400).collect()).collect();
    assert!(
        users[0].is_disjoint(&users[1]) && users[0].is_disjoint(&users[2]) && users[1].is_disjoint(&users[2])
    );
    assert_eq!(users.iter().map(HashSet::len).sum::<usize>(), 400);
    // Binomial standard deviations: 8 of 80 and 6 of 40.
    assert!((users[1].len() as f64 - 80.0).abs() < 32.0 && (users[2].len() as f64 - 40.0).abs() < 24.0);
    assert_eq!(divided(&spec(1)), parts);
    assert_ne!(divided(&spec(2)), parts);
}

#[test]
fn the_side_of_a_value_does_not_depend_on_its_type_or_file() {
    let folder = Folder::new();
    let keys: Vec<i64> = (0..100).collect();
    let column = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let columns = vec![
        ("row", column(keys.clone())),
        ("key", column(keys.clone())),
        ("click", column(vec![0; 100])),
        ("conversion", column(vec![0; 100])),
    ];
    let spec = |source| SplitSpec::Hash { source, column: "key".into(), valid: 0.2, test: 0.2, seed: 3 };
    assert_eq!(divided(&spec(folder.parquet("a.parquet", columns))), divided(&spec(source(&folder, keys))));
}

#[test]
fn random_divides_rows_by_their_number() {
    let folder = Folder::new();
    let spec = |seed| SplitSpec::Random { source: source(&folder, [0; 10_000]), valid: 0.2, test: 0.1, seed };
    let parts = divided(&spec(1));
    // Binomial standard deviations: 40 of 2000 and 30 of 1000.
    assert!((parts[1].len() as f64 - 2000.0).abs() < 160.0 && (parts[2].len() as f64 - 1000.0).abs() < 120.0);
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 10_000);
    let tests: HashSet<usize> = parts[2].iter().copied().collect();
    let repeats = (0..10_000 - 8192).all(|row| tests.contains(&row) == tests.contains(&(row + 8192)));
    assert!(!repeats, "the second chunk is divided like the first");
    assert_eq!(divided(&spec(1)), parts);
    assert_ne!(divided(&spec(2)), parts);
}

#[test]
fn shares_are_checked() {
    let fails = |valid, test| {
        let spec = SplitSpec::Random { source: SourceSpec::default(), valid, test, seed: 0 };
        spec.validate().unwrap_err().to_string()
    };
    assert_eq!(fails(-0.1, 0.1), "split: valid = -0.1, it must be from 0 up to but without 1");
    assert_eq!(fails(0.1, f64::NAN), "split: test = NaN, it must be from 0 up to but without 1");
    assert_eq!(fails(0.5, 0.5), "split: valid + test = 1, nothing is left to train on");
}

fn features() -> Vec<FeatureSpec> {
    vec![sparse("user", vocabulary()), dense("price", DenseTransform::Standardize, None)]
}

#[test]
fn files_are_loaded_with_encoders_of_the_training_rows() {
    let folder = Folder::new();
    let train =
        "user,price,click,conversion,p,q,r\nu,1,1,1,.5,.25,.125\nv,9,0,1,.5,.5,.25\nu,3,0,0,.1,.2,.02\n";
    let test = "user,price,click,conversion,p,q,r\nv,5,1,0,.5,.25,.125\n";
    let spec = SplitSpec::Files {
        train: folder.text("train.csv", train),
        valid: None,
        test: Some(folder.text("test.csv", test)),
    };
    let labels = LabelSpec { orphan_conversions: Orphans::Drop, ..labels() };
    let truth = TruthSpec { ctr: Some("p".into()), cvr: Some("q".into()), ctcvr: Some("r".into()) };
    let loaded = load_splits(&spec, &features(), &labels, Some("user"), Some(&truth), false).unwrap();
    let train = &loaded.train;
    assert_eq!((train.rows, train.depth.as_slice()), (2, [2, 0].as_slice()));
    assert_eq!(single_ids(&train.sparse[0]), [1, 1], "v was only in a row that was dropped");
    assert_eq!(train.dense, [[-1.0, 1.0]]);
    let expected = Truth { ctr: vec![0.5, 0.1], cvr: vec![0.25, 0.2], ctcvr: Some(vec![0.125, 0.02]) };
    assert_eq!(train.truth, Some(expected));
    let (groups, test) = (train.group.clone().unwrap(), loaded.test.unwrap());
    assert_eq!(groups[0], groups[1]);
    assert_ne!(groups[0], test.group.clone().unwrap()[0]);
    assert_eq!((single_ids(&test.sparse[0]), &test.dense[0]), ([0].as_slice(), &vec![3.0]));
    assert!(loaded.valid.is_none() && loaded.report.valid.is_none());
    let report = &loaded.report.train;
    assert_eq!((report.rows, report.reached.as_slice(), report.orphans_dropped), (2, [1, 1].as_slice(), 1));
    assert_eq!(loaded.report.test.as_ref().unwrap().unknown_rate, [("user".to_owned(), 1.0)]);

    let source = SourceSpec::new([folder.path("test.csv")]);
    let rows = FileRows::open(
        &source,
        &loaded.encoders,
        &labels,
        Some("user"),
        Some(&truth),
        &CountSpec::default(),
        true,
    )
    .unwrap();
    let mut again = Vec::new();
    rows.windows(None, WindowSizes::equal(10), 0, &mut |window| {
        again.push(window);
        true
    })
    .unwrap();
    assert_eq!(again, [test]);
}

#[test]
fn values_of_later_splits_are_unknown_to_a_divided_source_too() {
    let folder = Folder::new();
    let text = "user,price,key,click,conversion\nu,1,1,0,0\nv,3,2,1,0\nw,50,3,0,0\nu,99,4,0,0\n";
    let spec = by_time(folder.text("a.csv", text), 0.25, 0.25);
    let loaded = load_splits(&spec, &features(), &labels(), Some("user"), None, false).unwrap();
    assert_eq!(loaded.encoders.schema().num_rows(), 3);
    let (valid, test) = (loaded.valid.unwrap(), loaded.test.unwrap());
    assert_eq!(single_ids(&loaded.train.sparse[0]), [1, 2]);
    assert_eq!((single_ids(&valid.sparse[0]), single_ids(&test.sparse[0])), ([0].as_slice(), [1].as_slice()));
    assert_eq!(
        (loaded.train.dense, valid.dense, test.dense),
        (vec![vec![-1.0, 1.0]], vec![vec![48.0]], vec![vec![97.0]])
    );
    assert_eq!(
        loaded.train.group.unwrap()[0],
        test.group.unwrap()[0],
        "the groups keep the order of the rows"
    );
}

#[test]
fn many_chunks_give_the_same_rows_as_one_file_has() {
    let folder = Folder::new();
    let spec = SplitSpec::Random { source: source(&folder, 0..20_000), valid: 0.0, test: 0.5, seed: 4 };
    let loaded = load(&spec).unwrap();
    let test = loaded.test.unwrap();
    let mut all = [rows(&loaded.train), rows(&test)].concat();
    assert!(
        loaded.train.depth.iter().zip(rows(&loaded.train)).all(|(depth, row)| usize::from(*depth) == row % 2)
    );
    assert!(rows(&test).is_sorted());
    all.sort_unstable();
    assert_eq!(all, (0..20_000).collect::<Vec<_>>());
}

#[test]
fn columns_are_checked_before_anything_is_read() {
    let folder = Folder::new();
    let spec = by_time(source(&folder, ["bad", "times"]), 0.1, 0.1);
    let message = |group, truth: Option<&TruthSpec>| {
        let features = [dense("row", DenseTransform::None, None)];
        folder.message(&load_splits(&spec, &features, &labels(), group, truth, false).unwrap_err())
    };
    assert_eq!(message(Some("keys"), None), "a.csv: there is no column `keys`, did you mean `key`?");
    let truth = TruthSpec { ctr: Some("conversio".into()), cvr: Some("row".into()), ctcvr: None };
    assert_eq!(
        message(None, Some(&truth)),
        "a.csv: there is no column `conversio`, did you mean `conversion`?"
    );
    let without =
        load_splits(&spec, &[sparse("rows", vocabulary())], &labels(), None, None, false).unwrap_err();
    assert_eq!(folder.message(&without), "a.csv: there is no column `rows`, did you mean `row`?");
}

/// A file in two splits, by another name, by a glob and by a hard link.
#[test]
fn no_file_is_in_two_splits() {
    let folder = Folder::new();
    let source = source(&folder, ["1", "2"]);
    let path = source.paths[0].clone();
    let copy = folder.path("b.csv");
    std::fs::copy(&path, &copy).unwrap();
    let named = |paths: &[&str]| SourceSpec {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..source.clone()
    };
    let apart = |train: &[&str], valid: Option<&[&str]>, test: Option<&[&str]>| {
        SplitSpec::Files { train: named(train), valid: valid.map(named), test: test.map(named) }.check_apart()
    };
    let (path, copy) = (path.as_str(), copy.as_str());
    apart(&[path], Some(&[copy]), None).unwrap();
    apart(&[path, path], None, Some(&[copy])).unwrap();
    let twisted = path.replace("a.csv", "./a.csv");
    let all = path.replace("a.csv", "*.csv");
    for (valid, test, expected) in [
        (Some(&[path][..]), None, "in data.train and in data.valid"),
        (Some(&[twisted.as_str()]), None, "in data.train and in data.valid"),
        (None, Some(&[all.as_str()][..]), "in data.train and in data.test"),
        (Some(&[copy]), Some(&[copy]), "in data.valid and in data.test"),
    ] {
        let error = apart(&[path], valid, test).unwrap_err();
        assert!(error.is_setting() && error.to_string().contains(expected), "{error}");
    }
    let hard = folder.path("hard.csv");
    std::fs::hard_link(path, &hard).unwrap();
    apart(&[path, &hard], Some(&[copy]), None).unwrap();
    let error = apart(&[path], None, Some(&[&hard])).unwrap_err();
    assert!(error.is_setting() && error.to_string().contains("in data.train and in data.test"), "{error}");
    let error = by_windows(&named(&[path]), &named(&[&hard])).check_apart().unwrap_err();
    assert!(error.to_string().contains("hard.csv: is in data.train and in data.valid"), "{error}");
}

/// Windows of splits that are named one by one.
fn by_windows(train: &SourceSpec, valid: &SourceSpec) -> SplitSpec {
    let files = SplitSpec::Files { train: train.clone(), valid: Some(valid.clone()), test: None };
    window(&files, Some(0), 2)
}

fn window(of: &SplitSpec, number: Option<u32>, count: u32) -> SplitSpec {
    SplitSpec::Window { of: Box::new(of.clone()), number, count }
}

#[test]
fn windows_by_time_learn_from_what_was_before_and_never_see_test_rows() {
    let folder = Folder::new();
    let spec = by_time(source(&folder, 0..100), 0.1, 0.1);
    let rows = |range: std::ops::Range<usize>| range.collect::<Vec<usize>>();
    for (number, start) in [(Some(0), 50), (Some(1), 60), (Some(2), 70), (None, 80)] {
        let expected = [rows(0..start), rows(start..start + 10), vec![]];
        assert_eq!(divided(&window(&spec, number, 3)), expected, "window {number:?}");
    }
    // Many windows are narrower, so that the first still learns from half of the rows.
    assert_eq!(divided(&window(&spec, Some(0), 8)), [rows(0..40), rows(40..45), vec![]]);
    let dates = (1..29).map(|day| format!("2024-02-{day:02}"));
    let from = |day: &str| Some(format!("2024-02-{day}"));
    let spec = SplitSpec::Date {
        source: source(&folder, dates),
        column: "key".into(),
        valid_from: from("21"),
        test_from: from("25"),
    };
    assert_eq!(divided(&window(&spec, Some(1), 2)), [rows(0..16), rows(16..20), vec![]]);
    assert_eq!(divided(&window(&spec, None, 2)), [rows(0..20), rows(20..24), vec![]]);
    let few = by_time(source(&folder, [1, 1, 1, 1, 1, 1, 2, 3]), 0.1, 0.1);
    let error = load(&window(&few, Some(0), 3)).unwrap_err().to_string();
    assert!(error.contains("window 1 of 3 has no rows: column `key` has too few moments"), "{error}");
}

#[test]
fn folds_are_disjoint_parts_of_the_training_rows() {
    let folder = Folder::new();
    let keys = source(&folder, (0..6000).map(|row| row % 300));
    let hashed =
        SplitSpec::Hash { source: keys.clone(), column: "key".into(), valid: 0.2, test: 0.2, seed: 3 };
    let random = SplitSpec::Random { source: keys.clone(), valid: 0.2, test: 0.2, seed: 3 };
    for spec in [hashed, random] {
        let [train, valid, _] = divided(&spec);
        let mut seen = HashSet::new();
        for number in 0..3 {
            let [fitted, fold, test] = divided(&window(&spec, Some(number), 3));
            assert!(test.is_empty());
            assert_eq!(fitted.len() + fold.len(), train.len(), "each training row fits or validates");
            let share = fold.len() as f64 / train.len() as f64;
            assert!((0.13..0.27).contains(&share), "a fold has as much as the validation split: {share}");
            assert!(fold.iter().all(|row| train.contains(row) && seen.insert(*row)), "folds are disjoint");
            if matches!(spec, SplitSpec::Hash { .. }) {
                let keys: HashSet<usize> = fitted.iter().map(|row| row % 300).collect();
                assert!(fold.iter().all(|row| !keys.contains(&(row % 300))), "a value stays together");
            }
        }
        assert_eq!(divided(&window(&spec, None, 3)), [train, valid, vec![]]);
    }
}

#[test]
fn windows_do_not_open_the_files_of_the_test_split() {
    let folder = Folder::new();
    let train = source(&folder, 0..100);
    let valid = folder.text("b.csv", "row,key,click,conversion\n1000,1,0,0\n");
    let spec = SplitSpec::Files { train, valid: Some(valid), test: Some(SourceSpec::new(["gone.csv"])) };
    assert!(load(&spec).is_err());
    let [train, valid, _] = divided(&window(&spec, Some(0), 2));
    assert!(train.len() + valid.len() == 100 && !valid.is_empty());
    let [train, valid, _] = divided(&window(&spec, None, 2));
    assert_eq!((train.len(), valid), (100, vec![1000]));
}
