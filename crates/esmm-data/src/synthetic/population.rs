//! Who and what the funnel is made of: categories, items, segments and users, drawn once from the seed.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::config::SyntheticConfig;
use super::random::{CappedZipf, Purpose, normal, stream, uniform};

/// Dimension of the latent vectors.
const LATENT_DIM: usize = 2;
/// Segments of users, all as large.
pub(super) const SEGMENTS: usize = 8;
/// A user's favourite categories; a category may be there twice.
const FAVOURITES: usize = 4;
/// Zipf exponent of the categories, uncapped.
const CATEGORY_ZIPF: f64 = 0.5;
/// Part of the variance of an item's latent vector that its category explains.
const CATEGORY_VARIANCE: f64 = 0.9;
/// Part of the variance of a user's latent vector that the segment explains.
const SEGMENT_VARIANCE: f64 = 0.9;
/// Mean and standard deviation of the log price of an item.
pub(super) const LOG_PRICE: (f64, f64) = (3.4, 0.6);
/// Mean and standard deviation of a rating, before it is cut to 1..5.
pub(super) const RATING: (f64, f64) = (3.8, 0.6);
/// Mean and standard deviation of an age in years, before it is cut to 18..80.
pub(super) const AGE: (f64, f64) = (38.0, 12.0);

/// Standard deviations of the effects of users, items and categories on the logits.
mod effect {
    pub(super) const USER_CLICK: f64 = 0.12;
    pub(super) const USER_CONVERSION: f64 = 0.08;
    pub(super) const ITEM_CLICK: f64 = 0.25;
    pub(super) const ITEM_CONVERSION: f64 = 0.12;
    pub(super) const CATEGORY_CLICK: f64 = 0.6;
    pub(super) const CATEGORY_CONVERSION: f64 = 0.5;
    pub(super) const HISTORY_CLICK: f64 = 0.9;
    pub(super) const SPEND_CONVERSION: f64 = 0.6;
}

/// A vector with unit variance in each coordinate.
type Latent = [f64; LATENT_DIM];

/// A category of items. Effects are on the logits.
#[derive(Debug, Clone)]
pub(super) struct Category {
    /// `c` and its number.
    pub(super) name: String,
    centre: Latent,
    pub(super) click: f64,
    pub(super) conversion: f64,
    /// On the click logit, of an entry of a user's history.
    pub(super) history: f64,
    /// On the conversion logit, of an entry of weight 1 of a user's spending.
    pub(super) spend: f64,
}

/// An item. Effects are on the logits.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) category: usize,
    pub(super) latent: Latent,
    pub(super) click: f64,
    pub(super) conversion: f64,
    pub(super) log_price: f64,
    pub(super) rating: f64,
}

/// A user. Effects are on the logits.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) segment: usize,
    pub(super) latent: Latent,
    pub(super) click: f64,
    pub(super) conversion: f64,
    pub(super) age: i64,
    /// Chance that each place of the history is filled.
    pub(super) activity: f64,
    pub(super) favourites: [usize; FAVOURITES],
}

/// All of them, and how often each is met.
#[derive(Debug, Clone)]
pub(super) struct Population {
    pub(super) categories: Vec<Category>,
    pub(super) items: Vec<Item>,
    pub(super) users: Vec<User>,
    pub(super) category_popularity: CappedZipf,
    pub(super) item_popularity: CappedZipf,
    pub(super) user_popularity: CappedZipf,
}

impl Population {
    /// Draws a population. `config` is valid.
    pub(super) fn new(config: &SyntheticConfig) -> Self {
        let category_popularity = CappedZipf::new(config.categories, CATEGORY_ZIPF, 1.0);
        let mut rng = stream(config.seed, Purpose::Categories);
        let categories: Vec<Category> = (0..config.categories).map(|i| category(i, &mut rng)).collect();
        let mut rng = stream(config.seed, Purpose::Items);
        let items = (0..config.items).map(|_| item(&categories, &category_popularity, &mut rng));
        let items = items.collect();
        let mut rng = stream(config.seed, Purpose::Users);
        let segments: [Latent; SEGMENTS] = std::array::from_fn(|_| latent(&mut rng));
        let users = (0..config.users).map(|_| user(&segments, &categories, &category_popularity, &mut rng));
        let users = users.collect();
        Self {
            categories,
            items,
            users,
            category_popularity,
            item_popularity: CappedZipf::new(config.items, config.item_zipf, config.head_share),
            user_popularity: CappedZipf::new(config.users, config.user_zipf, config.head_share),
        }
    }
}

/// The affinity of two latent vectors: their dot product, scaled to unit variance.
pub(super) fn affinity(a: &Latent, b: &Latent) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    dot / (LATENT_DIM as f64).sqrt()
}

fn category(index: usize, rng: &mut ChaCha8Rng) -> Category {
    Category {
        name: format!("c{index}"),
        centre: latent(rng),
        click: effect::CATEGORY_CLICK * normal(rng),
        conversion: effect::CATEGORY_CONVERSION * normal(rng),
        history: effect::HISTORY_CLICK * normal(rng),
        spend: effect::SPEND_CONVERSION * normal(rng),
    }
}

fn item(categories: &[Category], popularity: &CappedZipf, rng: &mut ChaCha8Rng) -> Item {
    let category = popularity.sample(rng);
    let latent = around(&categories[category].centre, CATEGORY_VARIANCE, rng);
    let rating = (RATING.0 + RATING.1 * normal(rng)).clamp(1.0, 5.0);
    Item {
        category,
        latent,
        click: effect::ITEM_CLICK * normal(rng),
        conversion: effect::ITEM_CONVERSION * normal(rng),
        log_price: LOG_PRICE.0 + LOG_PRICE.1 * normal(rng),
        rating: (rating * 10.0).round() / 10.0,
    }
}

fn user(
    segments: &[Latent; SEGMENTS],
    categories: &[Category],
    popularity: &CappedZipf,
    rng: &mut ChaCha8Rng,
) -> User {
    let segment = rng.random_range(0..SEGMENTS);
    let latent = around(&segments[segment], SEGMENT_VARIANCE, rng);
    User {
        segment,
        latent,
        click: effect::USER_CLICK * normal(rng),
        conversion: effect::USER_CONVERSION * normal(rng),
        age: (AGE.0 + AGE.1 * normal(rng)).round().clamp(18.0, 80.0) as i64,
        activity: 0.2 + 0.75 * uniform(rng),
        favourites: std::array::from_fn(|_| favourite(&latent, categories, popularity, rng)),
    }
}

/// The one that the user likes best among three categories met by chance.
fn favourite(user: &Latent, categories: &[Category], popularity: &CappedZipf, rng: &mut ChaCha8Rng) -> usize {
    let liking = |category: usize| affinity(user, &categories[category].centre);
    (0..2).fold(popularity.sample(rng), |best, _| {
        let other = popularity.sample(rng);
        if liking(other) > liking(best) { other } else { best }
    })
}

/// A vector whose variance is explained by `centre` to the part `explained`.
fn around(centre: &Latent, explained: f64, rng: &mut ChaCha8Rng) -> Latent {
    centre.map(|centre| explained.sqrt() * centre + (1.0 - explained).sqrt() * normal(rng))
}

fn latent(rng: &mut ChaCha8Rng) -> Latent {
    std::array::from_fn(|_| normal(rng))
}
