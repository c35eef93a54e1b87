//! Bad rows: an error with file and line, or skipped and counted.

use std::fs;

use super::super::PrepareConfig;
use super::super::prepare::prepare_within;
use super::{TINY, Workplace};

const SKELETON: &str = "1,0,0,a,1,205:1=1.0\n2,1,1,a,1,205:2=1.0\n3,0,0,b,1,205:3=1.0\n";
const COMMON: &str = "a,1,101:7=1.0\nb,1,101:8=1.0\n";

/// Lines that are refused, and why. Each is the second of three.
const BAD_SKELETON: [(&str, &str); 9] = [
    (
        "2,1,1,a",
        "found 4 columns in `2,1,1,a`, allowed is sample_id,click,conversion,common_feature_index,feature_num,feature_list",
    ),
    ("two,1,1,a,1,205:2=1.0", "sample_id: found `two`, allowed is a whole number"),
    ("2,yes,1,a,1,205:2=1.0", "click: found `yes`, allowed is 0 or 1"),
    ("2,1,1,a,2,205:2=1.0", "feature_num: found `2`, allowed is 1, as many as the list has"),
    (
        "2,1,1,a,1,2052=1.0",
        "feature_list: found `2052\\u{3}1.0`, allowed is features field\\x02id\\x03value with \\x01 between them",
    ),
    (
        "2,1,1,a,1,205:2=one",
        "value of field 205: found `one`, allowed is a finite number that is not negative",
    ),
    ("2,1,1,a,1,205:-2=1.0", "id of field 205: found `-2`, allowed is a whole number up to 2147483647"),
    (
        "2,1,1,a,1,101:2=1.0",
        "field: found `101`, allowed is one of 205, 206, 207, 210, 216, 508, 509, 702, 853, 301",
    ),
    ("2,1,1,c,1,205:2=1.0", "common_feature_index: found `c`, allowed is one of the common files"),
];

fn with_line(line: &str) -> Workplace {
    Workplace::written(&format!("1,0,0,a,1,205:1=1.0\n{line}\n3,0,0,b,1,205:3=1.0\n"), COMMON)
}

#[test]
fn a_bad_row_is_an_error_with_its_line() {
    for (line, fault) in BAD_SKELETON {
        let place = with_line(line);
        let message = place.fails(&place.config("out"));
        assert_eq!(message, format!("sample_skeleton_train.csv:2: {fault}"), "{line}");
    }
    for (common, fault) in [
        (
            "a,1,101:7=1.0\nb,1\n",
            "2: found 2 columns in `b,1`, allowed is common_feature_index,feature_num,feature_list",
        ),
        (
            "a,1,101:7=1.0\nb,0,101:8=1.0\n",
            "2: feature_num: found `0`, allowed is 1, as many as the list has",
        ),
        (
            "a,1,101:7=1.0\nb,1,205:8=1.0\n",
            "2: field: found `205`, allowed is one of 101, 121, 122, 124, 125, 126, 127, 128, 129, 109_14, 110_14, 127_14, 150_14",
        ),
        (
            "a,1,101:7=1.0\nb,1,101:8=1.0\na,1,101:9=1.0\n",
            "3: common_feature_index: found `a` once more with other features, allowed is one row for each",
        ),
    ] {
        let place = Workplace::written(SKELETON, common);
        let message = place.fails(&place.config("out"));
        assert_eq!(message, format!("common_features_train.csv:{fault}"), "{common}");
    }
}

#[test]
fn bad_rows_are_skipped_and_counted_up_to_a_limit() {
    for (line, fault) in BAD_SKELETON {
        let place = with_line(line);
        let config = PrepareConfig { max_bad_rows: 1, ..place.config("out") };
        let report = prepare_within(&config, TINY, &mut |_| {}).unwrap();
        let ids: Vec<i64> = place.rows("out", "train").iter().map(|row| row.sample_id).collect();
        assert_eq!(ids, [1, 3], "{line}");
        assert_eq!((report.bad_rows, report.train.dropped_bad_rows, report.train.skeleton_rows), (1, 1, 3));
        assert!(report.bad_row_examples[0].ends_with(&format!("train.csv:2: {fault}")), "{line}");
    }
    let lines: String = BAD_SKELETON.iter().map(|(line, _)| format!("{line}\n")).collect();
    let place = Workplace::written(&format!("{SKELETON}{lines}"), COMMON);
    let config = |allowed| PrepareConfig { max_bad_rows: allowed, ..place.config("out") };
    let message = place.fails(&config(8));
    // Group c comes before the late rows of a, and is the first of the nine.
    let last = "sample_skeleton_train.csv:11: field: found `101`, allowed is one of 205, 206, 207, 210, 216, 508, 509, 702, 853, 301";
    assert_eq!(message, format!("{last} (9 bad rows, --max-bad-rows allows 8)"));
    let report = prepare_within(&config(9), TINY, &mut |_| {}).unwrap();
    assert_eq!((report.bad_rows, report.train.impressions), (9, 3));
}

/// Without its common row, the impressions of a user are bad as well.
#[test]
fn a_skipped_common_row_takes_its_impressions_along() {
    let place = Workplace::written(SKELETON, "a,2,101:7=1.0\nb,1,101:8=1.0\n");
    let config = PrepareConfig { max_bad_rows: 3, ..place.config("out") };
    let report = prepare_within(&config, TINY, &mut |_| {}).unwrap();
    assert_eq!((report.bad_rows, report.train.impressions, report.train.groups), (3, 1, 1));
    assert_eq!(place.groups("out", "train"), [0], "groups are numbered without gaps");
}

/// Late impressions are checked like all others.
#[test]
fn bad_rows_that_come_late_are_found() {
    let late = "4,0,0,a,1,205:4=1.0\n5,0,1,a,1,205:5=1.0\n6,0,0,a,9,205:6=1.0\n7,1,0,a,0,\n";
    let place = Workplace::written(&format!("{SKELETON}{late}"), COMMON);
    let message = place.fails(&place.config("out"));
    assert_eq!(
        message,
        "sample_skeleton_train.csv:6: feature_num: found `9`, allowed is 1, as many as the list has"
    );
    let config = PrepareConfig { max_bad_rows: 1, ..place.config("out") };
    let report = prepare_within(&config, TINY, &mut |_| {}).unwrap();
    let ids: Vec<i64> = place.rows("out", "train").iter().map(|row| row.sample_id).collect();
    assert_eq!(ids, [1, 2, 4, 7, 3]);
    assert_eq!((report.train.moved_impressions, report.train.dropped_conversions_without_click), (2, 1));
}

#[test]
fn a_row_that_is_cut_off_at_the_end_of_the_file_is_named_as_such() {
    for cut in ["3,0,0,b,1,205:3", "3,0,0,b,1,", "3,0,0"] {
        let place = Workplace::written(&format!("1,0,0,a,1,205:1=1.0\n{cut}"), COMMON);
        let message = place.fails(&place.config("out"));
        assert!(message.starts_with("sample_skeleton_train.csv:2: "), "{message}");
        assert!(message.ends_with(" (the file ends in this line: was it cut off?)"), "{message}");
    }
    // A whole row needs no line feed.
    let place = Workplace::written(SKELETON.trim_end(), COMMON.trim_end());
    assert_eq!(place.prepare("out").train.impressions, 3);
}

#[test]
fn a_damaged_gz_is_an_error_with_file_and_line() {
    let lines: String =
        (1..=60_000).map(|row| format!("{row},0,0,a,1,205:{}=1.0\n", row * 7919 % 1000)).collect();
    let place = Workplace::written("", COMMON);
    let raw = place.path("raw");
    fs::remove_file(raw.join("sample_skeleton_train.csv")).unwrap();
    let path = raw.join("sample_skeleton_train.csv.gz");
    let packed = super::gzip(lines.replace(':', "\x02").replace('=', "\x03").as_bytes());
    let allowed = PrepareConfig { max_bad_rows: 1000, ..place.config("out") };
    for length in [packed.len() / 2, packed.len() - 3] {
        fs::write(&path, &packed[..length]).unwrap();
        let message = place.fails(&allowed);
        let line =
            message.strip_prefix("sample_skeleton_train.csv.gz:").unwrap_or_else(|| panic!("{message}"));
        let (line, reason) = line.split_once(": ").unwrap();
        let expected = 60_000 * length as u64 / packed.len() as u64;
        let line: u64 = line.parse().unwrap();
        assert!(line.abs_diff(expected) < 6000, "line {line} of about {expected}");
        assert_eq!(reason, "the packed file ends here: it was cut off");
    }
    let mut noise = packed.clone();
    let middle = packed.len() / 2;
    noise[middle..middle + 8].iter_mut().for_each(|byte| *byte ^= 0x5A);
    fs::write(&path, noise).unwrap();
    let message = place.fails(&allowed);
    assert!(message.starts_with("sample_skeleton_train.csv.gz:"), "{message}");
    fs::write(&path, "no gzip at all\n").unwrap();
    let message = place.fails(&allowed);
    assert!(
        message.starts_with("sample_skeleton_train.csv.gz:1: the packed file is damaged here"),
        "{message}"
    );
}

#[test]
fn missing_empty_and_doubled_files() {
    let place = Workplace::new();
    let message = place.fails(&place.config("out"));
    assert_eq!(message, "raw: holds no sample_skeleton_train.csv and no common_features_train.csv");
    place.write("sample_skeleton_train.csv", SKELETON);
    let message = place.fails(&place.config("out"));
    assert_eq!(message, "raw: holds sample_skeleton_train but no common_features_train.csv or .csv.gz");
    place.write("common_features_train.csv", COMMON);
    place.write("common_features_train.csv.gz", COMMON);
    let message = place.fails(&place.config("out"));
    assert_eq!(
        message,
        "common_features_train.csv.gz: the same file without .gz is there as well: which one counts? Move one away"
    );
    fs::remove_file(place.path("raw").join("common_features_train.csv.gz")).unwrap();
    place.write("sample_skeleton_train.csv", "");
    let message = place.fails(&place.config("out"));
    assert_eq!(message, "sample_skeleton_train.csv: no rows");
    place.write("sample_skeleton_train.csv", "1,0,1,a,0,\n");
    let message = place.fails(&place.config("out"));
    assert_eq!(
        message,
        "sample_skeleton_train.csv: no impression is left (1 conversions without a click, 0 bad rows)"
    );
}
