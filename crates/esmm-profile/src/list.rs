//! Lists in text: `a|b|c`, with weights `a:0.7|b:0.3`.

use std::collections::HashSet;

use esmm_data::printed_list;

use crate::stats::Stats;

/// Between items, the most usual first.
const SEPARATORS: [char; 4] = ['|', ';', ',', ' '];
/// Between an item and its weight.
const WEIGHTS: [char; 3] = [':', '=', '@'];
/// A column is one of lists when at least so many of its cells have several items.
const SHARE: f64 = 0.05;

/// How the cells of a column hold lists.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ListForm {
    /// Between items.
    pub(crate) separator: char,
    /// Between an item and its weight, where all items have one.
    pub(crate) weight: Option<char>,
    /// Counts of the items, without their weights.
    pub(crate) items: Stats,
    /// Share of the cells with several items.
    pub(crate) several: f64,
}

impl ListForm {
    /// The form of a column of text, if its cells are lists: items recur in other cells, as whole cells do not.
    pub(crate) fn find<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> Option<Self> {
        let cells: Vec<&str> = cells.flatten().collect();
        SEPARATORS.into_iter().find_map(|separator| Self::with(&cells, separator))
    }

    fn with(cells: &[&str], separator: char) -> Option<Self> {
        let lists: Vec<&str> = cells.iter().copied().filter(|cell| cell.contains(separator)).collect();
        let several = lists.len() as f64 / cells.len().max(1) as f64;
        if lists.len() < 2 || several < SHARE {
            return None;
        }
        let items = || lists.iter().flat_map(|cell| cell.split(separator));
        let fits = |item: &str| {
            item.trim() == item && item.len() <= 64 && (separator != ' ' || item.parse::<i64>().is_ok())
        };
        let empty = items().filter(|item| item.is_empty()).count();
        if !items().all(fits) || empty * 100 > lists.len() || is_decimal_comma(&lists, separator) {
            return None;
        }
        let weight = WEIGHTS.into_iter().find(|weight| items().all(|item| is_weighted(item, *weight)));
        let bare = |item| weight.map_or(item, |weight| bare(item, weight));
        let distinct = |values: &mut dyn Iterator<Item = &str>| values.collect::<HashSet<_>>().len();
        // Cells that are made of few items in many ways.
        if distinct(&mut items().map(bare)) >= distinct(&mut lists.iter().copied()) {
            return None;
        }
        let all = cells.iter().flat_map(|cell| cell.split(separator)).map(bare);
        let items = Stats::of(all.map(|item| Some(item).filter(|item| !item.is_empty())));
        Some(Self { separator, weight, items, several })
    }
}

fn is_weighted(item: &str, weight: char) -> bool {
    let parts = item.rsplit_once(weight);
    parts.is_some_and(|(id, weight)| {
        !id.is_empty() && weight.parse::<f64>().is_ok_and(|weight| weight >= 0.0 && weight.is_finite())
    })
}

fn bare(item: &str, weight: char) -> &str {
    item.rsplit_once(weight).map_or(item, |(id, _)| id)
}

/// `1,5` is a number and no list.
pub(crate) fn is_decimal_comma(cells: &[&str], separator: char) -> bool {
    let is_number = |cell: &&str| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let unsigned = cell.trim_start_matches('-');
        unsigned.split_once(',').is_some_and(|(whole, rest)| digits(whole) && digits(rest))
    };
    separator == ',' && cells.iter().all(is_number)
}

/// Lists as programs print them, as `a|b|c`; `None` where one is nested, was cut short, has weights, or holds a `|`.
pub(crate) fn without_print<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> Option<Vec<Option<String>>> {
    let plain = |cell: Option<&str>| {
        let Some(cell) = cell else { return Some(None) };
        let items = printed_list(cell)?;
        let is_safe = !items.iter().any(|item| item.contains('|'));
        is_safe.then(|| Some(items.join("|")))
    };
    cells.map(plain).collect()
}

/// Whether all cells are lists as programs print them: `[1, 2]`, `{"a": 1}`.
pub(crate) fn is_printed<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> bool {
    let enclosed =
        |cell: &str| [('[', ']'), ('{', '}')].iter().any(|(a, b)| cell.starts_with(*a) && cell.ends_with(*b));
    let mut cells = cells.flatten().peekable();
    cells.peek().is_some() && cells.all(enclosed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(cells: &[&str]) -> Option<(char, Option<char>, usize)> {
        let form = ListForm::find(cells.iter().map(|cell| Some(*cell)))?;
        Some((form.separator, form.weight, form.items.distinct))
    }

    #[test]
    fn lists_have_items_that_recur() {
        assert_eq!(form(&["a|b", "b|c", "c|a", "b|a", "a"]), Some(('|', None, 3)));
        assert_eq!(form(&["a;b", "b;a", "b", "a;a", "a;b;a"]), Some((';', None, 2)));
        assert_eq!(form(&["1 2", "2 3", "3 1", "1 3 2"]), Some((' ', None, 3)));
        assert_eq!(form(&["a:0.5|b:1", "b:0.25", "b:2|a:3", "a:1|b:7"]), Some(('|', Some(':'), 2)));
    }

    #[test]
    fn printed_lists_are_lists() {
        let plain = |cells: &[&str]| without_print(cells.iter().map(|cell| Some(*cell)).chain([None]));
        let cells = plain(&["[1, 2]", "['2', '3']", "[3 1]", "[]", "{1,3,2}"]).unwrap();
        let cells: Vec<Option<&str>> = cells.iter().map(Option::as_deref).collect();
        assert_eq!(cells, [Some("1|2"), Some("2|3"), Some("3|1"), Some(""), Some("1|3|2"), None]);
        let form = ListForm::find(cells.into_iter()).unwrap();
        assert_eq!((form.separator, form.weight, form.items.distinct), ('|', None, 3));
        for odd in ["[[1], [2]]", "[1, ...]", "{'a': 0.5}", "['a|b']", "a|b"] {
            assert_eq!(plain(&["[1, 2]", odd]), None, "{odd}");
        }
    }

    #[test]
    fn sentences_numbers_and_single_values_are_no_lists() {
        for cells in [
            &["1) $0 - $100", "2) $100 - $200", "7) $1,000 +"][..],
            &["Paris, France", "Nice, France", "Lyon, France", "Paris, Texas"],
            &["1,5", "2,5", "1,2", "5,1"],
            &["a|b", "c|d", "e|f"],
            &["red shoes", "blue shoes", "red hat", "blue hat", "shoes hat"],
        ] {
            assert_eq!(form(cells), None, "{cells:?}");
        }
        assert!(is_printed([Some("[1, 2]"), None].into_iter()) && !is_printed([Some("[1]|2")].into_iter()));
    }
}
