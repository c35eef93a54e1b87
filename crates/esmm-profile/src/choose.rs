//! From a column to a feature: how its values become ids or numbers, and why.

use esmm_data::quoted;

use crate::column::{Column, Kind};
use crate::feature::{BagGuess, Choice, Encoding, FeatureGuess, LeftOut};
use crate::list::{self, ListForm};
use crate::stats::Stats;
use crate::words;
use crate::worth::Worth;
use esmm_run::wording::{grouped, percent};

/// Whole numbers with at most so many distinct values are ids.
const FEW_IDS: usize = 32;
/// A vocabulary of more values than this leaves out rare ones: their rows of the table would be learned by heart.
const LARGE: u64 = 1000;
/// A value of a large vocabulary is known from so many rows on ...
const ENOUGH_ROWS: u64 = 5;
/// ... or from so many, where most have fewer.
const TWO_ROWS: u64 = 2;
/// Numbers of which more than this share is missing, and none is below 1, are ids: zero would be a value.
const OFTEN_MISSING: f64 = 0.05;
/// So many whole numbers without a gap from 0 or 1 on are likely a numbering.
const LONG_NUMBERING: usize = 100;
/// Bins of a number.
const BINS: usize = 16;
/// More values than this are hashed: a vocabulary of them would be large and slow to make.
const VERY_LARGE: u64 = 2_000_000;
/// Buckets of a hash at most: 8 million rows of 16 values with Adam's state take 1.5 GiB.
const MOST_BUCKETS: u64 = 1 << 23;
/// Rows from which it means something that each has another value.
const UNIQUE_ROWS: usize = 50;
/// Numbers that are skewed to the right by more than this.
const SKEWED: f64 = 1.0;
/// Mean bytes of a text that is prose and no value.
const PROSE: usize = 40;

/// What is known about all rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// Rows of the files, about.
    pub(crate) total: u64,
    /// Whether every row was looked at.
    pub(crate) whole: bool,
}

/// Makes something of a column that is neither label nor time. `clicks` are those of the rows that were looked at.
pub(crate) fn choose(column: &Column, rows: Rows, clicks: &[bool]) -> Choice {
    let stats = &column.stats;
    let out = |kind, why: String| leave_out(column, kind, why, false);
    if let Kind::Other(kind) = &column.kind {
        return out("types that no feature takes", format!("is of the type {kind}, which no feature takes"));
    }
    if stats.present == 0 {
        return out("without values", "has no value".to_owned());
    }
    if matches!(column.kind, Kind::List | Kind::Pairs) {
        return choose_list(column, None, rows);
    }
    if stats.distinct == 1 && stats.missing() == 0 {
        let value = stats.top.as_ref().map_or_else(String::new, |(value, _)| quoted(value));
        return out("constant", format!("has the same value in every row ({value})"));
    }
    if stats.all_numbers() && column.kind != Kind::Flag {
        return choose_numbers(column, rows, clicks);
    }
    choose_text(column, rows)
}

fn choose_numbers(column: &Column, rows: Rows, clicks: &[bool]) -> Choice {
    let stats = &column.stats;
    let name = &column.name;
    let id_name = words::sounds_like_id(name);
    let is_name = id_name || stats.numbers.is_numbering(stats.distinct);
    let every_row = stats.is_unique() && stats.missing() == 0 && stats.present >= UNIQUE_ROWS;
    if every_row && stats.numbers.whole && is_name {
        return unique(column, rows);
    }
    let few = stats.distinct <= FEW_IDS && !words::sounds_like_count(name);
    if stats.numbers.whole && (id_name || few) {
        return ids(column, stats, None, rows, String::new(), None);
    }
    // Numbers of six digits and more that come in no order of magnitude are codes.
    let looks_like_code =
        stats.numbers.whole && stats.numbers.min >= 1e5 && stats.numbers.skewness.abs() < SKEWED;
    if looks_like_code && !words::sounds_like_count(name) {
        let unsure = "whole numbers of six digits and more, taken for ids; a quantity would be \
                      encode = \"standardize\"";
        return ids(column, stats, None, rows, String::new(), Some(unsure.to_owned()));
    }
    if !stats.numbers.whole || few || words::sounds_like_count(name) {
        return numbers(column, rows, None);
    }
    ids_or_quantity(column, rows, clicks)
}

/// Whole numbers whose name tells neither.
fn ids_or_quantity(column: &Column, rows: Rows, clicks: &[bool]) -> Choice {
    let stats = &column.stats;
    let as_ids =
        |before: &str, unsure: Option<String>| ids(column, stats, None, rows, format!("{before}; "), unsure);
    if words::is_digits(&column.name) {
        return as_ids("its name is a number, as ids have", None);
    }
    let worth = Worth::of(column, clicks);
    if stats.missing() as f64 > OFTEN_MISSING * stats.rows as f64 && stats.numbers.min >= 1.0 {
        // An id of which nothing is known is left empty, a quantity mostly is 0; but not where the clicks say otherwise.
        if let Some(worth) = worth.filter(|worth| worth.is_quantity()) {
            let unsure = format!(
                "often missing as ids are, taken for a quantity, as {worth}; ids would have no `encode`"
            );
            return numbers(column, rows, Some(unsure));
        }
        let unsure = "whole numbers from 1 on that are often missing, taken for ids; a quantity would be encode = \"ple\"";
        return as_ids("never below 1 and often missing", Some(unsure.to_owned()));
    }
    if let Some(worth) = worth.filter(|worth| worth.is_ids()) {
        let unsure = format!("taken for ids, as {worth}; a quantity would be encode = \"ple\"");
        return as_ids("rates jump from value to value", worth.is_close().then_some(unsure));
    }
    if stats.distinct > LONG_NUMBERING && stats.numbers.has_no_gap(stats.distinct) {
        let unsure = "whole numbers without a gap, taken for ids; a quantity would be encode = \"ple\"";
        return as_ids("a numbering without a gap", Some(unsure.to_owned()));
    }
    let unsure = worth.and_then(|worth| {
        if worth.is_blind {
            let text = "taken for a quantity, but the rows of a value stand together, so the clicks cannot tell; ids \
                        would have no `encode`";
            return Some(text.to_owned());
        }
        let close = || format!("taken for a quantity though {worth}; ids would have no `encode`");
        worth.is_close().then(close)
    });
    numbers(column, rows, unsure)
}

fn numbers(column: &Column, rows: Rows, unsure: Option<String>) -> Choice {
    let stats = &column.stats;
    let numbers = &column.stats.numbers;
    let min = short(numbers.min);
    let max = short(numbers.max);
    let missing = (stats.missing() > 0 || !rows.whole).then_some(numbers.median);
    let bins = BINS.min(stats.distinct.saturating_sub(1)).max(1);
    let encoding = Encoding::Ple { bins, missing };
    let right = numbers.min >= 0.0 && numbers.skewness > SKEWED;
    let alternative = if right { "or encode = \"log1p\"" } else { "or encode = \"standardize\"" };
    let mut why = format!("numbers from {min} to {max}");
    why.push_str(&missing_text(stats));
    if missing.is_some() {
        why.push_str(match stats.missing() {
            0 => "; missing: the median, should one be",
            _ => "; missing: the median",
        });
    }
    Choice::Feature(Box::new(feature(column, encoding, why, Some(alternative.to_owned()), unsure)))
}

fn choose_text(column: &Column, rows: Rows) -> Choice {
    let stats = &column.stats;
    if column.kind == Kind::Time || stats.dates == stats.present {
        if let Some(odd) = &stats.no_moment {
            let why = format!(
                "holds dates that are not read, as {}: write them as 2024-01-31 10:00 to divide the rows by them",
                quoted(odd)
            );
            return leave_out(column, "dates", why, true);
        }
        let why = "is a date: make a number of it to use it".to_owned();
        return leave_out(column, "dates", why, false);
    }
    if list::is_printed(column.cells()) {
        let plain = list::without_print(column.cells());
        let form = plain.and_then(|cells| ListForm::find(cells.iter().map(Option::as_deref)));
        if let Some(form) = form.filter(|form| form.separator == '|' && form.weight.is_none()) {
            return choose_list(column, Some(form), rows);
        }
        let why = "holds lists as a program prints them: write them as a|b|c".to_owned();
        return leave_out(column, "printed lists", why, true);
    }
    if let Some(form) = ListForm::find(column.cells()) {
        return choose_list(column, Some(form), rows);
    }
    let numbers = stats.numbers.count as f64 / stats.present as f64;
    if numbers > 0.9 && stats.distinct > FEW_IDS && !stats.numbers.whole {
        let odd = stats.no_number.as_deref().map_or_else(String::new, quoted);
        let why = format!("holds numbers, but {odd} in some rows: leave the cell empty there to use it");
        return leave_out(column, "numbers with texts among them", why, true);
    }
    let commas: Vec<&str> = column.cells().flatten().collect();
    if list::is_decimal_comma(&commas, ',') {
        let why = "holds numbers with a decimal comma: say data.decimal = \",\" to use it".to_owned();
        return leave_out(column, "decimal commas", why, true);
    }
    if stats.bytes / stats.present > PROSE && 2 * stats.distinct > stats.present {
        return leave_out(column, "prose", "holds long texts that hardly recur".to_owned(), false);
    }
    if stats.is_unique() && stats.present >= UNIQUE_ROWS {
        return unique(column, rows);
    }
    ids(column, stats, None, rows, String::new(), None)
}

fn choose_list(column: &Column, form: Option<ListForm>, rows: Rows) -> Choice {
    let items = form.as_ref().map_or(&column.stats, |form| &form.items);
    if column.kind == Kind::List && items.all_numbers() && !items.numbers.whole {
        let why = "holds lists of reals, which no feature takes".to_owned();
        return leave_out(column, "lists of reals", why, true);
    }
    let (weighted, several) = match &form {
        Some(form) => {
            let weights = if form.weight.is_some() { " with weights" } else { "" };
            (form.weight.is_some(), format!("lists{weights} in {} of the rows", percent(form.several)))
        }
        None if column.kind == Kind::Pairs => (true, "lists with weights".to_owned()),
        None => (false, "lists".to_owned()),
    };
    let unsure = form.as_ref().filter(|form| form.separator != '|').map(|form| {
        let separator = form.separator;
        format!("taken for lists, as {separator:?} stands between values that recur; without `pooling` each cell is one id")
    });
    let bag = BagGuess { form: form.clone(), weighted, weights_column: None, shares: None };
    ids(column, items, Some(bag), rows, format!("{several}; "), unsure)
}

/// Ids by vocabulary, or hashed where there are very many.
fn ids(
    column: &Column,
    stats: &Stats,
    bag: Option<BagGuess>,
    rows: Rows,
    before: String,
    unsure: Option<String>,
) -> Choice {
    // Items of lists grow with the rows as single values do.
    let scale = stats.rows as f64 / column.stats.rows.max(1) as f64;
    let all = stats.estimated_distinct((rows.total as f64 * scale.max(1.0)) as u64);
    let mut why = format!("{before}{} ids", grouped(stats.distinct as u64));
    if !rows.whole && all > stats.distinct as u64 {
        why.push_str(&format!(" (about {} in all rows)", rounded(all)));
    }
    if stats.singles > 0 && stats.distinct > FEW_IDS {
        why.push_str(&format!(", {} seen once", percent(stats.singles as f64 / stats.distinct as f64)));
    }
    if bag.is_none() {
        why.push_str(&missing_text(&column.stats));
    }
    let buckets = all.max(16).next_power_of_two().min(MOST_BUCKETS);
    let (encoding, alternative) = match all {
        few if few <= LARGE => (Encoding::Vocabulary { min_count: 1 }, None),
        many if many <= VERY_LARGE => {
            let mean = stats.present as u64 / stats.distinct.max(1) as u64;
            let min_count = if mean >= ENOUGH_ROWS { ENOUGH_ROWS } else { TWO_ROWS };
            let hash = format!("or encode = \"hash\", buckets = {buckets}");
            (Encoding::Vocabulary { min_count }, Some(hash))
        }
        _ => (Encoding::Hash { buckets }, Some("or min_count = 2 without encode".to_owned())),
    };
    let number = column.lengths.is_none() && bag.is_none() && stats.all_whole() && stats.distinct > 2;
    let number = number && !words::sounds_like_id(&column.name);
    let alternative = alternative.or_else(|| number.then(|| "or encode = \"ple\"".to_owned()));
    let guess = feature(column, encoding, why, alternative, unsure);
    Choice::Feature(Box::new(FeatureGuess { bag, ids: all, ..guess }))
}

fn unique(column: &Column, rows: Rows) -> Choice {
    let seen = if rows.whole { "in every row" } else { "in every row that was looked at" };
    let why = format!("has another value {seen}: nothing can be learned about one");
    leave_out(column, "another value in every row", why, !rows.whole)
}

fn leave_out(column: &Column, kind: &'static str, why: String, unsure: bool) -> Choice {
    Choice::LeaveOut(LeftOut { column: column.name.clone(), kind, why, unsure })
}

/// A feature of one value a row, without ids.
fn feature(
    column: &Column,
    encoding: Encoding,
    why: String,
    alternative: Option<String>,
    unsure: Option<String>,
) -> FeatureGuess {
    let side = words::side(&column.name);
    let column = column.name.clone();
    FeatureGuess { column, side, encoding, bag: None, ids: 0, why, alternative, unsure }
}

fn missing_text(stats: &Stats) -> String {
    match stats.missing() {
        0 => String::new(),
        missing => format!(", {} missing", percent(missing as f64 / stats.rows as f64)),
    }
}

/// Two digits of an estimate.
fn rounded(number: u64) -> String {
    let scale = 10_u64.pow(number.max(1).ilog10().saturating_sub(1));
    grouped((number + scale / 2) / scale * scale)
}

/// A number in few digits.
fn short(number: f64) -> String {
    match number.abs() {
        large if large >= 1e7 => format!("{number:.2e}"),
        _ if number.fract() == 0.0 => format!("{number}"),
        large if large >= 100.0 => format!("{number:.1}"),
        small if small >= 0.01 => {
            format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{number:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_have_two_digits() {
        for (number, text) in [(7, "7"), (99, "99"), (1234, "1,200"), (1_987_654, "2,000,000")] {
            assert_eq!(rounded(number), text);
        }
        assert_eq!(
            [1.950, 0.0, 1234.56, 0.1234, 3e-5, 12345678.0].map(short),
            ["1.95", "0", "1234.6", "0.123", "3.0e-5", "1.23e7"]
        );
    }
}
