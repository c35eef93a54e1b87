//! Bytes against those that TensorBoard's own code writes: `tests/tensorboard/generate.py`.

use prost::Message;

use esmm_metrics::{Link, Ranking};

use crate::entry::Entry;
use crate::graph_builder::{ANY, GraphBuilder};
use crate::histogram::Histogram;
use crate::hparams::{self, FinalMetric};
use crate::pr_curve::PrCurve;
use crate::proto::{Attribute, Event, ScalarKind, SessionLog, SourceMetadata, Summary, What};
use crate::record;

const GOLDEN: &[u8] = include_bytes!("../../../tests/tensorboard/golden.tfevents");
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
    let scores = [3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    let labels = [false, true, false, true, false, true];
    let ranking = Ranking::new(&scores, &labels, Link::Logit).unwrap();
    let hparams = hparams::Hparams::from([
        ("batch".to_owned(), Some(ScalarKind::Number(64.0))),
        ("norm".to_owned(), Some(ScalarKind::Bool(false))),
        ("optimizer".to_owned(), Some(ScalarKind::Text("adam".to_owned()))),
    ]);
    let metric = FinalMetric { split: "test", tag: "final/ctr.auc".to_owned(), name: "ctr.auc".to_owned() };
    let mut start = hparams::start(hparams, &[metric], WALL_TIME);
    vec![
        version,
        event(7, What::Session(SessionLog::START)),
        summary(7, Entry::scalar("loss/total", 0.625).described("Over all rows.")),
        summary(300, Entry::histogram("logits/ctr", &values)),
        summary(0, Entry::text("run_file", "# a\n`b`")),
        summary(300, Entry::pr_curve("pr/ctr", &PrCurve::of(&ranking).unwrap())),
        summary(0, start.remove(0)),
        summary(0, start.remove(0)),
        summary(300, hparams::end(WALL_TIME)),
        event(0, What::Graph(graph())),
    ]
}

fn graph() -> Vec<u8> {
    let mut graph = GraphBuilder::default();
    let table = graph.variable("tables/user", "weight", &[1000, 18]);
    graph.node("towers/ctr/dropout", "Dropout", vec![table], &[ANY, 18]);
    graph.attribute("probability", Attribute::Float(0.25));
    graph.finish().encode_to_vec()
}

#[test]
fn events_have_the_bytes_of_tensorboard() {
    let (payloads, rest) = record::read(GOLDEN);
    assert!(rest.is_empty(), "{} bytes after the last record", rest.len());
    let mut file = Vec::new();
    for (number, (golden, ours)) in payloads.iter().zip(expected()).enumerate() {
        let theirs = Event::decode(*golden).unwrap();
        assert_eq!(ours, theirs, "event {number}");
        assert_eq!(ours.encode_to_vec(), *golden, "event {number} has other bytes than {theirs:?}");
        record::append(&mut file, &ours.encode_to_vec());
    }
    assert_eq!(file, GOLDEN, "the frames differ");
}
