//! A small guest that is told what to do in lines of shell: for what needs another kernel than this
//! machine's.
//!
//! It is the guest of `scripts/small-guest`, in a QEMU of its own, with a disk of the caller's programs
//! and with this machine at 10.0.2.2. What is written to its disks is forgotten when it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::debian::{qemu, small_guest};
use crate::process::{Dialogue, bound_command, run};
use crate::wait::{PATIENCE, until};

/// How long a command may take in a translated guest on a busy machine.
const COMMAND_PATIENCE: Duration = Duration::from_secs(240);
/// How long a shell may take to answer before it is asked again.
const SHELL_PATIENCE: Duration = Duration::from_secs(2);
/// Where the disk of programs is mounted.
const PROGRAMS: &str = "/data/vdb";
/// Stands before the number of a command that ended, and its status.
const MARK: &str = "@@";

/// A running guest and its shell. Dropping it ends it at once.
pub struct GuestShell {
    console: Dialogue,
    commands: u32,
    _folder: TempDir,
}

impl GuestShell {
    /// Boots a guest that has these programs of this machine, with all that they need.
    ///
    /// # Panics
    /// When it does not boot.
    #[track_caller]
    pub fn boot(programs: &[PathBuf]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = folder.path().join("programs.raw");
        make_disk(programs, folder.path(), &disk);
        let drive = |path: &Path| {
            let path = path.display();
            format!("file={path},format=raw,if=virtio,snapshot=on")
        };
        let mut command = bound_command(qemu());
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2"]);
        command.args(["-m", "384", "-no-reboot", "-serial", "stdio"]);
        command.args(["-drive", &drive(&small_guest()), "-drive", &drive(&disk)]);
        command.args(["-smbios", "type=1,serial=ds=none;h=shell"]);
        command.args([
            "-netdev",
            "user,id=net",
            "-device",
            "virtio-net-pci,netdev=net",
        ]);
        let console = Dialogue::start("the guest", command, b'\n');
        let mut guest = Self {
            console,
            commands: 0,
            _folder: folder,
        };
        guest.wait_for("shell is up");
        guest.take_the_shell();
        guest
    }

    /// How a program of this machine is called in the guest.
    ///
    /// # Panics
    /// When its name is no text.
    pub fn program(path: &Path) -> String {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("a program's name");
        format!("{PROGRAMS}/ld.so --library-path {PROGRAMS} {PROGRAMS}/{name}")
    }

    /// A shell without prompt and echo in place of the one at the console.
    fn take_the_shell(&mut self) {
        until(PATIENCE, "the guest's shell", || {
            // What comes while it starts may get lost.
            self.console.send("")?;
            self.console
                .send("stty -echo; echo shell is $((40 + 2)); exec sh -s 2>&1 | cat")?;
            loop {
                let line = self.console.receive(SHELL_PATIENCE)?;
                if line.trim() == "shell is 42" {
                    return Ok::<_, String>(());
                }
            }
        });
        // Answers to those that were asked twice.
        self.run("true").expect("a shell");
    }

    /// Runs a line of shell; what it printed.
    ///
    /// # Errors
    /// What it printed, when it failed.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Result<String, String> {
        self.begin(line);
        self.finish()
    }

    /// As [`GuestShell::run`] of what must not fail.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn must(&mut self, line: &str) -> String {
        self.run(line)
            .unwrap_or_else(|printed| panic!("in the guest, {line}:\n{printed}"))
    }

    /// Begins to run a line of shell.
    #[track_caller]
    pub fn begin(&mut self, line: &str) {
        self.commands += 1;
        let number = self.commands;
        let line = format!("( {line} ); echo \"{MARK}{number}:$?\"");
        self.console
            .send(&line)
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits for the end of what was begun; what it printed since.
    ///
    /// # Errors
    /// What it printed, when it failed.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn finish(&mut self) -> Result<String, String> {
        let mark = format!("{MARK}{}:", self.commands);
        let status = |line: &str| -> Option<u8> { line.rsplit_once(&mark)?.1.parse().ok() };
        let (printed, status) = self.read_until(&mark, status);
        match status {
            0 => Ok(printed),
            _ => Err(printed),
        }
    }

    /// Says a line to what runs.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let sent = self.console.send(line);
        sent.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits for a line with this in it.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.read_until(text, |line| line.contains(text).then_some(()));
    }

    /// What is printed before the next line that says something, and what it says.
    #[track_caller]
    fn read_until<T>(&mut self, what: &str, says: impl Fn(&str) -> Option<T>) -> (String, T) {
        let mut printed = String::new();
        loop {
            let line = self.console.receive(COMMAND_PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("{what}: {error}; before:\n{printed}"));
            let line = line.trim_end();
            if let Some(said) = says(line) {
                return (printed, said);
            }
            printed.push_str(line);
            printed.push('\n');
        }
    }
}

impl Drop for GuestShell {
    fn drop(&mut self) {
        // Whoever fails for want of something wants to know what was said instead.
        while std::thread::panicking() {
            match self.console.receive(Duration::ZERO) {
                Ok(line) => eprintln!("guest: {}", line.trim_end()),
                Err(_) => return,
            }
        }
    }
}

/// A disk with programs, without what only debuggers read, and with the libraries that they need.
fn make_disk(programs: &[PathBuf], folder: &Path, disk: &Path) {
    let tree = folder.join("programs");
    fs::create_dir(&tree).expect("a folder");
    for program in programs {
        let name = program.file_name().expect("a program's name");
        run(Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(tree.join(name))
            .arg(program));
        let needed = run(Command::new("ldd").arg(program)).stdout;
        for library in libraries(&String::from_utf8_lossy(&needed)) {
            let name = library.file_name().expect("a library's name").to_owned();
            let is_loader = name.to_string_lossy().starts_with("ld-linux");
            let copy = tree.join(if is_loader { "ld.so".into() } else { name });
            fs::copy(&library, copy).expect("copy a library");
        }
    }
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    mkfs.args(["-q", "-d"]).arg(&tree).arg(disk).arg("512M");
    run(&mut mkfs);
}

/// The paths in the answer of `ldd`.
fn libraries(needed: &str) -> impl Iterator<Item = PathBuf> {
    let words = needed.split_whitespace();
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
}
