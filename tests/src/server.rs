//! The real server as a process, with a data folder of its own.
//!
//! A server can be stopped, killed and started again on the same data. When a test fails, its
//! log is printed.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, Signal, kill_process};
use stillpoint_model::id::InstanceId;
use stillpoint_model::plan::Plan;
use tempfile::TempDir;

use crate::debian;
use crate::machine::Machine;
use crate::pool::PoolFolder;
use crate::process::{Dialogue, bound_command};
use crate::wait::PATIENCE;

/// What the server prints on its standard output once it answers requests.
const READY: &str = "listening on ";
/// Stillpoint's own plan.
const PRESET: &str = include_str!("../../presets/stillpoint.toml");
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
    folder: TempDir,
    arguments: Vec<String>,
    /// What runs its instances.
    qemu: PathBuf,
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
        let mut server = Self::prepare(arguments);
        server.resume();
        server
    }

    #[track_caller]
    fn prepare(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("stillpoint-data.")
            .tempdir()
            .expect("a folder");
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self {
            folder,
            arguments,
            qemu: "none".into(),
            running: None,
        }
    }

    /// [`Server::start`] with Stillpoint's own plan, changed by `edit`.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_with_plan(edit: impl FnOnce(&mut Plan)) -> Self {
        let mut server = Self::prepare(&[]);
        server.plan(edit);
        server.resume();
        server
    }

    /// [`Server::start_with_plan`] with a QEMU that runs instances.
    ///
    /// # Panics
    /// When it does not start, or there is no QEMU to be had.
    #[track_caller]
    pub fn start_with_instances(edit: impl FnOnce(&mut Plan)) -> Self {
        let mut server = Self::prepare(&[]);
        server.plan(edit);
        server.qemu = debian::qemu();
        server.resume();
        server
    }

    /// [`Server::start_with`] with a QEMU that runs instances.
    ///
    /// # Panics
    /// When it does not start, or there is no QEMU to be had.
    #[track_caller]
    pub fn start_with_machines(arguments: &[&str]) -> Self {
        let mut server = Self::prepare(arguments);
        server.qemu = debian::qemu();
        server.resume();
        server
    }

    fn plan(&mut self, edit: impl FnOnce(&mut Plan)) {
        let mut plan: Plan = toml::from_str(PRESET).expect("our own plan");
        edit(&mut plan);
        let path = self.folder.path().join("plan.toml");
        fs::write(&path, toml::to_string(&plan).expect("a plan is TOML")).expect("write the plan");
        self.arguments = vec!["--plan".into(), path.display().to_string()];
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
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its pool.
    pub fn pool(&self) -> PoolFolder {
        PoolFolder::new(self.data().join("pool"))
    }

    /// The machine of an instance.
    pub fn machine(&self, instance: InstanceId) -> Machine {
        Machine::new(self.data().join("machines").join(instance.to_string()))
    }

    /// The processes that run its instances.
    pub fn machines(&self) -> Vec<Pid> {
        let folders = fs::read_dir(self.data().join("machines"));
        let folders = folders.into_iter().flatten().flatten();
        let machines = folders.map(|folder| Machine::new(folder.path()));
        machines.filter_map(|machine| machine.process()).collect()
    }

    /// The processes that read backups for its guests.
    pub fn readers(&self) -> Vec<Pid> {
        let sockets = fs::read_dir(self.data().join("readers"));
        let sockets = sockets.into_iter().flatten().flatten();
        let reader = |socket: fs::DirEntry| {
            let stream = UnixStream::connect(socket.path()).ok()?;
            socket_peercred(&stream).ok().map(|reader| reader.pid)
        };
        sockets.filter_map(reader).collect()
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

    /// Has it stand still.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn suspend(&self) {
        self.running().process.signal(Signal::STOP);
    }

    /// Has it go on.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn go_on(&self) {
        self.running().process.signal(Signal::CONT);
    }

    /// The process with which it freezes a guest at the moment.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn guard(&self) -> Option<Pid> {
        let server = self.process_id();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut guards = processes.filter_map(|process| {
            let pid: i32 = process.file_name().to_str()?.parse().ok()?;
            let line = fs::read(process.path().join("cmdline")).ok()?;
            let stat = fs::read_to_string(process.path().join("stat")).ok()?;
            // The parent is the second word behind the name, which may hold anything.
            let (_, rest) = stat.rsplit_once(") ")?;
            let parent: u32 = rest.split(' ').nth(1)?.parse().ok()?;
            let is_guard = line
                .split(|byte| *byte == 0)
                .any(|word| word == b"freeze-guard");
            (parent == server && is_guard).then(|| Pid::from_raw(pid))?
        });
        guards.next()
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
            .arg(self.data())
            .args(&self.arguments)
            .env("STILLPOINT_QEMU", &self.qemu)
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

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    #[track_caller]
    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server is running")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        for process in self.machines().into_iter().chain(self.readers()) {
            // They outlive a server, but not a test.
            let _it_may_be_gone = kill_process(process, Signal::KILL);
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            eprintln!("--- the end of the server's log\n{}\n---", tail.join("\n"));
        }
    }
}
