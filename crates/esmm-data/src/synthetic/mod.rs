//! A synthetic funnel with a known truth: impressions, clicks, conversions and the rates they were drawn from.
//!
//! Each impression has a click logit `a` and a conversion logit `b`, sums of effects of what can be seen, and a
//! hidden `h ~ N(0, 1)` that enters both with strength `g` ([`SyntheticConfig::confounding`]). With `s` = sigmoid,
//!
//! ```text
//! click      ~ Bernoulli(s(a + g h))              conversion, if clicked ~ Bernoulli(s(b + g h))
//! true_ctr   = E_h[s(a + g h)]                    true_ctcvr = E_h[s(a + g h) s(b + g h)]
//! true_cvr   = E_h[s(b + g h)]                    over the entire space: as if every impression were clicked
//! ```
//!
//! `true_ctcvr` is the rate of eq. 1 of arXiv 1804.07931. Among clicked rows the conversion rate is
//! `true_ctcvr / true_ctr`; it is above `true_cvr` when `g > 0`, because clicks select a high `h`. That is the sample
//! selection bias of section 2.2 there: a CVR model that sees clicked rows only learns the first of the two.
//!
//! | column | Arrow type | drives | what it is |
//! | --- | --- | --- | --- |
//! | `impression_id` | Int64 | - | 0, 1, 2, ... |
//! | `time` | Int64 | - | seconds since 1970, strictly increasing, one impression a minute on average |
//! | `user_id` | Int64 | both | 0 is the most frequent user |
//! | `segment` | Int64 | both | 0 to 7, of the user: explains most of the user's taste |
//! | `age` | Int64 | click | years, 18 to 80, of the user |
//! | `user_history` | List\<Utf8\> | click | 0 to 8 recent categories; their mean counts |
//! | `user_spend` | List\<Struct\<id: Utf8, weight: Float32\>\> | conversion | 0 to 4 categories, weights 0.05 to 1; their weighted sum counts |
//! | `item_id` | Int64 | both | 0 is the most frequent item |
//! | `category` | Utf8 | both | of the item: `c0`, `c1`, ... |
//! | `price` | Float64 | conversion | log-normal, two decimals |
//! | `rating` | Float64 | conversion | of the item, 1 to 5 |
//! | `hour` | Int64 | click | 0 to 23, the hour of `time` |
//! | `position` | Int64 | click | 1 (top) to 10 |
//! | `campaign` | Int64 | nothing | 0 to 9, noise |
//! | `click`, `conversion` | Int64 | - | labels, 0 or 1 |
//! | `true_ctr`, `true_cvr`, `true_ctcvr` | Float64 | - | the rates above |
//!
//! In CSV the lists are `c1|c5|c9` and `c1:0.7|c5:0.35`.

mod batch;
mod config;
mod error;
mod funnel;
mod impression;
mod intercept;
mod outcome;
mod population;
mod quadrature;
mod random;
#[cfg(test)]
mod tests;
mod write;

pub use config::SyntheticConfig;
pub use error::SyntheticError;
pub use funnel::{CHUNK_ROWS, SyntheticFunnel};
pub use write::{write_csv, write_parquet};
