//! Runs one future on a thread of its own and looks for its wake-up for a moment before it sleeps.
//!
//! The writer waits for one statement after the other, each some microseconds away on another
//! thread. On a quiet machine it takes longer to put a thread to sleep and wake it again than the
//! statement takes. So the thread looks [`LOOKS`] times, some tens of microseconds, whether it was
//! woken, and sleeps then. While nobody writes it sleeps.

use std::future::Future;
use std::hint::spin_loop;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Looks before the thread sleeps.
const LOOKS: u32 = 2000;

struct Bell {
    rung: AtomicBool,
    thread: Thread,
}

impl Bell {
    fn take(&self) -> bool {
        self.rung.swap(false, Ordering::Acquire)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Runs the future to its end on this thread.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let bell = Arc::new(Bell {
        rung: AtomicBool::new(false),
        thread: thread::current(),
    });
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    // With one processor, who looks keeps the other from working.
    let looks = match thread::available_parallelism() {
        Ok(processors) if processors.get() > 1 => LOOKS,
        _ => 0,
    };
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let mut left = looks;
        while !bell.take() {
            if left > 0 {
                left -= 1;
                spin_loop();
            } else {
                thread::park();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_from_another_thread_is_never_missed() {
        let (ask, asked) = std::sync::mpsc::channel::<tokio::sync::oneshot::Sender<u32>>();
        let other = thread::spawn(move || {
            for (number, reply) in (0..).zip(asked) {
                assert_eq!(reply.send(number), Ok(()));
            }
        });
        let sum = block_on(async move {
            let mut sum = 0;
            for _ in 0..10_000 {
                let (reply, answer) = tokio::sync::oneshot::channel();
                assert!(ask.send(reply).is_ok());
                sum += answer.await.unwrap_or_default();
            }
            sum
        });
        assert_eq!(sum, 49_995_000);
        assert!(other.join().is_ok());
    }
}
