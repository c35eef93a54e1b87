//! Which column names the user.

use crate::column::{Column, Kind};
use crate::words::words;

/// Names of a user's id, the surer ones first.
const USERS: [&str; 16] = [
    "user_id",
    "uid",
    "userid",
    "user",
    "member_id",
    "customer_id",
    "visitor_id",
    "buyer_id",
    "account_id",
    "person_id",
    "member",
    "customer",
    "visitor",
    "cookie_id",
    "device_id",
    "session_id",
];
/// A group of GAUC needs several rows: this many on average.
const ROWS: f64 = 1.5;

/// The column with the user's id, if its values recur.
pub(crate) fn find(columns: &[Column]) -> Option<&Column> {
    let named = |name: &str| columns.iter().find(|column| words(&column.name).join("_") == name);
    USERS.iter().filter_map(|name| named(name)).find(|column| recurs(column))
}

fn recurs(column: &Column) -> bool {
    let stats = &column.stats;
    let is_id =
        matches!(column.kind, Kind::Text | Kind::Number) && (!stats.all_numbers() || stats.numbers.whole);
    is_id && stats.distinct >= 2 && stats.present as f64 >= ROWS * stats.distinct as f64
}
