//! What is prepared is what a slow and obvious join returns, value by value.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use super::super::prepare::prepare_within;
use super::super::{GenerateConfig, generate};
use super::{Row, TINY, Workplace, text};

/// The fields of a list of features.
fn fields(list: &str) -> BTreeMap<String, Vec<(i32, f32)>> {
    let mut fields: BTreeMap<String, Vec<(i32, f32)>> = BTreeMap::new();
    for feature in list.split('\x01').filter(|feature| !feature.is_empty()) {
        let (code, rest) = feature.split_once('\x02').unwrap();
        let (id, value) = rest.split_once('\x03').unwrap();
        fields.entry(code.to_owned()).or_default().push((id.parse().unwrap(), value.parse().unwrap()));
    }
    fields
}

/// Whole files in memory, one map for all users, one sort.
fn obvious_join(raw: &Path, split: &str) -> Vec<Row> {
    let mut users = HashMap::new();
    let common = text(raw, &format!("common_features_{split}"));
    for line in common.lines() {
        let columns: Vec<&str> = line.splitn(3, ',').collect();
        users.insert(columns[0], fields(columns[2]));
    }
    let mut rows = Vec::new();
    let mut first_use = HashMap::new();
    let skeleton = text(raw, &format!("sample_skeleton_{split}"));
    for line in skeleton.lines() {
        let columns: Vec<&str> = line.splitn(6, ',').collect();
        let next = first_use.len();
        let group = *first_use.entry(columns[3]).or_insert(next);
        let mut row = Row {
            sample_id: columns[0].parse().unwrap(),
            labels: [columns[1].parse().unwrap(), columns[2].parse().unwrap()],
            fields: users[columns[3]].clone(),
        };
        row.fields.extend(fields(columns[5]));
        if row.labels != [0, 1] {
            rows.push((group, row));
        }
    }
    rows.sort_by_key(|(group, _)| *group);
    rows.into_iter().map(|(_, row)| row).collect()
}

#[track_caller]
fn assert_same(found: &[Row], expected: &[Row]) {
    for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "row {number}");
    }
    assert_eq!(found.len(), expected.len());
}

/// Several seeds, anomalies in half of the groups, plain and packed, in memory and with everything sorted on disk.
#[test]
fn generated_sets_equal_an_obvious_join() {
    for seed in 1..=4 {
        let place = Workplace::generated(1500, seed, seed % 2 == 0);
        let report = match seed {
            1 => super::super::prepare(&place.config("out"), &mut |_| {}).unwrap(),
            _ => place.prepare("out"),
        };
        for (split, report) in [("train", &report.train), ("test", report.test.as_ref().unwrap())] {
            let found = place.rows("out", split);
            let expected = obvious_join(&place.path("raw"), split);
            assert_same(&found, &expected);
            let count = |test: fn(&Row) -> bool| expected.iter().filter(|row| test(row)).count() as u64;
            assert_eq!(report.impressions, expected.len() as u64);
            assert_eq!(report.clicks, count(|row| row.labels[0] == 1));
            assert_eq!(report.conversions, count(|row| row.labels[1] == 1));
            let lines = text(&place.path("raw"), &format!("sample_skeleton_{split}")).lines().count() as u64;
            assert_eq!(report.skeleton_rows, lines);
            assert_eq!(report.dropped_conversions_without_click, lines - report.impressions);
            assert!(report.dropped_conversions_without_click > 0 && report.conversions > 0);
            assert!(report.moved_impressions > 0 && report.repeated_common_rows > 0, "{report:?}");
            let values: u64 =
                expected.iter().map(|row| row.fields.get("853").map_or(0, Vec::len) as u64).sum();
            assert_eq!(report.fields["853"].values, values);
            assert_eq!(report.fields["126"].name, "consumption_1");
            let groups = place.groups("out", split);
            assert!(groups.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1));
            assert_eq!(u64::from(*groups.last().unwrap()) + 1, report.groups);
        }
        assert_eq!(report.widened_fields, ["206"], "two categories make lists of them");
    }
}

/// The same lines in one file, in several (a group over two of them), packed, or with the line ends of Windows.
#[test]
fn files_may_be_split_and_packed() {
    let place = Workplace::generated(800, 9, false);
    place.prepare("whole");
    let expected = place.rows("whole", "train");
    for kind in ["sample_skeleton", "common_features"] {
        let path = place.path("raw").join(format!("{kind}_train.csv"));
        let lines = fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
        let lines: Vec<&str> = lines.split_inclusive('\n').collect();
        let third = lines.len() / 3;
        let windows = lines[..third].concat().replace('\n', "\r\n");
        fs::write(place.path("raw").join(format!("{kind}_train_0.csv")), windows).unwrap();
        let packed = super::gzip(lines[third..2 * third].concat().as_bytes());
        fs::write(place.path("raw").join(format!("{kind}_train_1.csv.gz")), packed).unwrap();
        // Two gzip members one after the other are one file, and the last line feed may be missing.
        let first = lines[2 * third..2 * third + 5].concat();
        let last = lines[2 * third + 5..].concat();
        let members = [super::gzip(first.as_bytes()), super::gzip(last.trim_end().as_bytes())].concat();
        fs::write(place.path("raw").join(format!("{kind}_train_2.csv.gz")), members).unwrap();
    }
    place.prepare("parts");
    assert_same(&place.rows("parts", "train"), &expected);
}

#[test]
fn threads_and_packing_do_not_change_a_byte() {
    let plain = Workplace::generated(1200, 5, false);
    let packed = Workplace::generated(1200, 5, true);
    plain.prepare("a");
    let config = super::PrepareConfig { threads: 1, ..plain.config("b") };
    super::super::prepare(&config, &mut |_| {}).unwrap();
    let config = super::PrepareConfig { threads: 5, ..packed.config("a") };
    prepare_within(&config, super::Memory { ahead: 6, ..TINY }, &mut |_| {}).unwrap();
    for split in ["train", "test"] {
        for file in ["impressions.parquet", "groups.parquet"] {
            let read =
                |place: &Workplace, out: &str| fs::read(place.path(out).join(split).join(file)).unwrap();
            let expected = read(&plain, "a");
            assert!(read(&plain, "b") == expected, "1 thread: {split}/{file}");
            assert!(read(&packed, "a") == expected, "5 threads, packed: {split}/{file}");
        }
    }
    let report = |place: &Workplace, out: &str| fs::read(place.path(out).join("report.json")).unwrap();
    assert!(report(&plain, "a") == report(&plain, "b") && report(&plain, "a") == report(&packed, "a"));
    // And the generator's do not depend on its threads.
    let again = Workplace::new();
    let config = GenerateConfig {
        click_rate: 0.3,
        conversion_rate: 0.1,
        orphan_rate: 0.02,
        anomalies: 0.5,
        threads: 1,
        ..GenerateConfig::new(again.path("raw"), 1200, 5)
    };
    generate(&config).unwrap();
    for name in plain.entries("raw") {
        let read = |place: &Workplace| fs::read(place.path("raw").join(&name)).unwrap();
        assert!(read(&plain) == read(&again), "{name}");
    }
}
