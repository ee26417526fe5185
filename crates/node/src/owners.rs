//! One owner per thing: two tasks that change the same volume, snapshot or backup never run at
//! the same time on a node, also when the control plane has long given up the first.
//!
//! A task waits for all its things in the order of their ids, so that two tasks never wait for
//! each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Who owns what at the moment.
#[derive(Debug, Default)]
pub struct Owners {
    locks: Mutex<HashMap<Uuid, Lock>>,
}

/// The things that a task owns, until this is dropped.
#[derive(Debug)]
pub struct Owned {
    _guards: Vec<OwnedMutexGuard<()>>,
}

impl Owners {
    /// Waits until nobody owns any of `things`, and owns them.
    pub async fn own(&self, mut things: Vec<Uuid>) -> Owned {
        things.sort_unstable();
        things.dedup();
        let mut guards = Vec::with_capacity(things.len());
        for thing in things {
            guards.push(self.lock_of(thing).lock_owned().await);
        }
        Owned { _guards: guards }
    }

    fn lock_of(&self, thing: Uuid) -> Lock {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|id, lock| *id == thing || Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(thing).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_ready<F: Future>(future: F) -> bool {
        let mut future = pin!(future);
        matches!(
            future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(_)
        )
    }

    #[tokio::test]
    async fn a_thing_has_one_owner_at_a_time() {
        let owners = Owners::default();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let owned = owners.own(vec![b, a]).await;
        assert!(!is_ready(owners.own(vec![a])));
        assert!(!is_ready(owners.own(vec![b])));
        drop(owned);
        assert!(is_ready(owners.own(vec![a, b])));
    }

    #[tokio::test]
    async fn what_nobody_owns_takes_no_memory() {
        let owners = Owners::default();
        for id in 0..100 {
            drop(owners.own(vec![Uuid::from_u128(id)]).await);
        }
        assert_eq!(owners.locks.lock().expect("not poisoned").len(), 1);
    }
}
