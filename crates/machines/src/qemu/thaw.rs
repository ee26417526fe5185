//! Thawing a guest that nobody guards: one that an agent which was killed left behind, or whose
//! guard was killed.
//!
//! A thread tries until the guest says that it is thawed, or no process is there any more. One try
//! takes a bounded time; the pauses between them grow, since many guests have no agent at all.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::machine::{Machine, lock};
use crate::guard::thaw_once;

/// The first pause between two tries; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Machine {
    /// Sees to it that the guest is thawed, however long that takes. Does not wait for it.
    pub(super) fn keep_thawing(&self) {
        if self.is_thawing.swap(true, Ordering::SeqCst) {
            return;
        }
        let machine = self.me.clone();
        let started = std::thread::Builder::new()
            .name("thaw".to_owned())
            .spawn(move || {
                let mut pause = FIRST_PAUSE;
                while let Some(machine) = machine.upgrade() {
                    if machine.is_thawed_now() {
                        break;
                    }
                    drop(machine);
                    std::thread::park_timeout(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            });
        if let Err(error) = started {
            self.is_thawing.store(false, Ordering::SeqCst);
            tracing::error!(instance = %self.id, %error, "nobody sees to it that a guest is thawed");
        }
    }

    /// One try. Whether there is nothing to thaw any more.
    fn is_thawed_now(&self) -> bool {
        let _talk = lock(&self.talk);
        let is_over = match thaw_once(&self.folder.agent(), self.shared.env.as_ref()) {
            Ok(()) => {
                self.agent_answered.store(true, Ordering::Relaxed);
                tracing::info!(instance = %self.id, "its guest is thawed");
                true
            }
            Err(error) => {
                tracing::debug!(instance = %self.id, %error, "its guest may be frozen");
                self.folder.process().is_none()
            }
        };
        // Whoever asks anew has had its turn to talk before or will have it after this.
        self.is_thawing.fetch_and(!is_over, Ordering::SeqCst);
        is_over
    }
}
