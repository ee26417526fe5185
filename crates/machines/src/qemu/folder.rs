//! A machine's folder: how it is found again, and how it ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, VolumeId};

use crate::{DiskSpec, Error, MachineSpec};

/// A unix socket's path takes no more.
const MAX_SOCKET_PATH: usize = 107;
/// The console's file is cut when it is larger than this.
const MAX_CONSOLE: u64 = 4 << 20;
/// What is left of it then, and the most that is read.
const KEPT_CONSOLE: u64 = 256 << 10;
/// The most of QEMU's own words that is read.
const MAX_LOG: u64 = 64 << 10;
/// How long a process that was killed, or closed its sockets, may take to be gone.
pub(super) const ENDING: Duration = Duration::from_secs(2);

/// A machine's folder.
pub(super) struct Folder {
    path: PathBuf,
}

/// Makes the run directory, for its owner alone; its real path.
pub(super) fn open_run_dir(path: &Path) -> Result<PathBuf, Error> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|e| Error::io("making the run directory", path, e))?;
    let real = path
        .canonicalize()
        .map_err(|e| Error::io("finding the run directory", path, e))?;
    let longest = real.as_os_str().len() + 1 + 36 + "/agent".len();
    if longest > MAX_SOCKET_PATH {
        let too_long = io::Error::new(io::ErrorKind::InvalidInput, "its path is too long");
        return Err(Error::io("using the run directory", path, too_long));
    }
    Ok(real)
}

/// The machines that have a folder.
pub(super) fn list(run_dir: &Path) -> Result<Vec<InstanceId>, Error> {
    let failed = |e| Error::io("listing the run directory", run_dir, e);
    let mut ids = Vec::new();
    for entry in fs::read_dir(run_dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        ids.extend(
            name.to_str()
                .and_then(|name| name.parse::<InstanceId>().ok()),
        );
    }
    ids.sort_unstable();
    Ok(ids)
}

impl Folder {
    pub(super) fn new(run_dir: &Path, id: InstanceId) -> Self {
        Self {
            path: run_dir.join(id.to_string()),
        }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn qmp(&self) -> PathBuf {
        self.file("qmp")
    }

    pub(super) fn agent(&self) -> PathBuf {
        self.file("agent")
    }

    /// Writes down what the machine is made of.
    pub(super) fn prepare(&self, spec: &MachineSpec) -> Result<(), Error> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path);
        made.map_err(|e| Error::io("making", &self.path, e))?;
        self.write_spec(spec)?;
        for stale in ["qmp", "agent", "standing"] {
            self.remove(stale)?;
        }
        Ok(())
    }

    pub(super) fn spec(&self) -> Option<MachineSpec> {
        serde_json::from_slice(&fs::read(self.file("spec.json")).ok()?).ok()
    }

    /// Notes that it has a disk, or will have it in a moment.
    pub(super) fn note_disk(&self, disk: &DiskSpec) -> Result<(), Error> {
        self.change_spec(|spec| {
            spec.disks.retain(|known| known.volume != disk.volume);
            spec.disks.push(disk.clone());
        })
    }

    /// Notes that it has no such disk any more.
    pub(super) fn forget_disk(&self, volume: VolumeId) -> Result<(), Error> {
        self.change_spec(|spec| spec.disks.retain(|known| known.volume != volume))
    }

    /// Without the file, every disk is one that it may have, and stays so.
    fn change_spec(&self, change: impl FnOnce(&mut MachineSpec)) -> Result<(), Error> {
        let Some(mut spec) = self.spec() else {
            return Ok(());
        };
        change(&mut spec);
        self.write_spec(&spec)
    }

    fn write_spec(&self, spec: &MachineSpec) -> Result<(), Error> {
        let text = serde_json::to_vec(spec).unwrap_or_default();
        self.write("spec.json", &text)
    }

    /// Whether the machine may have a volume open, while it has a process.
    pub(super) fn may_have(&self, volume: VolumeId) -> bool {
        let has = |spec: MachineSpec| spec.disks.iter().any(|disk| disk.volume == volume);
        self.spec().is_none_or(has)
    }

    /// Notes that it runs.
    pub(super) fn note_running(&self) -> Result<(), Error> {
        if self.is_running_noted() {
            return Ok(());
        }
        self.write("running", b"")
    }

    pub(super) fn is_running_noted(&self) -> bool {
        self.file("running").exists()
    }

    /// Notes that it ends as it should.
    pub(super) fn note_ended(&self) -> Result<(), Error> {
        self.remove("running")
    }

    /// Notes that it stands still for a capture of its memory.
    pub(super) fn note_standing(&self) -> Result<(), Error> {
        self.write("standing", b"")
    }

    pub(super) fn is_standing_noted(&self) -> bool {
        self.file("standing").exists()
    }

    /// Notes that it goes on.
    pub(super) fn note_not_standing(&self) -> Result<(), Error> {
        self.remove("standing")
    }

    /// A new file for what QEMU says while it starts.
    pub(super) fn new_log(&self) -> Result<File, Error> {
        let path = self.file("log");
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        made.map_err(|e| Error::io("making", &path, e))
    }

    /// The beginning of what QEMU said while it started.
    pub(super) fn log(&self) -> String {
        let mut text = Vec::new();
        let opened = File::open(self.file("log"));
        let _as_much_as_there_is =
            opened.and_then(|file| file.take(MAX_LOG).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Removes it and everything in it.
    pub(super) fn remove_all(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("removing", &self.path, e))
            }
            _ => Ok(()),
        }
    }

    /// The process that has this folder, if it lives.
    pub(super) fn process(&self) -> Option<Process> {
        let pid_file = self.file("pid");
        let text = fs::read_to_string(&pid_file).ok()?;
        let pid = text.trim().parse().ok()?;
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // The number may be somebody else's by now; the handle is not.
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        if command.is_empty() {
            // It is ending, and may have its files open for another moment.
            Process { pid, handle }.wait(ENDING);
            return None;
        }
        self.is_ours(&command).then_some(Process { pid, handle })
    }

    /// Everything that runs this machine or is about to: QEMU forks before it writes its number.
    pub(super) fn processes(&self) -> Vec<Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let found = numbers.filter_map(|pid: i32| {
            let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            self.is_ours(&command).then_some(Process { pid, handle })
        });
        // The one that is noted is waited for here if it is ending.
        found.chain(self.process()).collect()
    }

    /// Whether a command line is that of a process that has this folder.
    fn is_ours(&self, command: &[u8]) -> bool {
        let words: Vec<_> = command.split(|byte| *byte == 0).collect();
        let pid_file = self.file("pid");
        let ours = [b"-pidfile", pid_file.as_os_str().as_encoded_bytes()];
        words.windows(2).any(|pair| pair == ours)
    }

    /// The end of the console, at most `max` bytes of it.
    pub(super) fn console(&self, max: ByteCount) -> Result<Vec<u8>, Error> {
        let path = self.file("console");
        let read = |mut file: File| tail(&mut file, KEPT_CONSOLE.min(max.get()));
        match File::open(&path).and_then(read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|e| Error::io("reading", &path, e)),
        }
    }

    /// Adds to the console. One that would grow too large is cut first.
    pub(super) fn append_console(&self, text: &[u8]) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        let path = self.file("console");
        let append = || {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&path)?;
            let grown = file.metadata()?.len().saturating_add(text.len() as u64);
            if grown > MAX_CONSOLE {
                let kept = tail(&mut file, KEPT_CONSOLE)?;
                file.set_len(0)?;
                file.write_all(&kept)?;
            }
            file.write_all(text)
        };
        append().map_err(|e| Error::io("writing", &path, e))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let (path, new) = (self.file(name), self.file(&format!("{name}.new")));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(content))
            .and_then(|()| fs::rename(&new, &path));
        written.map_err(|e| Error::io("writing", &path, e))
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", &path, e)),
            _ => Ok(()),
        }
    }
}

fn tail(file: &mut File, max: u64) -> io::Result<Vec<u8>> {
    let len = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(len.saturating_sub(max)))?;
    let mut kept = Vec::new();
    file.take(max).read_to_end(&mut kept)?;
    Ok(kept)
}

/// A process that cannot be mistaken for another.
pub(super) struct Process {
    pid: i32,
    handle: OwnedFd,
}

impl Process {
    /// A child that nobody waited for yet.
    pub(super) fn of(child: &Child) -> Option<Self> {
        let pid = Pid::from_child(child);
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let pid = pid.as_raw_nonzero().get();
        Some(Self { pid, handle })
    }

    /// Ends it at once.
    pub(super) fn kill(&self) {
        let _gone_already = pidfd_send_signal(&self.handle, Signal::KILL);
    }

    /// Whether it ended within the bound.
    pub(super) fn wait(&self, bound: Duration) -> bool {
        let timeout = Timespec::try_from(bound).ok();
        let mut watched = [PollFd::new(&self.handle, PollFlags::IN)];
        matches!(poll(&mut watched, timeout.as_ref()), Ok(1..))
    }

    /// How long its threads have computed.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name is in parentheses and may hold anything; user and system time are the 12th and
        // 13th words after it, in ticks.
        let mut words = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let user: u64 = words.next()?.parse().ok()?;
        let system: u64 = words.next()?.parse().ok()?;
        let per_second = rustix::param::clock_ticks_per_second();
        Some(Duration::from_millis(
            (user + system) * 1000 / per_second.max(1),
        ))
    }
}
