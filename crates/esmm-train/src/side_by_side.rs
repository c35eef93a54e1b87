//! Work that is done side by side, each piece with its share of the cores.

use std::sync::{Mutex, PoisonError};

/// Does the work on every item, `at_once` of them at the same time, and returns what came out in the order of the items.
///
/// What a piece of work computes with rayon runs on a pool of its own, so that pieces share the cores and do not wait for
/// each other's tasks. Where threads cannot be started, the pieces follow each other.
pub(crate) fn side_by_side<T: Send, R: Send>(
    items: Vec<T>,
    at_once: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let at_once = at_once.min(items.len());
    let pools = if at_once > 1 { pools(at_once) } else { Vec::new() };
    if pools.is_empty() {
        return items.into_iter().map(work).collect();
    }
    let waiting = Mutex::new(items.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((place, item)) = next else { return };
                    let result = pool.install(|| work(item));
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// So many pools, which have the threads of the present one together; none where they cannot be started.
fn pools(count: usize) -> Vec<rayon::ThreadPool> {
    let threads = rayon::current_num_threads();
    let share = |place: usize| (threads / count + usize::from(place < threads % count)).max(1);
    let pool = |place| rayon::ThreadPoolBuilder::new().num_threads(share(place)).build();
    let pools: Result<Vec<_>, _> = (0..count).map(pool).collect();
    pools.unwrap_or_else(|error| {
        log::warn!("threads cannot be started ({error}): one training follows the other");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::side_by_side;

    #[test]
    fn results_are_in_the_order_of_the_items_whatever_runs_at_once() {
        for at_once in 1..5 {
            let results = side_by_side((0..7).collect(), at_once, |item: u32| {
                std::thread::sleep(std::time::Duration::from_millis(u64::from(7 - item)));
                (item * item, rayon::current_num_threads())
            });
            let squares: Vec<u32> = results.iter().map(|(square, _)| *square).collect();
            assert_eq!(squares, [0, 1, 4, 9, 16, 25, 36]);
            assert!(results.iter().all(|(_, threads)| *threads >= 1));
        }
        assert!(side_by_side(Vec::<u32>::new(), 3, |item| item).is_empty());
    }
}
