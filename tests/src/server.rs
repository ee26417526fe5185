//! The real server as a process, with a data folder of its own.
//!
//! A server can be stopped, killed and started again on the same data. When a test fails, its
//! log is printed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Dialogue, bound_command};
use crate::wait::PATIENCE;

/// What the server prints on its standard output once it answers requests.
const READY: &str = "listening on ";
/// How much of the log a failed test shows.
const LOG_TAIL_LINES: usize = 200;

/// The `stillpoint` binary that was built with this test.
///
/// # Panics
/// When it was not built.
#[track_caller]
pub fn stillpoint_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("STILLPOINT_BIN") {
        return path.into();
    }
    // Tests are in target/<profile>/deps, programs in target/<profile>.
    let this = std::env::current_exe().expect("the path of this program");
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("stillpoint"))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no stillpoint beside {}: run `cargo build -p stillpoint`",
                this.display()
            )
        })
}

/// A server and its data. Dropping it kills the process and removes the data.
pub struct Server {
    data: TempDir,
    arguments: Vec<String>,
    running: Option<Running>,
}

struct Running {
    process: Dialogue,
    url: String,
}

impl Server {
    /// Starts a server on an empty data folder and a free port, and waits until it answers.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// [`Server::start`] with more arguments, used at each restart too.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Self {
        let data = tempfile::Builder::new()
            .prefix("stillpoint-data.")
            .tempdir()
            .expect("a folder");
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self {
            data,
            arguments,
            running: None,
        };
        server.resume();
        server
    }

    /// Where the portal and the API are, without a slash at the end.
    ///
    /// # Panics
    /// When the server is not running.
    #[track_caller]
    pub fn url(&self) -> &str {
        &self.running().url
    }

    /// The folder with everything the server keeps.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The process id.
    ///
    /// # Panics
    /// When the server is not running.
    #[track_caller]
    pub fn process_id(&self) -> u32 {
        self.running().process.id()
    }

    /// Everything it has logged since the first start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Stops it as an administrator would, and waits until it has ended.
    ///
    /// # Panics
    /// When it does not end, or not with success.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut running = self.running.take().expect("the server is running");
        running.process.signal(Signal::TERM);
        let status = running
            .process
            .wait(PATIENCE)
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(status.success(), "the server ended with {status}");
    }

    /// `kill -9`: nothing is flushed, nothing is said.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the server is running");
        running.process.signal(Signal::KILL);
        running
            .process
            .wait(PATIENCE)
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts it again on the same data, on a new port.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn resume(&mut self) {
        assert!(self.running.is_none(), "the server is running already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log");
        let mut command = bound_command(stillpoint_binary());
        command
            .args(["server", "start", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.data.path().join("data"))
            .args(&self.arguments)
            .stderr(Stdio::from(log));
        let mut process = Dialogue::start("the server", command, b'\n');
        let url = loop {
            let line = process
                .receive(PATIENCE)
                .unwrap_or_else(|error| panic!("{error}"));
            if let Some(url) = line.strip_prefix(READY) {
                break url.trim_end_matches('/').to_owned();
            }
        };
        self.running = Some(Running { process, url });
    }

    /// A command of the CLI, ready to run against this server's binary.
    pub fn cli(&self) -> Command {
        Command::new(stillpoint_binary())
    }

    fn log_path(&self) -> PathBuf {
        self.data.path().join("server.log")
    }

    #[track_caller]
    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server is running")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            eprintln!("--- the end of the server's log\n{}\n---", tail.join("\n"));
        }
    }
}
