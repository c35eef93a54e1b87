//! Labels and truth: what is allowed, and what happens to orphans.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Date32Array, Float32Array, Int8Array, StringArray};

use super::{Folder, chunks};
use crate::{LabelSpec, MissingLabel, Orphans, SourceSpec, TruthSpec};

const CLICK: [&str; 2] = ["click", "conversion"];

fn read(source: &SourceSpec, spec: &LabelSpec) -> Result<Vec<Option<u8>>, super::DataError> {
    let columns: Vec<&str> = spec.columns.iter().map(String::as_str).collect();
    spec.read(&chunks(source, &columns)?[0])
}

#[test]
fn labels_come_as_numbers_booleans_and_text() {
    let folder = Folder::new();
    let spec = LabelSpec::new(CLICK);
    let expected = [Some(0), Some(1), Some(2)];
    for cells in [
        ["0", "1"],
        ["0.0", "1.0"],
        ["0.00", "+1"],
        ["0.000000e+00", "1.000000e+00"],
        [" 0", "1 "],
        ["false", "true"],
        ["False", "True"],
        ["FALSE", "TRUE"],
    ] {
        let [no, yes] = cells;
        let text = format!("click,conversion\n{no},{no}\n{yes},{no}\n{yes},{yes}\n");
        assert_eq!(read(&folder.text("a.csv", text), &spec).unwrap(), expected);
    }
    let columns: Vec<[ArrayRef; 2]> = vec![
        [Arc::new(Int8Array::from(vec![0, 1, 1])), Arc::new(Int8Array::from(vec![0, 0, 1]))],
        [
            Arc::new(BooleanArray::from(vec![false, true, true])),
            Arc::new(BooleanArray::from(vec![false, false, true])),
        ],
        [Arc::new(Float32Array::from(vec![0.0, 1.0, 1.0])), Arc::new(StringArray::from(vec!["0", "0", "1"]))],
    ];
    for [click, conversion] in columns {
        let source = folder.parquet("a.parquet", vec![("click", click), ("conversion", conversion)]);
        assert_eq!(read(&source, &spec).unwrap(), expected);
    }
}

#[test]
fn other_labels_say_where() {
    let folder = Folder::new();
    let fails = |cell: &str| {
        let source = folder.text("a.csv", format!("click,conversion\n1,1\n{cell},0\n"));
        folder.message(&read(&source, &LabelSpec::new(CLICK)).unwrap_err())
    };
    let way_out =
        "(or true or false; for other words say labels.positive = [\"yes\"] and labels.negative = [\"no\"])";
    for bad in ["2", "-1", "0.5", "yes", "t", "01"] {
        let message = fails(bad);
        assert_eq!(message, format!("a.csv:3: column `click`: found `{bad}`, allowed is 0 or 1 {way_out}"));
    }
    for nothing in ["", "NaN", "NULL"] {
        let message = fails(nothing);
        assert_eq!(message, "a.csv:3: column `click`: found nothing, allowed is 0 or 1 (or true or false)");
    }
    let columns = |label: ArrayRef| vec![("click", label.clone()), ("conversion", label)];
    let number = folder.parquet("a.parquet", columns(Arc::new(Float32Array::from(vec![0.0, 0.5]))));
    let message = folder.message(&read(&number, &LabelSpec::new(CLICK)).unwrap_err());
    assert_eq!(
        message,
        format!("a.parquet: row 2: column `click`: found `0.5`, allowed is 0 or 1 {way_out}")
    );
    let date = folder.parquet("d.parquet", columns(Arc::new(Date32Array::from(vec![1]))));
    let message = folder.message(&read(&date, &LabelSpec::new(CLICK)).unwrap_err());
    assert_eq!(
        message,
        "d.parquet: column `click` is Date32, allowed are integers, floats, decimals, booleans and text"
    );
}

#[test]
fn words_of_others_are_labels_where_they_are_named() {
    let folder = Folder::new();
    for [no, yes] in [["f", "t"], ["no", "yes"], ["-1", "1"], ["-1.0", "1.0"], ["N", "Y"]] {
        let spec =
            LabelSpec { positive: vec![yes.into()], negative: vec![no.into()], ..LabelSpec::new(CLICK) };
        let spec = if yes.starts_with('1') { LabelSpec { positive: Vec::new(), ..spec } } else { spec };
        let text = format!("click,conversion\n{no},{no}\n{yes},{no}\n{yes},{yes}\n1,0\n");
        let expected = [Some(0), Some(1), Some(2), Some(1)];
        assert_eq!(read(&folder.text("a.csv", text), &spec).unwrap(), expected, "{yes}");
    }
    let number: ArrayRef = Arc::new(Int8Array::from(vec![-1, 1]));
    let source = folder.parquet("a.parquet", vec![("click", number.clone()), ("conversion", number)]);
    let spec = LabelSpec { negative: vec!["-1".into()], ..LabelSpec::new(CLICK) };
    assert_eq!(read(&source, &spec).unwrap(), [Some(0), Some(2)]);
    let both = LabelSpec { positive: vec!["x".into()], negative: vec!["x".into()], ..LabelSpec::new(CLICK) };
    assert_eq!(both.validate().unwrap_err().to_string(), "labels: `x` stands for 1 and for 0");
    let wrong = LabelSpec { negative: vec!["1.0".into()], ..LabelSpec::new(CLICK) };
    assert_eq!(wrong.validate().unwrap_err().to_string(), "labels: `1.0` stands for 0 and for 1");
}

#[test]
fn nothing_behind_no_click_can_count_as_0() {
    let folder = Folder::new();
    let source = folder.text("a.csv", "click,conversion\n0,\n1,1\n1,0\n");
    let mut spec = LabelSpec::new(CLICK);
    assert_eq!(
        folder.message(&read(&source, &spec).unwrap_err()),
        "a.csv:2: column `conversion`: found nothing, allowed is 0 or 1 (or true or false) \
         (with labels.missing = \"zero\" nothing counts as 0 where `click` is 0)"
    );
    spec.missing = MissingLabel::Zero;
    assert_eq!(read(&source, &spec).unwrap(), [Some(0), Some(2), Some(1)]);
    let clicked = folder.text("b.csv", "click,conversion\n1,\n");
    assert_eq!(
        folder.message(&read(&clicked, &spec).unwrap_err()),
        "b.csv:2: column `conversion`: found nothing, allowed is 0 or 1 (or true or false) where `click` is 1"
    );
}

#[test]
fn orphans_are_errors_or_left_out() {
    let folder = Folder::new();
    let source = folder.text("train.csv", "click,conversion\n1,1\n0,1\n1,0\n");
    let mut spec = LabelSpec::new(CLICK);
    assert_eq!(
        folder.message(&read(&source, &spec).unwrap_err()),
        "train.csv:3: conversion = 1 but click = 0 (with orphan_conversions = \"drop\" such rows are left out)"
    );
    spec.orphan_conversions = Orphans::Drop;
    assert_eq!(read(&source, &spec).unwrap(), [Some(2), None, Some(1)]);
}

#[test]
fn longer_funnels_need_every_stage() {
    let folder = Folder::new();
    let text = "click,cart,buy\n1,1,1\n1,0,1\n0,1,1\n1,1,0\n0,0,0\n0,0,1\n";
    let source = folder.text("a.csv", text);
    let mut spec = LabelSpec::new(["click", "cart", "buy"]);
    let message = folder.message(&read(&source, &spec).unwrap_err());
    assert!(message.starts_with("a.csv:4: cart = 1 but click = 0"), "{message}");
    spec.orphan_conversions = Orphans::Drop;
    assert_eq!(read(&source, &spec).unwrap(), [Some(3), None, None, Some(2), Some(0), None]);
}

#[test]
fn label_settings_are_checked() {
    let message =
        |columns: &[&str]| LabelSpec::new(columns.iter().copied()).validate().unwrap_err().to_string();
    assert_eq!(message(&["click"]), "labels: 1 stages, there must be 2 to 255");
    assert_eq!(message(&["a", "b", "a"]), "labels: column `a` is named for two stages");
    assert!(LabelSpec::new(CLICK).validate().is_ok());
}

#[test]
fn truth_is_a_probability() {
    let folder = Folder::new();
    let spec = TruthSpec { ctr: Some("p".into()), cvr: Some("q".into()), ctcvr: None };
    let source = |cell: &str| folder.text("a.csv", format!("p,q\n0.5,0\n{cell},1\n"));
    let read = |cell: &str| spec.read(&chunks(&source(cell), &["p", "q"]).unwrap()[0]);
    let truth = read("0.25").unwrap();
    assert_eq!((truth.ctr, truth.cvr, truth.ctcvr), (vec![0.5, 0.25], vec![0.0, 1.0], None));
    let message = |cell| folder.message(&read(cell).unwrap_err());
    assert_eq!(message("1.5"), "a.csv:3: column `p`: found `1.5`, allowed is a probability from 0 to 1");
    assert_eq!(message(""), "a.csv:3: column `p`: found nothing, allowed is a probability from 0 to 1");
    let half = TruthSpec { cvr: None, ..spec.clone() };
    assert_eq!(
        half.validate().unwrap_err().to_string(),
        "truth: the columns of `ctr` and `cvr` are both needed"
    );
}
