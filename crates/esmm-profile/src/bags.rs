//! Columns of lists beside the others: one way of writing them, weights in a column of their own, shared tables.

use std::collections::{BTreeMap, HashSet};

use crate::column::{Column, Kind};
use crate::feature::{FeatureGuess, LeftOut};
use crate::guesses::Guesses;
use crate::list::ListForm;

/// Share of the items that are values of the other column.
const SHARE: f64 = 0.95;
/// Distinct values of the other column, at least: fewer meet by accident.
const DISTINCT: usize = 5;
/// Columns whose tables a column of lists could share: at most so many are compared.
const CANDIDATES: usize = 50;

impl Guesses {
    /// One separator holds for all lists in text: the most common one. Lists that are written otherwise are left out.
    pub(crate) fn settle_lists(&mut self) {
        let forms: Vec<(char, Option<char>)> = self
            .features
            .iter()
            .filter_map(|feature| feature.bag.as_ref()?.form.as_ref())
            .map(|form| (form.separator, form.weight))
            .collect();
        let separator = most_common(forms.iter().map(|(separator, _)| *separator));
        let Some(separator) = separator else { return };
        let weights = forms.iter().filter(|(other, _)| *other == separator).filter_map(|(_, weight)| *weight);
        let weight = most_common(weights);
        self.lists = Some((separator, weight));
        let fits = |feature: &FeatureGuess| {
            let form = feature.bag.as_ref().and_then(|bag| bag.form.as_ref());
            form.is_none_or(|form| {
                form.separator == separator && (form.weight.is_none() || form.weight == weight)
            })
        };
        let (kept, others) = std::mem::take(&mut self.features).into_iter().partition(fits);
        self.features = kept;
        for other in others {
            let why =
                format!("its lists are not written as those of other columns ({separator:?} between items)");
            self.left_out.push(LeftOut {
                column: other.column,
                kind: "lists of another form",
                why,
                unsure: true,
            });
        }
    }

    /// Columns of lists of numbers that are named as the weights of another one, and as long in every row.
    pub(crate) fn pair_weights(&mut self, columns: &[Column]) {
        let of = |name: &str| columns.iter().find(|column| column.name == name);
        for feature in &mut self.features {
            let Some(bag) = feature.bag.as_mut().filter(|bag| bag.form.is_none() && !bag.weighted) else {
                continue;
            };
            let stems = [feature.column.as_str(), feature.column.trim_end_matches('s')];
            let endings = ["_weights", "_weight", "_scores", "_score"];
            let names = stems.iter().flat_map(|stem| endings.map(|ending| format!("{stem}{ending}")));
            let lengths = of(&feature.column).and_then(|column| column.lengths.as_ref());
            let fits = |column: &&Column| {
                let numbers = &column.stats.numbers;
                column.kind == Kind::List
                    && column.stats.all_numbers()
                    && numbers.min >= 0.0
                    && column.lengths.as_ref() == lengths
            };
            if let Some(column) = names.filter_map(|name| of(&name)).find(fits) {
                (bag.weighted, bag.weights_column) = (true, Some(column.name.clone()));
                feature.why.push_str(&format!(", weights in `{}`", column.name));
            }
        }
        let paired: Vec<String> = self.features.iter().filter_map(weights_column).collect();
        self.features.retain(|feature| !paired.contains(&feature.column));
        self.left_out.retain(|left_out| !paired.contains(&left_out.column));
    }

    pub(crate) fn share_tables(&mut self, columns: &[Column]) {
        let of = |name: &str| columns.iter().find(|column| column.name == name);
        let is_single = |feature: &&FeatureGuess| feature.bag.is_none() && feature.encoding.is_vocabulary();
        let singles: Vec<&Column> = self
            .features
            .iter()
            .filter(is_single)
            .filter_map(|feature| of(&feature.column))
            .take(CANDIDATES)
            .collect();
        for feature in &mut self.features {
            let Some(bag) = feature.bag.as_mut() else { continue };
            let owner =
                of(&feature.column).and_then(|list| owner(list, bag.form.as_ref(), singles.iter().copied()));
            if let Some(owner) = owner {
                bag.shares = Some(owner.name.clone());
                feature.why.push_str(&format!(", which are values of `{}`", owner.name));
            }
        }
    }
}

fn weights_column(feature: &FeatureGuess) -> Option<String> {
    feature.bag.as_ref()?.weights_column.clone()
}

fn most_common(values: impl Iterator<Item = char>) -> Option<char> {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let best = counts.into_iter().max_by_key(|(value, count)| (*count, *value == '|' || *value == ':'));
    best.map(|(value, _)| value)
}

/// The items of a column of lists.
fn items<'a>(column: &'a Column, form: Option<&ListForm>) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    let Some((separator, weight)) = form.map(|form| (form.separator, form.weight)) else {
        return Box::new(column.cells().flatten());
    };
    let bare = move |item: &'a str| match weight {
        Some(weight) => item.rsplit_once(weight).map_or(item, |(id, _)| id),
        None => item,
    };
    Box::new(column.cells().flatten().flat_map(move |cell| cell.split(separator)).map(bare))
}

/// The single-valued column of which the items of a list are values. Whole numbers meet by accident: with them the
/// names must have a word in common.
fn owner<'a>(
    list: &Column,
    form: Option<&ListForm>,
    singles: impl Iterator<Item = &'a Column>,
) -> Option<&'a Column> {
    let stats = form.map_or(&list.stats, |form| &form.items);
    let mut best: Option<(f64, &'a Column)> = None;
    for single in singles.filter(|single| single.stats.distinct >= DISTINCT) {
        if stats.all_whole() != single.stats.all_whole() || (stats.all_whole() && !related(list, single)) {
            continue;
        }
        let values: HashSet<&str> = single.cells().flatten().collect();
        let known = items(list, form).filter(|item| values.contains(item)).count();
        let share = known as f64 / items(list, form).count().max(1) as f64;
        if share >= SHARE && best.is_none_or(|(highest, _)| share > highest) {
            best = Some((share, single));
        }
    }
    best.map(|(_, single)| single)
}

fn related(list: &Column, single: &Column) -> bool {
    let stem = |word: &String| word.trim_end_matches('s').to_owned();
    let ignored = ["id", "user", "item"];
    let words = |column: &Column| -> HashSet<String> {
        crate::words::words(&column.name)
            .iter()
            .map(stem)
            .filter(|word| !ignored.contains(&&**word))
            .collect()
    };
    !words(list).is_disjoint(&words(single))
}
