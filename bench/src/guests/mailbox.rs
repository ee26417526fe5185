//! How the host and the program in a guest speak: by a small disk that no snapshot is taken of. The
//! host writes to its file what it wants, the guest finds it there past its cache, and answers in the
//! same way. So what is measured waits for no console, no network and no agent.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stillpoint_tests::wait::{PATIENCE, until};

/// The size of the disk.
pub const SIZE: u64 = 1 << 20;
/// A letter at most, and what direct I/O is aligned to.
pub const BLOCK: usize = 4096;

/// How a disk is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    RandomRead,
    RandomWrite,
    SequentialRead,
    SequentialWrite,
}

/// What the host wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Begin to write to files on both data disks, and time each write; with load, others write to
    /// the same disks as fast as they can.
    Watch { load: bool },
    /// End that.
    Report,
    /// Read or write a disk for so long.
    Move {
        device: String,
        pattern: Pattern,
        millis: u64,
    },
    /// Write 4 KiB at so many random places of what is read later.
    Scatter { device: String, count: u64 },
    /// Time so many writes of 4 KiB, each to a cluster of its own, twice.
    Touch {
        device: String,
        count: u64,
        durable: bool,
    },
}

/// What the guest says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    Done,
    /// The longest write since the watch began, and how many there were.
    Watched {
        longest_us: u64,
        writes: u64,
    },
    Moved {
        operations: u64,
        micros: u64,
    },
    /// Of the first and of the second writes.
    Touched {
        first_us: Vec<u64>,
        second_us: Vec<u64>,
    },
}

#[derive(Serialize, Deserialize)]
struct Letter<T> {
    number: u64,
    body: T,
}

fn write<T: Serialize>(file: &File, place: u64, number: u64, body: T) -> std::io::Result<()> {
    let text = serde_json::to_vec(&Letter { number, body })?;
    let mut block = Aligned::new(BLOCK);
    block.bytes()[..text.len()].copy_from_slice(&text);
    file.write_all_at(block.bytes(), place * BLOCK as u64)
}

/// None while there is none, or half of one.
fn read<T: DeserializeOwned>(file: &File, place: u64) -> Option<Letter<T>> {
    let mut block = Aligned::new(BLOCK);
    file.read_exact_at(block.bytes(), place * BLOCK as u64)
        .ok()?;
    let end = block.bytes().iter().position(|byte| *byte == 0)?;
    serde_json::from_slice(&block.bytes()[..end]).ok()
}

/// The host's end.
pub struct Mailbox {
    file: File,
    number: u64,
}

impl Mailbox {
    /// Makes the disk's file.
    pub fn create(path: &Path) -> Self {
        let file = File::create(path).expect("the mailbox");
        file.set_len(SIZE).expect("the mailbox");
        // Past this end's cache, too: what it holds may be older than what the guest wrote.
        let file = open_direct(path, true, false).expect("the mailbox");
        Self { file, number: 0 }
    }

    /// Has the guest do something, and waits until it did.
    pub fn ask(&mut self, ask: &Ask) -> Answer {
        self.number += 1;
        write(&self.file, 0, self.number, ask).expect("write to the mailbox");
        until(
            PATIENCE,
            format_args!("the guest to {ask:?}"),
            || match read::<Answer>(&self.file, 1) {
                Some(letter) if letter.number == self.number => Ok(letter.body),
                _ => Err("it does not answer"),
            },
        )
    }
}

/// The guest's end.
pub struct GuestEnd {
    file: File,
    done: u64,
}

impl GuestEnd {
    pub fn open(device: &Path) -> std::io::Result<Self> {
        let file = open_direct(device, true, false)?;
        // What was asked before it was started is not asked again.
        Ok(Self { file, done: 0 })
    }

    /// What is asked and not yet answered.
    pub fn asked(&self) -> Option<(u64, Ask)> {
        let letter = read::<Ask>(&self.file, 0)?;
        (letter.number != self.done).then_some((letter.number, letter.body))
    }

    pub fn answer(&mut self, number: u64, answer: Answer) -> std::io::Result<()> {
        self.done = number;
        write(&self.file, 1, number, answer)
    }
}

/// Opens past the page cache; with `durable` each write is flushed.
pub fn open_direct(path: &Path, write: bool, durable: bool) -> std::io::Result<File> {
    let mut flags = OFlag::O_DIRECT;
    if durable {
        flags |= OFlag::O_DSYNC;
    }
    let mut options = File::options();
    options.read(true).write(write).custom_flags(flags.bits());
    options.open(path)
}

/// Memory that direct I/O takes.
pub struct Aligned {
    memory: Vec<u8>,
    begin: usize,
    len: usize,
}

impl Aligned {
    pub fn new(len: usize) -> Self {
        let memory = vec![0; len + BLOCK];
        let begin = memory.as_ptr().align_offset(BLOCK);
        Self { memory, begin, len }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + self.len]
    }
}
