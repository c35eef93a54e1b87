//! Sums by value of one feature.

use super::binned_auc::BinnedAuc;
use super::sums::{Sums, TaskRow};
use super::{FeatureAnalysis, ValueAnalysis};

/// Distinct values of a feature that have sums of their own.
pub const MAX_VALUES: usize = 32_768;
/// Values that have an AUC: the lowest rows of a table (of a vocabulary the most frequent values in training), and those
/// that are seen first.
const AUC_VALUES: usize = 128;
/// The most frequent values that are reported.
const FREQUENT: usize = 20;
/// The worst calibrated ones among the others that are reported.
const WORST: usize = 10;
/// Predicted or observed events below which a value's calibration says nothing.
const ENOUGH_EVENTS: f64 = 20.0;

/// The slot of an empty bag.
pub(super) const EMPTY_BAG: u32 = u32::MAX;

/// Sums by value of one feature.
#[derive(Debug, Clone)]
pub(super) struct FeatureSums {
    tasks: usize,
    /// One more than the slot of each table row, 0 for none; the last entry is the empty bag's.
    slots: Vec<u32>,
    /// Table row of each slot.
    ids: Vec<u32>,
    rows: Vec<u64>,
    /// `[slot][task]`
    sums: Vec<Sums>,
    /// `[slot][task]`, empty for a slot without an AUC.
    aucs: Vec<Vec<BinnedAuc>>,
    /// The row of the split that counted last, to count a value of a bag once.
    last: Vec<u64>,
    uncounted: u64,
}

impl FeatureSums {
    /// For a table of `table_rows` rows and a number of tasks.
    pub(super) fn new(table_rows: usize, tasks: usize) -> Self {
        Self {
            tasks,
            slots: vec![0; table_rows + 1],
            ids: Vec::new(),
            rows: Vec::new(),
            sums: Vec::new(),
            aucs: Vec::new(),
            last: Vec::new(),
            uncounted: 0,
        }
    }

    /// Counts row number `row` of the split, which has the values `ids`.
    pub(super) fn add(&mut self, row: u64, ids: &[u32], tasks: &[Option<TaskRow>]) {
        match ids {
            [] => self.add_one(row, EMPTY_BAG, tasks),
            ids => ids.iter().for_each(|id| self.add_one(row, *id, tasks)),
        }
    }

    fn add_one(&mut self, row: u64, id: u32, tasks: &[Option<TaskRow>]) {
        let Some(slot) = self.slot(id) else {
            self.uncounted += 1;
            return;
        };
        if self.rows[slot] > 0 && self.last[slot] == row {
            return;
        }
        self.last[slot] = row;
        self.rows[slot] += 1;
        let first = slot * self.tasks;
        for (sums, task) in self.sums[first..].iter_mut().zip(tasks) {
            if let Some(task) = task {
                sums.add(*task);
            }
        }
        for (auc, task) in self.aucs[slot].iter_mut().zip(tasks) {
            if let Some(task) = task {
                auc.add(task.logit, task.positive);
            }
        }
    }

    fn slot(&mut self, id: u32) -> Option<usize> {
        let place = (id as usize).min(self.slots.len() - 1);
        let slot = match self.slots[place] {
            0 if self.ids.len() >= MAX_VALUES => return None,
            0 => {
                self.open(id);
                self.slots[place] = self.ids.len() as u32;
                self.ids.len() - 1
            }
            known => known as usize - 1,
        };
        Some(slot)
    }

    fn open(&mut self, id: u32) {
        let with_auc = (id as usize) < AUC_VALUES || self.ids.len() < AUC_VALUES;
        self.ids.push(id);
        self.rows.push(0);
        self.last.push(0);
        self.sums.resize(self.ids.len() * self.tasks, Sums::default());
        self.aucs.push(if with_auc { vec![BinnedAuc::new(); self.tasks] } else { Vec::new() });
    }

    /// The most frequent values by falling number of rows, then the worst calibrated ones by falling deviation.
    pub(super) fn finish(&self, feature: &str, name: impl Fn(u32) -> String) -> FeatureAnalysis {
        let mut slots: Vec<usize> = (0..self.ids.len()).collect();
        slots.sort_by_key(|slot| (std::cmp::Reverse(self.rows[*slot]), self.ids[*slot]));
        let rare = slots.split_off(FREQUENT.min(slots.len()));
        let mut worst: Vec<(usize, f64)> =
            rare.into_iter().filter_map(|slot| Some((slot, self.worst_deviation(slot)?))).collect();
        worst.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        slots.extend(worst.into_iter().take(WORST).map(|(slot, _)| slot));
        self.analysis(feature, &slots, name)
    }

    /// All values by rising table row: the ranges of a dense feature.
    pub(super) fn finish_ranges(&self, feature: &str, name: impl Fn(u32) -> String) -> FeatureAnalysis {
        let mut slots: Vec<usize> = (0..self.ids.len()).collect();
        slots.sort_by_key(|slot| self.ids[*slot]);
        FeatureAnalysis { dense: true, ..self.analysis(feature, &slots, name) }
    }

    /// The largest deviation of the tasks that have enough events.
    fn worst_deviation(&self, slot: usize) -> Option<f64> {
        let tasks = &self.sums[slot * self.tasks..][..self.tasks];
        let judged = tasks.iter().filter(|sums| sums.events() >= ENOUGH_EVENTS);
        judged.filter_map(|sums| sums.deviation().map(f64::abs)).max_by(f64::total_cmp)
    }

    fn analysis(&self, feature: &str, slots: &[usize], name: impl Fn(u32) -> String) -> FeatureAnalysis {
        let value = |slot: &usize| ValueAnalysis {
            value: match self.ids[*slot] {
                EMPTY_BAG => "no value".to_owned(),
                id => name(id),
            },
            rows: self.rows[*slot],
            tasks: (0..self.tasks)
                .map(|task| self.sums[slot * self.tasks + task].finish(self.aucs[*slot].get(task)))
                .collect(),
        };
        FeatureAnalysis {
            feature: feature.to_owned(),
            dense: false,
            distinct: self.ids.len() as u64,
            uncounted_rows: self.uncounted,
            values: slots.iter().map(value).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FeatureSums, MAX_VALUES, TaskRow};

    fn row(probability: f64, positive: bool) -> Option<TaskRow> {
        Some(TaskRow { probability, logit: (probability / (1.0 - probability)).ln(), positive })
    }

    #[test]
    fn sums_by_hand() {
        let mut sums = FeatureSums::new(10, 2);
        sums.add(0, &[3], &[row(0.5, true), None]);
        sums.add(1, &[3, 4, 3], &[row(0.25, false), row(0.75, true)]);
        sums.add(2, &[], &[row(0.5, false), None]);
        let found = sums.finish("x", |id| format!("v{id}"));
        let names: Vec<&str> = found.values.iter().map(|value| value.value.as_str()).collect();
        assert_eq!(names, ["v3", "v4", "no value"]);
        assert_eq!((found.distinct, found.uncounted_rows, found.dense), (3, 0, false));
        let three = &found.values[0];
        assert_eq!((three.rows, three.tasks[0].rows, three.tasks[1].rows), (2, 2, 1));
        assert_eq!((three.tasks[0].positives, three.tasks[0].predicted), (1, 0.75));
        // 0.75 - 1 over sqrt(1/4 + 3/16).
        assert!((three.tasks[0].deviation.unwrap() + 0.25 / 0.4375_f64.sqrt()).abs() < 1e-15);
        assert_eq!((three.tasks[0].auc, three.tasks[1].auc), (Some(1.0), None));
    }

    #[test]
    fn the_worst_calibrated_of_the_rare_ones_are_there() {
        let mut sums = FeatureSums::new(2000, 1);
        let mut number = 0;
        let mut add = |sums: &mut FeatureSums, id: u32, rows: u32, every: u32| {
            for place in 0..rows {
                number += 1;
                sums.add(number, &[id], &[row(0.5, place % every == 0)]);
            }
        };
        for id in 1..=30 {
            add(&mut sums, id, 100, 2);
        }
        add(&mut sums, 500, 90, 10); // 45 predicted, 9 happened
        add(&mut sums, 600, 8, 1); // too few to say anything
        let found = sums.finish("x", |id| id.to_string());
        assert_eq!(found.values.len(), 30);
        assert_eq!(found.values[20].value, "500");
        assert_eq!(found.values[20].tasks[0].calibration(), Some(5.0));
        assert!(found.values.iter().all(|value| value.value != "600"));
    }

    #[test]
    fn values_beyond_the_limit_are_counted_together() {
        let mut sums = FeatureSums::new(MAX_VALUES + 10, 1);
        for id in 0..MAX_VALUES as u32 + 5 {
            sums.add(u64::from(id), &[id], &[row(0.5, true)]);
        }
        sums.add(1 << 40, &[7], &[row(0.5, true)]);
        let found = sums.finish("x", |id| id.to_string());
        assert_eq!((found.distinct, found.uncounted_rows), (MAX_VALUES as u64, 5));
        assert_eq!((found.values[0].value.as_str(), found.values[0].rows), ("7", 2));
    }
}
