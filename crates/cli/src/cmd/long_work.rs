//! Long work in this process: a bar while it goes on, and Ctrl-C that leaves nothing half done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::eprintln;
use indicatif::ProgressBar;
use stillpoint_model::ByteCount;
use stillpoint_model::progress::Monitor;

use crate::failure::{Exit, Failure, Result};
use crate::watch;

/// Shows progress, and hears that it should stop.
struct BarMonitor {
    bar: ProgressBar,
    cancelled: AtomicBool,
}

impl Monitor for BarMonitor {
    fn progress(&self, done: ByteCount, total: Option<ByteCount>) {
        watch::show_bytes(&self.bar, done, total);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Does blocking work. Ctrl-C asks it to stop, and waits until it has.
pub async fn run<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce(&dyn Monitor) -> T + Send + 'static,
) -> Result<T> {
    let monitor = Arc::new(BarMonitor {
        bar: watch::bytes_bar(what),
        cancelled: AtomicBool::new(false),
    });
    let theirs = Arc::clone(&monitor);
    let mut working = tokio::task::spawn_blocking(move || work(&*theirs));
    let ended = tokio::select! {
        ended = &mut working => ended,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("Stopping.");
            monitor.cancelled.store(true, Ordering::Relaxed);
            working.await
        }
    };
    monitor.bar.finish_and_clear();
    ended.map_err(|error| Failure::new(Exit::Other, "internal", error.to_string()))
}
