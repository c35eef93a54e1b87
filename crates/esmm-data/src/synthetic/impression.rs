//! One impression after the other: what is seen, and its effects on the two logits.

use std::f64::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::config::SyntheticConfig;
use super::population::{AGE, Item, LOG_PRICE, Population, RATING, User, affinity};
use super::random::{Purpose, normal, stream, uniform};

/// Seconds since 1970 before the first impression: 2024-01-01.
const START: i64 = 1_704_067_200;
/// Mean of the exponential part of the seconds between impressions; one second is added.
const MEAN_GAP: f64 = 59.0;
/// Longest history.
pub(super) const MAX_HISTORY: usize = 8;
/// Most categories in a user's spending.
pub(super) const MAX_SPEND: usize = 4;
/// Chance that an entry of a bag is one of the user's favourites; else popularity decides.
const FAVOURITE_CHANCE: f64 = 0.7;
/// Standard deviation of the log of an impression's discount or mark-up.
const LOG_DISCOUNT: f64 = 0.3;
/// Positions on the page.
pub(super) const POSITIONS: i64 = 10;
/// Values of the noise column.
pub(super) const CAMPAIGNS: i64 = 10;

/// Effects on the logits, of one standard deviation where nothing else is said.
mod effect {
    /// On the click, for each position further down.
    pub(super) const POSITION_CLICK: f64 = -0.18;
    /// On the click, amplitude of the daily wave, which peaks at 20 hours.
    pub(super) const HOUR_CLICK: f64 = 0.5;
    pub(super) const AGE_CLICK: f64 = -0.4;
    pub(super) const PRICE_CONVERSION: f64 = -0.9;
    pub(super) const RATING_CONVERSION: f64 = 0.5;
}

/// A user's spending in one category.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spend {
    pub(super) category: usize,
    /// 0.05 to 1, two decimals.
    pub(super) weight: f32,
}

/// What is seen of an impression.
#[derive(Debug, Clone)]
pub(super) struct Impression {
    pub(super) time: i64,
    pub(super) user: usize,
    pub(super) item: usize,
    pub(super) history: Vec<usize>,
    pub(super) spend: Vec<Spend>,
    pub(super) price: f64,
    pub(super) position: i64,
    pub(super) campaign: i64,
}

/// Logits of the two stages without their intercepts and without the hidden variable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effects {
    pub(super) click: f64,
    pub(super) conversion: f64,
}

impl Impression {
    /// Hour of the day, 0 to 23.
    pub(super) fn hour(&self) -> i64 {
        self.time / 3600 % 24
    }

    /// The effects of everything seen; `strength` is that of the affinity.
    pub(super) fn effects(&self, population: &Population, strength: f64) -> Effects {
        let user = &population.users[self.user];
        let item = &population.items[self.item];
        let category = &population.categories[item.category];
        let shared = strength * affinity(&user.latent, &item.latent);
        Effects {
            click: shared + user.click + item.click + category.click + self.click_effects(user, population),
            conversion: shared
                + user.conversion
                + item.conversion
                + category.conversion
                + self.conversion_effects(item, population),
        }
    }

    fn click_effects(&self, user: &User, population: &Population) -> f64 {
        let history = self.history.iter().map(|&c| population.categories[c].history);
        let history = history.sum::<f64>() / self.history.len().max(1) as f64;
        let wave = (TAU * (self.hour() - 20) as f64 / 24.0).cos();
        history
            + effect::HOUR_CLICK * wave
            + effect::POSITION_CLICK * (self.position - 1) as f64
            + effect::AGE_CLICK * (user.age as f64 - AGE.0) / AGE.1
    }

    fn conversion_effects(&self, item: &Item, population: &Population) -> f64 {
        let effect_of = |entry: &Spend| f64::from(entry.weight) * population.categories[entry.category].spend;
        let log_price = (self.price.ln() - LOG_PRICE.0) / LOG_PRICE.1.hypot(LOG_DISCOUNT);
        self.spend.iter().map(effect_of).sum::<f64>()
            + effect::PRICE_CONVERSION * log_price
            + effect::RATING_CONVERSION * (item.rating - RATING.0) / RATING.1
    }
}

/// An endless stream of impressions in the order of time.
#[derive(Debug, Clone)]
pub(super) struct Impressions {
    rng: ChaCha8Rng,
    time: i64,
}

impl Impressions {
    /// The stream of a seed for one purpose.
    pub(super) fn new(config: &SyntheticConfig, purpose: Purpose) -> Self {
        Self { rng: stream(config.seed, purpose), time: START }
    }

    /// The next impression.
    pub(super) fn draw(&mut self, population: &Population) -> Impression {
        let rng = &mut self.rng;
        self.time += 1 + (-MEAN_GAP * (1.0 - uniform(rng)).ln()) as i64;
        let user = population.user_popularity.sample(rng);
        let item = population.item_popularity.sample(rng);
        let log_price = population.items[item].log_price + LOG_DISCOUNT * normal(rng);
        Impression {
            time: self.time,
            user,
            item,
            history: history(population, user, rng),
            spend: spend(population, user, rng),
            price: ((log_price.exp() * 100.0).round() / 100.0).max(0.01),
            position: rng.random_range(1..=POSITIONS),
            campaign: rng.random_range(0..CAMPAIGNS),
        }
    }

    /// A value of the hidden variable, N(0, 1).
    pub(super) fn hidden(&mut self) -> f64 {
        normal(&mut self.rng)
    }

    /// A label, true with the probability `sigmoid(logit)`. Always takes one number from the stream.
    pub(super) fn label(&mut self, logit: f64) -> bool {
        uniform(&mut self.rng) < 1.0 / (1.0 + (-logit).exp())
    }
}

fn history(population: &Population, user: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let activity = population.users[user].activity;
    let len = (0..MAX_HISTORY).filter(|_| uniform(rng) < activity).count();
    (0..len).map(|_| bag_entry(population, user, rng)).collect()
}

/// Up to [`MAX_SPEND`] different categories.
fn spend(population: &Population, user: usize, rng: &mut ChaCha8Rng) -> Vec<Spend> {
    let mut spend: Vec<Spend> = Vec::with_capacity(MAX_SPEND);
    for _ in 0..rng.random_range(0..=MAX_SPEND) {
        let category = bag_entry(population, user, rng);
        let weight = rng.random_range(5..=100_u8);
        if spend.iter().all(|entry| entry.category != category) {
            let weight = f32::from(weight) / 100.0;
            spend.push(Spend { category, weight });
        }
    }
    spend
}

fn bag_entry(population: &Population, user: usize, rng: &mut ChaCha8Rng) -> usize {
    if uniform(rng) < FAVOURITE_CHANCE {
        let favourites = &population.users[user].favourites;
        return favourites[rng.random_range(0..favourites.len())];
    }
    population.category_popularity.sample(rng)
}
