//! Files in Ali-CCP's raw format with its statistics, of any size, from a seed.
//!
//! | what | official | here |
//! | --- | --- | --- |
//! | impressions a group | 57.9 in train, 48.6 in test | the same on average; more where the user is more active |
//! | features of a common row, of a skeleton row | 518, 13 | the same on average |
//! | ids of a field | up to 3,078,306 (205) | the same at 42,300,135 rows; with fewer rows less of the large ones |
//! | missing | 126: 59% of users; 509, 702: 74% of rows | the same; other rates are made up |
//! | clicks, conversions | 3.887%, 0.0214% of impressions | the same, or as asked for |
//! | conversions without a click | 230 in 42,300,135 rows | the same |
//!
//! Ids are unique over fields, values of behaviour fields are ln(1 + count), and the common file is in another order than
//! the skeleton. Whether an impression is clicked depends on hidden values of its user, item, category and position, on
//! the user's group with the category, and on the weights of the crosses; whether a click converts depends on others of
//! these. So there is something to learn, and what can be learned does not depend on the number of rows.
//!
//! Everything about a group follows from the seed and its number. So blocks of groups are made on all cores, memory is
//! constant, and the files do not depend on the number of threads.

mod config;
mod draw;
mod group;
mod impression;
mod raw_file;
mod space;
mod write;

pub use config::{GenerateConfig, GenerateReport};
pub use write::generate;
