//! The output: whole or not at all, segments, what exists already.

use std::fs;
use std::sync::atomic::Ordering;

use esmm_data::{GroupedFile, ListFormat};

use super::super::prepare::prepare_within;
use super::super::{AliCcpError, PrepareConfig};
use super::{TINY, Workplace};

const SKELETON: &str = "1,0,0,a,1,205:1=1.0\n2,1,1,b,1,205:2=1.0\n";
const COMMON: &str = "a,1,101:7=1.0\nb,1,101:8=1.0\n";

#[test]
fn a_preparation_leaves_files_that_say_what_they_are() {
    let place = Workplace::written(SKELETON, COMMON);
    let report = place.prepare("out");
    assert_eq!(place.entries(""), ["out", "raw"]);
    assert_eq!(place.entries("out"), ["report.json", "run-authors.toml", "run.toml", "train"]);
    assert_eq!(place.entries("out/train"), ["groups.parquet", "impressions.parquet"]);
    let saved = fs::read(place.path("out/report.json")).unwrap();
    assert_eq!(serde_json::from_slice::<super::PrepareReport>(&saved).unwrap(), report);
    assert!(report.test.is_none());
    place.write("sample_skeleton_test.csv", SKELETON);
    place.write("common_features_test.csv", COMMON);
    assert_eq!(place.prepare("both").test.unwrap(), report.train);
    assert!(place.entries("both").contains(&"test".to_owned()));
}

#[test]
fn nothing_is_left_when_it_is_stopped_or_fails() {
    let place = Workplace::written(SKELETON, COMMON);
    let config = place.config("out");
    config.stop.store(true, Ordering::Relaxed);
    let error = prepare_within(&config, TINY, &mut |_| {}).unwrap_err();
    assert!(matches!(error, AliCcpError::Interrupted), "{error}");
    assert_eq!(place.entries(""), ["raw"]);
    // An earlier output stays as it was, until a new one is whole.
    place.prepare("out");
    let before = fs::read(place.path("out/report.json")).unwrap();
    let config = PrepareConfig { overwrite: true, ..place.config("out") };
    config.stop.store(true, Ordering::Relaxed);
    prepare_within(&config, TINY, &mut |_| {}).unwrap_err();
    assert_eq!(fs::read(place.path("out/report.json")).unwrap(), before);
    assert_eq!(place.rows("out", "train").len(), 2);
}

#[test]
fn an_output_is_replaced_only_when_asked_and_strangers_stay() {
    let place = Workplace::written(SKELETON, COMMON);
    place.prepare("out");
    fs::write(place.path("out/notes.txt"), "mine").unwrap();
    let error = prepare_within(&place.config("out"), TINY, &mut |_| {}).unwrap_err();
    assert!(error.is_setting());
    assert_eq!(place.message(&error), "out: is not empty: choose another folder, or say --overwrite");
    place.write("sample_skeleton_train.csv", "1,0,0,a,1,205:1=1.0\n");
    let config = PrepareConfig { overwrite: true, ..place.config("out") };
    prepare_within(&config, TINY, &mut |_| {}).unwrap();
    assert_eq!(place.rows("out", "train").len(), 1);
    assert_eq!(fs::read_to_string(place.path("out/notes.txt")).unwrap(), "mine");
}

/// `--overwrite` replaces what a preparation wrote, and nothing else; nor what it reads.
#[test]
fn folders_of_strangers_are_not_replaced() {
    let place = Workplace::written(SKELETON, COMMON);
    fs::create_dir_all(place.path("out/train")).unwrap();
    fs::write(place.path("out/train/notes.txt"), "mine").unwrap();
    let overwrite =
        |raw: &str| PrepareConfig { overwrite: true, raw: place.path(raw), ..place.config("out") };
    let error = prepare_within(&overwrite("raw"), TINY, &mut |_| {}).unwrap_err();
    assert!(error.is_setting());
    let message = place.message(&error);
    assert!(message.starts_with("out: holds train but no report.json of a preparation"), "{message}");
    assert_eq!(fs::read_to_string(place.path("out/train/notes.txt")).unwrap(), "mine");

    fs::remove_dir_all(place.path("out")).unwrap();
    place.prepare("out");
    fs::rename(place.path("raw"), place.path("out/train/raw")).unwrap();
    let error = prepare_within(&overwrite("out/train/raw"), TINY, &mut |_| {}).unwrap_err();
    assert!(place.message(&error).contains("which is read: choose another folder"), "{error}");
    assert!(place.path("out/train/raw/sample_skeleton_train.csv").exists());
}

/// What a killed preparation left is removed by the next one.
#[test]
fn leftovers_of_a_killed_preparation_do_no_harm() {
    let place = Workplace::written(SKELETON, COMMON);
    fs::create_dir_all(place.path(".esmm-out/train")).unwrap();
    fs::write(place.path(".esmm-out/train-groups.0"), "half a run").unwrap();
    fs::write(place.path(".esmm-out/report.json"), "{").unwrap();
    place.prepare("out");
    assert_eq!(place.entries(""), ["out", "raw"]);
    assert_eq!(place.rows("out", "train").len(), 2);
}

/// Segments end with a group from 65,536 impressions on, and inside of one at 131,072.
#[test]
fn segments_keep_groups_whole_unless_they_are_too_large() {
    let mut skeleton = String::new();
    for (index, rows) in [("a", 40_000), ("b", 40_000), ("c", 150_000), ("d", 1)] {
        (0..rows).for_each(|row| skeleton.push_str(&format!("{row},0,0,{index},0,\n")));
    }
    let place = Workplace::written(&skeleton, "d,0,\nc,1,101:3=1.0\na,1,101:1=1.0\nb,1,101:2=1.0\n");
    let report = place.prepare("out");
    let path = place.path("out/train/impressions.parquet");
    let file =
        GroupedFile::open(&path, "groups.parquet", &["101".to_owned()], ListFormat::default()).unwrap();
    let segments: Vec<(usize, usize)> = (0..file.segments())
        .map(|segment| {
            let segment = file.segment(segment).unwrap();
            (segment.rows(), segment.groups.rows())
        })
        .collect();
    // a and b; as much of c as fits; the rest of c, and d.
    assert_eq!(segments, [(80_000, 2), (131_072, 1), (150_000 - 131_072 + 1, 2)]);
    assert_eq!((report.train.groups, report.train.segments), (4, 3));
    let groups = place.groups("out", "train");
    let expected = [(0, 40_000), (1, 40_000), (2, 150_000), (3, 1)];
    assert!(
        groups
            .into_iter()
            .eq(expected.into_iter().flat_map(|(group, rows)| std::iter::repeat_n(group, rows)))
    );
}
