//! Bytes against those that TensorBoard's own code writes: `tests/tensorboard/generate.py`.

use prost::Message;

use super::entry::Entry;
use super::histogram::Histogram;
use super::pr_curve::PrCurve;
use super::proto::{Event, SessionLog, SourceMetadata, Summary, What};
use super::record;

const GOLDEN: &[u8] = include_bytes!("../../../../tests/tensorboard/golden.tfevents");
const WALL_TIME: f64 = 1_700_000_000.25;

fn event(step: i64, what: What) -> Event {
    Event { wall_time: WALL_TIME, step, what: Some(what), source: None }
}

fn summary(step: i64, entry: Entry) -> Event {
    event(step, What::Summary(Summary { value: vec![entry.into_value()] }))
}

fn expected() -> Vec<Event> {
    let source = Some(SourceMetadata { writer: "esmm-train 0.1.0".into() });
    let version = Event { source, ..event(0, What::FileVersion("brain.Event:2".into())) };
    let values = Histogram::of((0..=400).map(f64::from)).unwrap();
    let rows = (3..=8).map(|score| (score as f32, score % 2 == 0));
    vec![
        version,
        event(7, What::Session(SessionLog::START)),
        summary(7, Entry::scalar("loss/total", 0.625).described("Over all rows.")),
        summary(300, Entry::histogram("logits/ctr", &values)),
        summary(0, Entry::text("run_file", "# a\n`b`")),
        summary(300, Entry::pr_curve("pr/ctr", &PrCurve::new(rows).unwrap())),
    ]
}

#[test]
fn events_have_the_bytes_of_tensorboard() {
    let (payloads, rest) = record::read(GOLDEN);
    assert!(rest.is_empty(), "{} bytes behind the last record", rest.len());
    let mut file = Vec::new();
    for (number, (golden, ours)) in payloads.iter().zip(expected()).enumerate() {
        let theirs = Event::decode(golden.as_slice()).unwrap();
        assert_eq!(ours, theirs, "event {number}");
        assert_eq!(ours.encode_to_vec(), *golden, "event {number} has other bytes than {theirs:?}");
        record::append(&mut file, &ours.encode_to_vec());
    }
    assert!(GOLDEN.starts_with(&file) && file.len() > 6000, "{} bytes", file.len());
}
