//! Work on all cores whose results come back in the order in which it was given out.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::Scope;

/// Results that are being made. At most `ahead` are under way, so memory is bounded, and nobody but the caller waits.
#[derive(Debug)]
pub(crate) struct Ordered<T> {
    waiting: VecDeque<Receiver<T>>,
    ahead: usize,
}

impl<T: Send> Ordered<T> {
    /// Nothing under way.
    pub(crate) fn new(ahead: usize) -> Self {
        Self { waiting: VecDeque::new(), ahead: ahead.max(1) }
    }

    /// Whether a result must be taken before more work is given out.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.ahead
    }

    /// Gives out work.
    pub(crate) fn submit<'scope>(&mut self, scope: &Scope<'scope>, work: impl FnOnce() -> T + Send + 'scope)
    where
        T: 'scope,
    {
        let (sender, receiver) = sync_channel(1);
        // Without a receiver, because the caller met an error, the result is not needed.
        scope.spawn(move |_| drop(sender.send(work())));
        self.waiting.push_back(receiver);
    }

    /// Waits for the oldest result. `None` when nothing is under way, or when a worker panicked: the scope will pass
    /// that on.
    pub(crate) fn next(&mut self) -> Option<T> {
        self.waiting.pop_front()?.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_finishes_first() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let mut taken = Vec::new();
        pool.in_place_scope(|scope| {
            let mut queue = Ordered::new(3);
            for number in 0..200_u64 {
                if queue.is_full() {
                    taken.extend(queue.next());
                }
                queue.submit(scope, move || {
                    std::thread::sleep(std::time::Duration::from_micros(number * 7919 % 97));
                    number
                });
            }
            while let Some(number) = queue.next() {
                taken.push(number);
            }
        });
        assert!(taken.into_iter().eq(0..200));
    }
}
