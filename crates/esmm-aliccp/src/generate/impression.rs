//! Impressions: an item with its crosses, and whether it is clicked and bought.

use super::draw::{Stream, share};
use super::group::{Anomaly, Group, Split, World, log_count, push_feature, write_hex, write_number};
use super::space::place;

/// What the stream of a group's impressions is for.
const IMPRESSIONS: u64 = 4;
/// What is fixed about an item.
const ITEM: u64 = 128;

/// Shares of impressions with a cross.
const CATEGORY_CROSS: f64 = 0.4;
const SHOP_CROSS: f64 = 0.26;
const BRAND_CROSS: f64 = 0.26;
/// Share of items with a brand.
const BRANDED: f64 = 0.75;

/// Hidden values that clicks depend on, and those that conversions depend on.
const CLICK: u64 = 1;
const CONVERSION: u64 = 2;

/// How clicks and conversions are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// Added to the logit of a click, and of a conversion after a click.
    pub(super) intercepts: [f64; 2],
    /// Conversions without a click.
    pub(super) orphans: f64,
}

/// The impressions of a group, one after another.
#[derive(Debug)]
pub(super) struct Impressions<'a> {
    world: &'a World,
    group: Group,
    stream: Stream,
    index: u64,
}

/// What an impression's labels depend on, but for the intercepts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Logits {
    pub(super) click: f64,
    pub(super) conversion: f64,
}

impl<'a> Impressions<'a> {
    pub(super) fn new(world: &'a World, split: Split, group: Group) -> Self {
        let stream = Stream::new(world.seed, split.salt + IMPRESSIONS, group.number);
        Self { world, group, stream, index: world.index(split, group.number) }
    }

    /// Writes the next impression as a line.
    pub(super) fn write(
        &mut self,
        sample_id: u64,
        row: u64,
        rates: Rates,
        list: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        let (logits, mut count) = self.next(list);
        match self.group.anomaly {
            Some(Anomaly::NoFeatures) if row == 0 => {
                list.clear();
                count = 0;
            }
            Some(Anomaly::TwoCategories) if row == 0 => {
                let category = place(206, false);
                push_feature(list, category, self.world.spaces.id(category, 7), "1.0");
                count += 1;
            }
            _ => {}
        }
        let click = self.stream.happens(sigmoid(logits.click + rates.intercepts[0]));
        let bought = self.stream.happens(sigmoid(logits.conversion + rates.intercepts[1]));
        let orphan = self.stream.happens(rates.orphans);
        write_number(sample_id, out);
        out.push(b',');
        out.push(b'0' + u8::from(click));
        out.push(b',');
        out.push(b'0' + u8::from(if click { bought } else { orphan }));
        out.push(b',');
        write_hex(self.index, out);
        out.push(b',');
        write_number(count, out);
        out.push(b',');
        out.extend_from_slice(list);
        out.push(b'\n');
    }

    /// The next impression's features and their number, and what its labels depend on.
    pub(super) fn next(&mut self, list: &mut Vec<u8>) -> (Logits, u64) {
        list.clear();
        let world = self.world;
        let mut count = 0;
        let mut push = |list: &mut Vec<u8>, field: usize, id: u32, value: &str| {
            push_feature(list, field, world.spaces.id(field, id), value);
            count += 1;
        };
        let [item_field, category_field, shop_field, brand_field] =
            [205, 206, 207, 216].map(|number| place(number, false));
        let item = self.stream.popular(world.spaces.size(item_field));
        let [category, shop, brand] =
            [category_field, shop_field, brand_field].map(|field| property(world, item, field));
        push(list, item_field, item, "1.0");
        push(list, category_field, category, "1.0");
        push(list, shop_field, shop, "1.0");
        let intentions = place(210, false);
        // 1 to 7, as many as the item has: 4 on average.
        let own = 1 + (share(world.seed, ITEM + 60, u64::from(item)) * 7.0) as u32;
        for number in 0..own {
            push(list, intentions, property(world, item.wrapping_mul(8) + number, intentions), "1.0");
        }
        if share(world.seed, ITEM + 61, u64::from(item)) < BRANDED {
            push(list, brand_field, brand, "1.0");
        }
        let mut interest = [0.0; 2];
        let crosses = [(508, category, CATEGORY_CROSS), (509, shop, SHOP_CROSS), (702, brand, BRAND_CROSS)];
        for (place_in, (number, id, rate)) in crosses.into_iter().enumerate() {
            if self.stream.happens(rate) {
                let weight = log_count(&mut self.stream);
                push(list, place(number, false), id, weight);
                let weight: f64 = weight.parse().unwrap_or(0.0);
                interest[usize::from(place_in > 0)] += weight;
            }
        }
        // With a probability of 0.8325 each of the item's intentions: 3.33 on average.
        let affinity = place(853, false);
        for number in 0..own {
            if self.stream.happens(0.8325) {
                let weight = log_count(&mut self.stream);
                push(list, affinity, property(world, item.wrapping_mul(8) + number, intentions), weight);
            }
        }
        let position = self.stream.popular(world.spaces.size(place(301, false)));
        push(list, place(301, false), position, "1.0");
        let user_group = world.attribute(self.group.user, place(122, false));
        let logit = |what: u64, interest: [f64; 2], weights: [f64; 2]| {
            0.5 * world.latent(what, place(101, false), self.group.user)
                + 0.5
                    * world.latent(
                        what,
                        place(121, false),
                        world.attribute(self.group.user, place(121, false)),
                    )
                + 0.5 * world.latent(what, item_field, item)
                + 0.6 * world.latent(what, category_field, category)
                + 0.5 * world.latent(what + 2, category_field, category * 16 + user_group)
                + weights[0] * interest[0]
                + weights[1] * interest[1]
        };
        let logits = Logits {
            click: logit(CLICK, interest, [0.4, 0.3]) - 0.4 * f64::from(position),
            conversion: logit(CONVERSION, interest, [0.2, 0.5]),
        };
        (logits, count)
    }
}

/// A fixed id of another field for an item, from 0.
fn property(world: &World, item: u32, field: usize) -> u32 {
    let drawn = share(world.seed, ITEM + field as u64, u64::from(item));
    (drawn.powi(2) * f64::from(world.spaces.size(field))) as u32
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Intercepts with which impressions are clicked and bought at these rates, found on a sample by bisection.
pub(super) fn intercepts(world: &World, split: Split, click_rate: f64, conversion_rate: f64) -> [f64; 2] {
    const GROUPS: u64 = 4000;
    const EACH: usize = 10;
    let mut list = Vec::new();
    let mut sample = Vec::new();
    for number in 0..GROUPS {
        let mut impressions = Impressions::new(world, split, world.group(split, number));
        sample.extend((0..EACH).map(|_| impressions.next(&mut list).0));
    }
    let mean = |rate: &dyn Fn(&Logits) -> f64| sample.iter().map(rate).sum::<f64>() / sample.len() as f64;
    let click = bisect(|x| mean(&|logits| sigmoid(logits.click + x)), click_rate);
    let bought = |x: f64| mean(&|logits| sigmoid(logits.click + click) * sigmoid(logits.conversion + x));
    [click, bisect(bought, conversion_rate)]
}

/// Where a growing function has a value.
fn bisect(function: impl Fn(f64) -> f64, value: f64) -> f64 {
    let mut low = -40.0;
    let mut high = 40.0;
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if function(middle) < value {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}
