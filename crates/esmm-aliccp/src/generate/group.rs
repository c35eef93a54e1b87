//! Groups: a user at a time, what is known about the user, and how many impressions there are.

use std::sync::OnceLock;

use super::draw::{Stream, latent, mix, share};
use super::space::{Spaces, place};
use crate::field::FIELDS;

/// Standard deviation of the logarithm of a group's activity.
const ACTIVITY_SPREAD: f64 = 0.8;
/// Impressions grow with this power of activity, so that an impression sees 1.19 times as many behaviour values as a
/// group has: exp(0.272 * 0.8^2).
const ACTIVITY_POWER: f64 = 0.272;
/// Behaviour values of a group; with 8.2 other features a common row has 518.
const BEHAVIOUR_VALUES: f64 = 509.8;

/// What the streams of a group are for.
const PROFILE: u64 = 1;
const BEHAVIOUR: u64 = 2;
const ANOMALY: u64 = 3;
/// What is fixed about a user.
const ATTRIBUTE: u64 = 16;

/// One of the two splits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    pub(super) name: &'static str,
    /// Tells the random numbers of the splits apart.
    pub(super) salt: u64,
    /// Impressions of a group on average.
    pub(super) rows_per_group: f64,
}

/// All that is the same for every group.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) spaces: Spaces,
    /// Share of the groups that have something unusual about them.
    pub(super) anomalies: f64,
}

/// A group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) number: u64,
    /// Of the users' ids, from 0.
    pub(super) user: u32,
    activity: f64,
    /// Impressions.
    pub(super) rows: u64,
    pub(super) anomaly: Option<Anomaly>,
}

/// Something unusual that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anomaly {
    /// Nothing is known about the user.
    NoCommonFeatures,
    /// The first impression has no feature.
    NoFeatures,
    /// The common row is there twice.
    RepeatedCommonRow,
    /// The second half of the impressions comes after those of the next group.
    ComesBack,
    /// The first impression has two categories.
    TwoCategories,
}

impl World {
    /// A group by its number.
    pub(super) fn group(&self, split: Split, number: u64) -> Group {
        let mut stream = Stream::new(self.seed, split.salt + PROFILE, number);
        let users = self.spaces.size(place(101, false));
        let user = (stream.uniform().powf(1.5) * f64::from(users)) as u32;
        let activity = (ACTIVITY_SPREAD * stream.normal() - ACTIVITY_SPREAD.powi(2) / 2.0).exp();
        // The mean of activity^p where activity is log-normal with mean 1.
        let mean = (ACTIVITY_POWER * (ACTIVITY_POWER - 1.0) * ACTIVITY_SPREAD.powi(2) / 2.0).exp();
        let rows = split.rows_per_group / mean * activity.powf(ACTIVITY_POWER) * stream.exponential();
        let mut unusual = Stream::new(self.seed, split.salt + ANOMALY, number);
        let anomaly = unusual.happens(self.anomalies).then(|| match (unusual.uniform() * 5.0) as u8 {
            0 => Anomaly::NoCommonFeatures,
            1 => Anomaly::NoFeatures,
            2 => Anomaly::RepeatedCommonRow,
            3 => Anomaly::ComesBack,
            _ => Anomaly::TwoCategories,
        });
        Group { number, user, activity, rows: (rows.round() as u64).max(1), anomaly }
    }

    /// The common index of a group: 16 hexadecimal digits, different for all groups of a split.
    pub(super) fn index(&self, split: Split, group: u64) -> u64 {
        mix(mix(self.seed ^ split.salt).wrapping_add(group))
    }

    /// A value of a field that a user has always, from 0.
    pub(super) fn attribute(&self, user: u32, field: usize) -> u32 {
        let drawn = share(self.seed, ATTRIBUTE + field as u64, u64::from(user));
        (drawn.powf(1.5) * f64::from(self.spaces.size(field))) as u32
    }

    /// Whether a field of a user is missing.
    fn misses(&self, user: u32, field: usize) -> bool {
        let rate = match FIELDS[field].code {
            "101" => 0.0,
            "126" => 0.59,
            _ => 0.03,
        };
        share(self.seed, 2 * ATTRIBUTE + 32 + field as u64, u64::from(user)) < rate
    }

    /// The common row of a group.
    pub(super) fn write_common(&self, split: Split, group: &Group, list: &mut Vec<u8>, out: &mut Vec<u8>) {
        list.clear();
        let mut count = 0;
        if group.anomaly != Some(Anomaly::NoCommonFeatures) {
            count = self.common_features(split, group, list);
        }
        let start = out.len();
        write_hex(self.index(split, group.number), out);
        out.push(b',');
        write_number(count, out);
        out.push(b',');
        out.extend_from_slice(list);
        out.push(b'\n');
        if group.anomaly == Some(Anomaly::RepeatedCommonRow) {
            out.extend_from_within(start..);
        }
    }

    fn common_features(&self, split: Split, group: &Group, list: &mut Vec<u8>) -> u64 {
        let mut count = 0;
        for (number, in_14_days) in
            [101, 121, 122, 124, 125, 126, 127, 128, 129].map(|number| (number, false))
        {
            let field = place(number, in_14_days);
            if self.misses(group.user, field) {
                continue;
            }
            let value = if number == 101 { group.user } else { self.attribute(group.user, field) };
            push_feature(list, field, self.spaces.id(field, value), "1.0");
            count += 1;
        }
        let mut stream = Stream::new(self.seed, split.salt + BEHAVIOUR, group.number);
        for (number, part, missing) in
            [(109, 0.15, 0.01), (110, 0.3, 0.01), (127, 0.28, 0.05), (150, 0.27, 0.02)]
        {
            if stream.happens(missing) {
                continue;
            }
            let values = BEHAVIOUR_VALUES * part / (1.0 - missing) * group.activity;
            count += self.behaviour(&mut stream, place(number, true), values.round().max(1.0) as u32, list);
        }
        count
    }

    /// Different ids in ascending order, as popular as [`Stream::popular`] makes them.
    fn behaviour(&self, stream: &mut Stream, field: usize, values: u32, list: &mut Vec<u8>) -> u64 {
        let ids = self.spaces.size(field);
        let mut next = 0;
        let mut count = 0;
        for value in 0..values {
            let place = (f64::from(value) + stream.uniform()) / f64::from(values);
            let id = next.max((place.powi(3) * f64::from(ids)) as u32);
            if id >= ids {
                break;
            }
            next = id + 1;
            push_feature(list, field, self.spaces.id(field, id), log_count(stream));
            count += 1;
        }
        count
    }

    /// A hidden value of one of the ids of a field; `what` tells apart the values of one id.
    pub(super) fn latent(&self, what: u64, field: usize, id: u32) -> f64 {
        latent(self.seed, what * 64 + field as u64, u64::from(id))
    }
}

/// ln(1 + count) as the files write it; one in ten counts is fractional.
pub(super) fn log_count(stream: &mut Stream) -> &'static str {
    static TEXTS: OnceLock<Vec<String>> = OnceLock::new();
    let texts = TEXTS
        .get_or_init(|| (0..402).map(|halves| five_digits((1.0 + f64::from(halves) / 2.0).ln())).collect());
    let halves = 2 * stream.count() + usize::from(stream.happens(0.1));
    &texts[halves]
}

/// Five significant digits, at least one of them after the point.
fn five_digits(value: f64) -> String {
    let decimals = if value < 1.0 { 5 } else { 4 };
    let text = format!("{value:.decimals$}");
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

pub(super) fn push_feature(list: &mut Vec<u8>, field: usize, id: u32, value: &str) {
    if !list.is_empty() {
        list.push(1);
    }
    list.extend_from_slice(FIELDS[field].code.as_bytes());
    list.push(2);
    write_number(u64::from(id), list);
    list.push(3);
    list.extend_from_slice(value.as_bytes());
}

pub(super) fn write_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = 20;
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

pub(super) fn write_hex(number: u64, out: &mut Vec<u8>) {
    out.extend((0..16).rev().map(|digit| b"0123456789abcdef"[(number >> (4 * digit) & 15) as usize]));
}
