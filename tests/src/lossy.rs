//! A TCP path to a server, on which the answer to a request of one's choice gets lost.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::wait::{PATIENCE, until};

/// What leads to a server on this machine, from a port of its own.
pub struct LossyPath {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
enum State {
    /// Everything arrives.
    #[default]
    Whole,
    /// Everything arrives until a request with these bytes passes.
    Waits(Vec<u8>),
    /// It has passed: requests arrive, and no answer; so many bytes of them got lost.
    Loses(usize),
}

impl LossyPath {
    /// To the server at this port, whether it answers or not. It is there until the process ends.
    ///
    /// # Panics
    /// When there is no free port.
    #[track_caller]
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(Mutex::default());
        let of_connections = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&of_connections);
                // One that the server does not take is closed.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                thread::spawn(move || connect(&client, &server, &state));
            }
        });
        Self { port, state }
    }

    /// Where it begins.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Has the answer to the next request with these bytes in it get lost, and all after it. Until then
    /// everything arrives.
    pub fn lose_the_answer_to(&self, request: Vec<u8>) {
        *lock(&self.state) = State::Waits(request);
    }

    /// Waits until that answer got lost: the server has done what was asked, and nobody heard of it.
    ///
    /// # Panics
    /// When nobody asks.
    #[track_caller]
    pub fn wait_until_lost(&self) {
        until(PATIENCE, "a lost answer", || match &*lock(&self.state) {
            State::Loses(bytes) if *bytes > 0 => Ok(()),
            State::Loses(_) => Err("it is asked"),
            _ => Err("it is not asked"),
        });
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries requests and answers until either side ends.
fn connect(client: &TcpStream, server: &TcpStream, state: &Mutex<State>) {
    thread::scope(|scope| {
        scope.spawn(|| {
            // The end of what passed before: a request may come in parts.
            let mut seen = Vec::new();
            let _ = carry(client, server, |part| {
                seen.extend_from_slice(part);
                let mut state = lock(state);
                if let State::Waits(wanted) = &*state {
                    let passed = seen.windows(wanted.len()).any(|some| some == wanted);
                    seen.drain(..seen.len().saturating_sub(wanted.len()));
                    if passed {
                        *state = State::Loses(0);
                    }
                } else {
                    seen.clear();
                }
                true
            });
            close(client, server);
        });
        let _ = carry(server, client, |part| match &mut *lock(state) {
            State::Loses(bytes) => {
                *bytes += part.len();
                false
            }
            _ => true,
        });
        close(client, server);
    });
}

fn carry(
    mut from: &TcpStream,
    mut to: &TcpStream,
    mut arrives: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let part = match from.read(&mut buffer)? {
            0 => return Ok(()),
            len => &buffer[..len],
        };
        if arrives(part) {
            to.write_all(part)?;
        }
    }
}

fn close(client: &TcpStream, server: &TcpStream) {
    for side in [client, server] {
        let _ = side.shutdown(Shutdown::Both);
    }
}
