//! Weights, rates and times, from the file to the row.

use super::{Folder, StreamOptions, data_spec, sparse, vocabulary};
use crate::load::files::in_files;
use crate::load::memory::in_memory;
use crate::{
    ConversionWindow, CountSpec, DataError, DataSpec, LabelSpec, RowCounts, SourceSpec, SplitReport,
    SplitSpec, StageWeights,
};

const HEADER: &str = "user,click,conversion,w,kept,at\n";

fn weight() -> CountSpec {
    CountSpec { weight: Some("w".into()), ..CountSpec::default() }
}

fn rate() -> CountSpec {
    CountSpec { negative_rate: Some("kept".into()), ..CountSpec::default() }
}

fn window(length: &str, until: Option<&str>) -> CountSpec {
    let until = until.map(str::to_owned);
    let window = ConversionWindow { column: "at".into(), length: length.into(), until };
    CountSpec { window: Some(window), ..CountSpec::default() }
}

/// All rows of a CSV train.
fn spec(source: SourceSpec, counting: CountSpec) -> DataSpec {
    let split = SplitSpec::Files { train: source, valid: None, test: None };
    let features = [sparse("user", vocabulary())];
    let labels = LabelSpec::new(["click", "conversion"]);
    DataSpec { counting, ..data_spec(&split, &features, &labels, None, None) }
}

/// How the rows count, and what was read of them.
fn load(rows: &str, counting: CountSpec, streaming: bool) -> Result<(RowCounts, SplitReport), String> {
    let folder = Folder::new();
    let data = spec(folder.text("a.csv", format!("{HEADER}{rows}")), counting);
    let message = |error: DataError| folder.message(&error);
    if streaming {
        let loaded = in_files(&data, OPTIONS).map_err(message)?;
        return Ok((loaded.train.first(1000).map_err(message)?.counts, loaded.report.train));
    }
    let loaded = in_memory(&data, true).map_err(message)?;
    Ok((loaded.train.counts, loaded.report.train))
}

const OPTIONS: StreamOptions = StreamOptions { memory: 1 << 20, shuffle_rows: 10, by_group: true };

const ROWS: &str = "\
a,0,0,1,1,2024-05-01
b,1,1,2.5,0.5,2024-05-02
a,1,0,0,0.25,2024-05-08
b,0,0,3,0.5,2024-05-08 00:00:01
c,1,0,1,0.1,2024-05-09
";

#[test]
fn weights_are_read_wherever_rows_are() {
    for streaming in [false, true] {
        let (counts, report) = load(ROWS, weight(), streaming).unwrap();
        assert_eq!(counts.weight, Some(vec![1.0, 2.5, 0.0, 3.0, 1.0]), "streaming: {streaming}");
        assert_eq!((report.rows, report.weight, report.open), (5, 7.5, 0));
        let clicks = StageWeights { before: 7.5, reached: 3.5 };
        assert_eq!(report.rates, [clicks, StageWeights { before: 3.5, reached: 2.5 }]);
    }
}

#[test]
fn rates_bring_back_the_rows_that_were_left_out() {
    for streaming in [false, true] {
        let (counts, report) = load(ROWS, rate(), streaming).unwrap();
        assert_eq!(report.weight, 5.0);
        // Two rows without a click stand for one and for two.
        let clicks = StageWeights { before: 6.0, reached: 3.0 };
        assert_eq!(report.rates, [clicks, StageWeights { before: 3.0, reached: 1.0 }]);
        let depths = [0, 2, 1, 0, 1].iter().enumerate();
        let weights: Vec<f64> = depths.map(|(row, depth)| counts.weight(row, *depth)).collect();
        assert_eq!(weights, [1.0, 1.0, 1.0, 2.0, 1.0]);
    }
}

/// A row that is exactly as old as the window has had its time.
#[test]
fn young_rows_are_open() {
    let open = |length: &str, until: Option<&str>| {
        let found = [false, true].map(|streaming| {
            let (counts, report) = load(ROWS, window(length, until), streaming).unwrap();
            (counts.open.unwrap(), report)
        });
        assert_eq!(found[0], found[1]);
        found[0].clone()
    };
    let (flags, report) = open("1d", None);
    assert_eq!(flags, [false, false, false, true, true]);
    assert_eq!(report.open, 2);
    let clicks = StageWeights { before: 5.0, reached: 3.0 };
    assert_eq!(report.rates, [clicks, StageWeights { before: 2.0, reached: 1.0 }], "of closed rows");
    assert_eq!(open("24 h", Some("2024-05-09")).0, flags);
    assert_eq!(open("1 week", None).0, [false, false, true, true, true]);
    assert_eq!(open("7d", Some("2024-06-01")).0, [false; 5]);
}

#[test]
fn times_may_be_numbers() {
    let rows = "a,0,0,1,1,100\nb,1,1,1,1,160\na,1,0,1,1,161\nb,1,0,1,1,220\n";
    for streaming in [false, true] {
        let (counts, _) = load(rows, window("60", None), streaming).unwrap();
        assert_eq!(counts.open, Some(vec![false, false, true, true]));
    }
}

/// Parts that say of every row what holds anyway are not there.
#[test]
fn plain_parts_are_left_out() {
    let counts = RowCounts {
        weight: Some(vec![1.0, 1.0]),
        negative_rate: Some(vec![1.0, 0.5]),
        open: Some(vec![false, false]),
    };
    let expected = RowCounts { negative_rate: Some(vec![1.0, 0.5]), ..RowCounts::default() };
    assert_eq!(counts.without_plain_parts(), expected);
    assert!(RowCounts::default().is_plain() && !expected.is_plain());
}

#[test]
fn bad_cells_are_named() {
    let bad = |cells: &str, counting: CountSpec| {
        let rows = format!("a,0,0,1,1,2024-05-01\nb,1,1,{cells}\n");
        let [memory, files] =
            [false, true].map(|streaming| load(&rows, counting.clone(), streaming).unwrap_err());
        assert_eq!(memory, files);
        memory
    };
    for (cell, found) in [("-1", "`-1`"), ("", "nothing"), ("NaN", "nothing"), ("1e39", "`1e39`")] {
        let message = bad(&format!("{cell},1,2024-05-01"), weight());
        let expected =
            format!("column `w`: found {found}, allowed is a weight, which is a finite number from 0 on");
        let expected = expected.replace("1e39", "1000000000000000000000000000000000000000");
        assert!(message.contains("a.csv:3: ") && message.ends_with(&expected), "{message}");
    }
    assert!(bad("inf,1,2024-05-01", weight()).contains("a.csv:3: column `w`: found"));
    assert!(bad("x,1,2024-05-01", weight()).contains("column `w`: found `x`"));
    for cell in ["0", "-0.5", "1.5", "", "NaN"] {
        let message = bad(&format!("1,{cell},2024-05-01"), rate());
        assert!(
            message.contains("a.csv:3: column `kept`: found ") && message.ends_with("above 0 and at most 1"),
            "{message}"
        );
    }
    assert!(
        bad("1,1,", window("1d", None)).contains("a.csv:3: column `at`: found nothing, allowed is a time")
    );
}

#[test]
fn settings_that_cannot_be() {
    let message = |rows: &str, counting: CountSpec| {
        let [memory, files] =
            [false, true].map(|streaming| load(rows, counting.clone(), streaming).unwrap_err());
        assert_eq!(memory, files);
        memory
    };
    let zero = message("a,0,0,0,1,1\nb,1,0,0,1,2\n", weight());
    assert!(zero.contains("column `w` is 0 in all rows of the train split"), "{zero}");
    let missing = message(ROWS, CountSpec { weight: Some("weight".into()), ..CountSpec::default() });
    assert!(missing.contains("`weight`"), "{missing}");
    for length in ["", "d", "-1d", "0h", "nan", "7 months", "inf d"] {
        let found = message(ROWS, window(length, None));
        assert!(found.contains("a number above 0 with a unit (s, min, h, d, w), as 7d"), "{length}: {found}");
    }
    assert!(message(ROWS, window("7", None)).contains("holds dates or times: give the length with a unit"));
    let numbers = "a,0,0,1,1,5\nb,1,0,1,1,6\n";
    assert!(message(numbers, window("7d", None)).contains("holds numbers, whose unit nobody knows"));
    assert!(message(ROWS, window("7d", Some("May"))).contains("conversions_until = `May`"));
    assert!(
        message(ROWS, window("7d", Some("12"))).contains("conversions_until is a number, but column `at`")
    );
}

#[test]
fn both_ways_of_loading_agree() {
    let folder = Folder::new();
    let both = CountSpec { negative_rate: Some("kept".into()), ..weight() };
    let data = spec(folder.text("a.csv", format!("{HEADER}{ROWS}")), both);
    let (memory, files) = (in_memory(&data, true).unwrap(), in_files(&data, OPTIONS).unwrap());
    assert_eq!(memory.report, files.report);
    assert_eq!(files.train.first(10).unwrap(), memory.train);
}
