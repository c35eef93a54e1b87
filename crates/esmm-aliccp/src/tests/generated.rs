//! The generator's statistics are those that its documentation states.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::{Workplace, generate, text};
use crate::{AliCcpError, GenerateConfig};

/// Four standard errors of a share.
fn near(share: f64, expected: f64, count: usize) -> bool {
    (share - expected).abs() < 4.0 * (expected * (1.0 - expected) / count as f64).sqrt()
}

#[test]
fn statistics_are_the_official_ones() {
    let place = Workplace::new();
    let report = generate(&GenerateConfig::new(place.path("raw"), 60_000, 3)).unwrap();
    assert_eq!((report.train_rows, report.test_rows), (60_000, 61_017));
    let skeleton = text(&place.path("raw"), "sample_skeleton_train");
    let mut clicks = 0;
    let mut features = 0;
    let mut runs = Vec::new();
    let mut with: HashMap<&str, usize> = HashMap::new();
    for (number, line) in skeleton.lines().enumerate() {
        let columns: Vec<&str> = line.splitn(6, ',').collect();
        assert_eq!(columns[0], (number + 1).to_string());
        clicks += usize::from(columns[1] == "1");
        if runs.last() != Some(&columns[3]) {
            runs.push(columns[3]);
        }
        let list: Vec<&str> = columns[5].split('\x01').collect();
        assert_eq!(columns[4], list.len().to_string());
        features += list.len();
        let fields: HashSet<&str> =
            list.iter().map(|feature| feature.split('\x02').next().unwrap()).collect();
        fields.into_iter().for_each(|field| *with.entry(field).or_default() += 1);
    }
    // The intercept is found on 40,000 impressions of other groups: two sampling errors.
    assert!((clicks as f64 / 60_000.0 - 0.03887).abs() < 0.006, "{clicks} clicks");
    assert!((features as f64 / 60_000.0 - 13.0).abs() < 0.2, "{features} features");
    for (field, share) in [("509", 0.26), ("702", 0.26)] {
        assert!(near(with[field] as f64 / 60_000.0, share, 60_000), "{field}: {}", with[field]);
    }
    assert_eq!(runs.iter().collect::<HashSet<_>>().len(), runs.len(), "each index comes in one run");
    assert_eq!(runs.len() as u64, report.train_groups);
    // 57.9 impressions a group, whose number varies about as much as itself.
    let mean = 60_000.0 / runs.len() as f64;
    assert!((mean - 57.9).abs() < 4.0 * 57.9 * 1.1 / (runs.len() as f64).sqrt(), "{mean}");
    common_rows(&place, &runs);
}

fn common_rows(place: &Workplace, runs: &[&str]) {
    let common = text(&place.path("raw"), "common_features_train");
    let mut features = 0;
    let mut without_126 = 0;
    let mut order = Vec::new();
    let mut fields_of_id: HashMap<&str, &str> = HashMap::new();
    for line in common.lines() {
        let columns: Vec<&str> = line.splitn(3, ',').collect();
        order.push(columns[0]);
        let list: Vec<&str> = columns[2].split('\x01').collect();
        assert_eq!(columns[1], list.len().to_string());
        features += list.len();
        without_126 += usize::from(!list.iter().any(|feature| feature.starts_with("126\x02")));
        for feature in list {
            let (field, rest) = feature.split_once('\x02').unwrap();
            let (id, _) = rest.split_once('\x03').unwrap();
            assert_eq!(*fields_of_id.entry(id).or_insert(field), field, "ids are unique over fields");
        }
    }
    let count = order.len() as f64;
    // Activity is log-normal with a standard deviation of 0.947 around a mean of 1.
    let mean = features as f64 / count;
    assert!((mean - 518.0).abs() < 4.0 * 0.947 * 510.0 / count.sqrt(), "{mean} features");
    assert!(near(without_126 as f64 / count, 0.59, order.len()), "{without_126} of {count} without 126");
    assert_eq!(order.iter().collect::<HashSet<_>>(), runs.iter().collect::<HashSet<_>>());
    assert_ne!(order, runs, "the common file is in another order");
}

#[test]
fn a_seed_is_a_data_set() {
    let places = [1, 1, 2].map(|seed| Workplace::generated(300, seed, false));
    let read = |place: &Workplace, name: &str| fs::read(place.path("raw").join(name)).unwrap();
    for name in places[0].entries("raw") {
        assert!(read(&places[0], &name) == read(&places[1], &name), "{name}");
        assert!(read(&places[0], &name) != read(&places[2], &name), "{name}");
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let place = Workplace::new();
    let config = GenerateConfig::new(place.path("raw"), 10, 1);
    let message = |config: GenerateConfig| match generate(&config).unwrap_err() {
        AliCcpError::Setting(message) => message,
        other => panic!("{other}"),
    };
    assert_eq!(message(GenerateConfig { rows: 0, ..config.clone() }), "--rows 0: it must be at least 1");
    assert_eq!(
        message(GenerateConfig { click_rate: 1.5, ..config.clone() }),
        "--click-rate 1.5: it must be from 0 to 0.9"
    );
    assert_eq!(
        message(GenerateConfig { conversion_rate: 0.5, ..config }),
        "--conversion-rate 0.5: it must not be above the click rate, 0.03887"
    );
    assert!(place.entries("raw").is_empty());
}
