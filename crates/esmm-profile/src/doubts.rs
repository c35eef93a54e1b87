//! What is said about the guesses: what was found, and what a person should look at.

use esmm_data::quoted;

use crate::guesses::Guesses;
use crate::label::{Labels, listed};
use crate::sample::Sample;
use crate::words;
use esmm_run::wording::{grouped, memory, percent};

/// Fewer conversions than this make metrics coarse.
const FEW_CONVERSIONS: usize = 100;

impl Guesses {
    /// What was looked at and found, a line each.
    pub(crate) fn found(&self, sample: &Sample) -> Vec<String> {
        let labels = &self.labels;
        let share = |count: usize, of: usize| percent(count as f64 / of.max(1) as f64);
        let mut found = vec![self.looked_at(sample)];
        found.push(format!(
            "labels: `{}` ({}), then `{}` ({} of these)",
            labels.click.column,
            share(labels.click.count, sample.rows),
            labels.conversion.column,
            share(labels.conversion.count - labels.orphans, labels.click.count)
        ));
        found.push(match &self.split.time {
            _ if self.named.is_some() => "split: by the names of the files".to_owned(),
            Some(column) => format!("split: by time, `{column}`"),
            None => "split: at random".to_owned(),
        });
        let lists = self.features.iter().filter(|feature| feature.bag.is_some()).count();
        let dense = self.features.iter().filter(|feature| feature.encoding.is_dense()).count();
        found.push(format!(
            "features: {} ({} of ids, {} of lists, {} of numbers); left out: {}",
            grouped(self.features.len() as u64),
            grouped((self.features.len() - lists - dense) as u64),
            grouped(lists as u64),
            grouped(dense as u64),
            grouped(self.left_out.len() as u64)
        ));
        let plan = self.plan();
        found.push(format!(
            "plan: {} steps, {} epochs of {} rows in batches of {}",
            grouped(plan.steps()),
            plan.epochs,
            grouped(plan.rows),
            plan.batch
        ));
        found.extend(self.expected.as_ref().map(ToString::to_string));
        found
    }

    /// `looked at 200,000 of about 1,250,000 rows in 3 files (152.3 MiB)`
    pub(crate) fn looked_at(&self, sample: &Sample) -> String {
        let rows = match sample.is_whole() {
            true => format!("all {} rows", grouped(sample.rows as u64)),
            false => {
                let about = if sample.exact { "" } else { "about " };
                format!("{} of {about}{} rows", grouped(sample.rows as u64), grouped(sample.total))
            }
        };
        let files = if sample.files == 1 { String::new() } else { format!(" in {} files", sample.files) };
        let columns = grouped((sample.columns.len() + sample.unreadable.len()) as u64);
        format!("looked at {rows}{files} ({}, {columns} columns)", memory(sample.bytes))
    }

    /// What was unsure, a line each, the weightiest first.
    pub(crate) fn unsure(&self) -> Vec<String> {
        let mut unsure = self.labels.unsure();
        unsure.extend(self.split.unsure.clone().filter(|_| self.named.is_none()));
        for left_out in self.left_out.iter().filter(|left_out| left_out.unsure) {
            unsure.push(format!("{} is left out: it {}", quoted(&left_out.column), left_out.why));
        }
        for feature in &self.features {
            if words::sounds_like_outcome(&feature.column) {
                let text = "sounds like something that is known only after the impression: delete it if so";
                unsure.push(format!("{} {text}", quoted(&feature.column)));
            }
            unsure.extend(feature.unsure.iter().map(|text| format!("{}: {text}", quoted(&feature.column))));
        }
        let no_side: Vec<&str> = self
            .features
            .iter()
            .filter(|feature| feature.side.is_none())
            .map(|feature| feature.column.as_str())
            .collect();
        if !no_side.is_empty() {
            unsure.push(format!(
                "no name tells whether these are of the user or the item: {}",
                listed(&no_side)
            ));
        }
        unsure
    }
}

impl Labels {
    fn unsure(&self) -> Vec<String> {
        let click = &self.click;
        let conversion = &self.conversion;
        let first = &click.column;
        let second = &conversion.column;
        let mut unsure = Vec::new();
        let mut say = |text: String| unsure.push(text);
        if click.count == click.flags.len() {
            say(format!(
                "`{first}` is 1 in every row: ESMM learns from all impressions, the others are needed too"
            ));
        }
        if !self.is_certain() {
            say(format!("the labels are guessed by their names: `{first}`, then `{second}`"));
        }
        if conversion.count < FEW_CONVERSIONS {
            let count = grouped(conversion.count as u64);
            say(format!(
                "only {count} conversions in the rows that were looked at: metrics of CVR will be coarse"
            ));
        }
        if self.orphans > 0 {
            let count = grouped(self.orphans as u64);
            say(format!("{count} rows have `{second}` = 1 but `{first}` = 0: such rows are dropped"));
        }
        for stage in &self.between {
            let is_named = self.longer.as_ref().is_some_and(|stages| stages.contains(stage));
            let advice = if is_named { ", see `stages`" } else { "" };
            say(format!("`{stage}` is 1 only where `{first}` is: it may be a stage of its own{advice}"));
        }
        unsure
    }
}
