//! Several threads that do one kind of job, and several questions to a target at once.
//!
//! ```text
//!  caller's thread            workers
//!  feed: job, job, ...  ─>    work(job), each with what it made for itself
//! ```
//!
//! The queue is bounded, so a feeder is never far ahead. The first failure of a worker ends
//! everybody: the others finish the job they have, the feeder's next job is refused, and that
//! failure is what the caller gets.
//!
//! [`side_by_side`] is for answers that are needed together: it ends with the last of them, and
//! gives them in the order of the questions. With a width of one nobody is hired: a target that
//! answers at once costs no thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;

/// Where a feeder puts its jobs.
pub(crate) struct Jobs<J>(SyncSender<J>);

impl<J> Jobs<J> {
    /// Waits until somebody is about to take it. Fails when nobody ever will; then the caller of
    /// [`work_on`] gets the reason instead of this error.
    pub(crate) fn send(&self, job: J) -> Result<(), Error> {
        self.0.send(job).map_err(|_| Error::Cancelled)
    }
}

/// Does all jobs that `feed` sends on `workers` threads, each of which begins with `make`.
pub(crate) fn work_on<J: Send, W: FnMut(J) -> Result<(), Error>>(
    workers: usize,
    make: impl Fn() -> Result<W, Error> + Sync,
    feed: impl FnOnce(&Jobs<J>) -> Result<(), Error>,
) -> Result<(), Error> {
    let state = State::default();
    let (jobs, queue) = sync_channel::<J>(1);
    let queue = Arc::new(Mutex::new(queue));
    let fed = std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            let (queue, state, make) = (queue.clone(), &state, &make);
            scope.spawn(move || {
                let done = make().and_then(|mut work| state.each(&queue, &mut work));
                if let Err(error) = done {
                    state.fail(error);
                }
            });
        }
        // The workers have the only ends: when they are gone, sending fails.
        drop(queue);
        // Sent jobs end with the sender, which goes before the threads are waited for.
        let jobs = Jobs(jobs);
        feed(&jobs)
    });
    let failure = state.failure.into_inner();
    failure
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(fed, Err)
}

#[derive(Default)]
struct State {
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl State {
    fn each<J>(
        &self,
        queue: &Mutex<Receiver<J>>,
        work: &mut impl FnMut(J) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while !self.failed.load(Ordering::Relaxed) {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = next else { break };
            work(job)?;
        }
        Ok(())
    }

    fn fail(&self, error: Error) {
        self.failed.store(true, Ordering::Relaxed);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }
}

/// What `ask` gives for each item, in the order of the items; at most `width` are asked at once.
pub(crate) fn side_by_side<T: Sync, R: Send>(
    width: usize,
    items: &[T],
    ask: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let width = width.min(items.len());
    if width <= 1 {
        return items.iter().map(ask).collect();
    }
    let next = AtomicUsize::new(0);
    let some = || {
        let mut answers = vec![];
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            match items.get(at) {
                Some(item) => answers.push((at, ask(item))),
                None => return answers,
            }
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..width).map(|_| scope.spawn(some)).collect();
        let mut all = some();
        for other in others {
            let answers = other.join();
            all.extend(answers.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, answer)| answer).collect()
}

/// As [`side_by_side`]; the first failure in the order of the items is what the caller gets, and
/// nothing more is asked after one.
pub(crate) fn all_of<T: Sync, R: Send>(
    width: usize,
    items: &[T],
    ask: impl Fn(&T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let failed = AtomicBool::new(false);
    let answers = side_by_side(width, items, |item| {
        if failed.load(Ordering::Relaxed) {
            return None;
        }
        let answer = ask(item);
        failed.fetch_or(answer.is_err(), Ordering::Relaxed);
        Some(answer)
    });
    answers.into_iter().flatten().collect()
}

/// Two different questions at once, if the width allows it.
pub(crate) fn both<A: Send, B>(
    width: usize,
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B,
) -> (A, B) {
    if width <= 1 {
        return (first(), second());
    }
    std::thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        let first = first.join();
        (
            first.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            second,
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn every_job_is_done_once() {
        let sum = AtomicU64::new(0);
        let add = |job: u64| {
            sum.fetch_add(job, Ordering::Relaxed);
            Ok(())
        };
        work_on(
            3,
            || Ok(add),
            |jobs| (1..=1000).try_for_each(|job| jobs.send(job)),
        )
        .unwrap();
        assert_eq!(sum.into_inner(), 500_500);
    }

    #[test]
    fn a_failure_ends_the_feeder_and_is_what_the_caller_gets() {
        let work = |job: u64| match job {
            7 => Err(Error::Internal("seven")),
            _ => Ok(()),
        };
        let failed = work_on(
            2,
            || Ok(work),
            |jobs| (0..).try_for_each(|job| jobs.send(job)),
        );
        assert!(
            matches!(failed, Err(Error::Internal("seven"))),
            "{failed:?}"
        );
    }

    #[test]
    fn a_worker_that_cannot_begin_is_a_failure() {
        let make = || Err::<fn(u64) -> Result<(), Error>, _>(Error::Internal("no room"));
        let failed = work_on(2, make, |jobs| (0..).try_for_each(|job| jobs.send(job)));
        assert!(
            matches!(failed, Err(Error::Internal("no room"))),
            "{failed:?}"
        );
    }

    #[test]
    fn a_feeder_may_fail_by_itself() {
        let failed = work_on(
            2,
            || Ok(|_: u64| Ok(())),
            |_| Err(Error::Internal("fed up")),
        );
        assert!(
            matches!(failed, Err(Error::Internal("fed up"))),
            "{failed:?}"
        );
    }

    #[test]
    fn as_many_as_allowed_are_asked_at_once_and_answers_are_in_order() {
        // Nobody passes before four are there.
        let four = Barrier::new(4);
        let items: Vec<u64> = (0..8).collect();
        let answers = side_by_side(4, &items, |item| {
            four.wait();
            item * 2
        });
        assert_eq!(answers, (0..8).map(|item| item * 2).collect::<Vec<_>>());
    }

    #[test]
    fn after_a_failure_nothing_more_is_asked() {
        let asked = AtomicU64::new(0);
        let items: Vec<u64> = (0..100).collect();
        for width in [1, 4] {
            asked.store(0, Ordering::Relaxed);
            let failed = all_of(width, &items, |item| {
                asked.fetch_add(1, Ordering::Relaxed);
                match item {
                    0 => Err::<(), _>(Error::Internal("no")),
                    _ => Ok(()),
                }
            });
            assert!(matches!(failed, Err(Error::Internal("no"))), "{failed:?}");
        }
        assert!(asked.into_inner() < 100);
    }

    #[test]
    fn two_questions_are_asked_at_once() {
        let two = Barrier::new(2);
        let wait = || two.wait().is_leader();
        let (one, other) = both(2, wait, wait);
        assert!(one != other);
    }
}
