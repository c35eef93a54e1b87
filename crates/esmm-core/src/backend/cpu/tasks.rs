//! Tasks that run side by side, and how long each took.
//!
//! Every parallel region of the CPU kernels goes through [`map`] or [`each`], so that what many cores can reach is counted on
//! one: [`record_regions`] times the tasks of each region, and what lies between them is serial.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rayon::prelude::*;

/// A parallel region of the CPU kernels: tasks that run side by side, with the time that each took.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// What its tasks do.
    pub name: &'static str,
    /// The time of each task, in their order.
    pub tasks: Vec<Duration>,
}

impl Region {
    /// The time of all tasks together.
    pub fn work(&self) -> Duration {
        self.tasks.iter().sum()
    }

    /// The time until the last task ends where `threads` threads take the tasks in their order, each the next one when it is
    /// done, on cores that are as fast together as alone.
    ///
    /// # Panics
    /// With no thread.
    pub fn time_on(&self, threads: usize) -> Duration {
        assert!(threads > 0, "a region on no thread");
        let mut busy = vec![Duration::ZERO; threads];
        for task in &self.tasks {
            if let Some(first) = busy.iter_mut().min() {
                *first += *task;
            }
        }
        busy.into_iter().max().unwrap_or_default()
    }
}

thread_local! {
    /// The regions that this thread began, while they are recorded.
    static RECORD: RefCell<Option<Vec<Region>>> = const { RefCell::new(None) };
}

/// Does some work and returns the parallel regions of the CPU kernels that it began on this thread, in their order. Times
/// are those of an undisturbed core where the work runs in a pool of one thread.
///
/// # Examples
/// ```
/// use esmm_core::backend::record_regions;
///
/// let (result, regions) = record_regions(|| 1 + 1);
/// assert_eq!((result, regions.len()), (2, 0));
/// ```
pub fn record_regions<R>(work: impl FnOnce() -> R) -> (R, Vec<Region>) {
    let before = RECORD.replace(Some(Vec::new()));
    let result = work();
    (result, RECORD.replace(before).unwrap_or_default())
}

/// Does every task; returns what they return, in their order.
pub(super) fn map<T: Send, R: Send>(
    name: &'static str,
    tasks: Vec<T>,
    work: impl Fn(T) -> R + Sync + Send,
) -> Vec<R> {
    if RECORD.with_borrow(Option::is_none) {
        return tasks.into_par_iter().map(work).collect();
    }
    let timed = |task| {
        let start = Instant::now();
        let result = work(task);
        (result, start.elapsed())
    };
    let (results, times) = tasks.into_par_iter().map(timed).unzip();
    RECORD.with_borrow_mut(|record| {
        if let Some(regions) = record {
            regions.push(Region { name, tasks: times });
        }
    });
    results
}

/// Does every task.
pub(super) fn each<T: Send>(name: &'static str, tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    map(name, tasks, work);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_recorded_on_the_thread_that_asked() {
        let squares = || map("squares", vec![1, 2, 3], |x| x * x);
        let (found, regions) = record_regions(|| {
            each("nothing", Vec::<u8>::new(), drop);
            squares()
        });
        assert_eq!(found, [1, 4, 9]);
        let found: Vec<_> = regions.iter().map(|region| (region.name, region.tasks.len())).collect();
        assert_eq!(found, [("nothing", 0), ("squares", 3)]);
        assert_eq!(squares(), [1, 4, 9], "nobody records");
        assert_eq!(
            record_regions(|| record_regions(squares).1.len()),
            (1, Vec::new()),
            "the inner one takes them"
        );
    }

    /// The tasks of 3, 1, 1 and 2 ms: alone 7; two threads take 3 and 1 + 1 + 2; with three the last one follows a short one.
    #[test]
    fn time_on_some_threads() {
        let tasks = [3, 1, 1, 2].map(Duration::from_millis).to_vec();
        let region = Region { name: "some", tasks };
        let times = [1, 2, 3, 9].map(|threads| region.time_on(threads).as_millis());
        assert_eq!(times, [7, 4, 3, 3]);
        assert_eq!(region.work(), region.time_on(1));
    }
}
