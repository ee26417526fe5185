//! What runs in the guest: this same program. It does what its mailbox says.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use stillpoint_env::{SimEnv, SystemEnv};
use stillpoint_model::Env as _;
use stillpoint_tests::wait::wait_out;

use super::mailbox::{Aligned, Answer, Ask, BLOCK, GuestEnd, Pattern, open_direct};
use super::{CLUSTER, MAILBOX, READ_REGION, WRITE_REGION};

/// The file systems whose writes are timed.
const DATA: [&str; 2] = ["/data/vdb", "/data/vdc"];
/// The size of each file that is written to.
const FILE: u64 = 16 << 20;
/// The pause between two looks, and between two writes that are timed.
const LOOK: Duration = Duration::from_millis(10);
const PACE: Duration = Duration::from_millis(2);
/// How many write to each disk, as load.
const WRITERS: u64 = 2;
/// How many read or write at random at once.
const QUEUE: u64 = 4;
const SEQUENTIAL: usize = 1 << 20;

/// Serves until the machine is off.
pub fn run() {
    let device = PathBuf::from(format!("/dev/{MAILBOX}"));
    let mut mailbox = GuestEnd::open(&device).expect("the mailbox");
    for folder in DATA {
        make_file(&file_in(folder, "probe"));
        make_file(&file_in(folder, "load"));
    }
    let mut watch = None;
    loop {
        let Some((number, ask)) = mailbox.asked() else {
            wait_out(LOOK);
            continue;
        };
        let answer = match ask {
            Ask::Watch { load } => {
                watch = Some(Watch::begin(load));
                Answer::Done
            }
            Ask::Report => watch.take().map_or(Answer::Done, Watch::end),
            Ask::Move {
                device,
                pattern,
                millis,
            } => move_data(&device, pattern, Duration::from_millis(millis)),
            Ask::Scatter { device, count } => scatter(&device, count),
            Ask::Touch {
                device,
                count,
                durable,
            } => touch(&device, count, durable),
        };
        mailbox.answer(number, answer).expect("answer");
    }
}

fn file_in(folder: &str, name: &str) -> PathBuf {
    Path::new(folder).join(name)
}

fn make_file(path: &Path) {
    let mut file = File::create(path).expect("a file on a data disk");
    let piece = vec![1; 1 << 20];
    for _ in 0..FILE >> 20 {
        file.write_all(&piece).expect("fill it");
    }
    file.sync_all().expect("flush it");
}

/// Writers that are timed, and their load.
struct Watch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    longest_us: AtomicU64,
    writes: AtomicU64,
}

impl Watch {
    fn begin(load: bool) -> Self {
        let shared = Arc::<Shared>::default();
        let mut threads = Vec::new();
        for folder in DATA {
            let mine = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || {
                time_writes(&file_in(folder, "probe"), &mine)
            }));
            for writer in 0..if load { WRITERS } else { 0 } {
                let mine = Arc::clone(&shared);
                let write = move || write_on(&file_in(folder, "load"), writer, &mine);
                threads.push(std::thread::spawn(write));
            }
        }
        while shared.writes.load(Ordering::Relaxed) < 20 {
            wait_out(PACE);
        }
        shared.longest_us.store(0, Ordering::Relaxed);
        Self { shared, threads }
    }

    fn end(self) -> Answer {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a writer");
        }
        Answer::Watched {
            longest_us: self.shared.longest_us.load(Ordering::Relaxed),
            writes: self.shared.writes.load(Ordering::Relaxed),
        }
    }
}

fn time_writes(path: &Path, shared: &Shared) {
    let env = SystemEnv::new();
    let file = open_direct(path, true, true).expect("a file");
    let mut block = Aligned::new(BLOCK);
    let mut at = 0;
    while !shared.is_over.load(Ordering::Relaxed) {
        let begun = env.monotonic();
        file.write_all_at(block.bytes(), at).expect("write");
        let took = micros(env.monotonic() - begun);
        shared.longest_us.fetch_max(took, Ordering::Relaxed);
        shared.writes.fetch_add(1, Ordering::Relaxed);
        at = (at + BLOCK as u64) % FILE;
        wait_out(PACE);
    }
}

fn write_on(path: &Path, seed: u64, shared: &Shared) {
    let random = SimEnv::new(seed);
    let file = open_direct(path, true, false).expect("a file");
    let mut block = Aligned::new(BLOCK);
    while !shared.is_over.load(Ordering::Relaxed) {
        let at = random.below(FILE / BLOCK as u64) * BLOCK as u64;
        file.write_all_at(block.bytes(), at).expect("write");
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn device(name: &str, durable: bool) -> File {
    open_direct(&Path::new("/dev").join(name), true, durable).expect("a disk")
}

fn move_data(name: &str, pattern: Pattern, time: Duration) -> Answer {
    let env = SystemEnv::new();
    let begun = env.monotonic();
    let workers = match pattern {
        Pattern::RandomRead | Pattern::RandomWrite => QUEUE,
        Pattern::SequentialRead | Pattern::SequentialWrite => 1,
    };
    let work = |worker| {
        let file = device(name, false);
        let mut pace = Pace::new(pattern, worker);
        let mut operations = 0;
        while env.monotonic() - begun < time {
            pace.step(&file);
            operations += 1;
        }
        operations
    };
    let operations = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| scope.spawn(move || work(worker)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a worker"))
            .sum()
    });
    let micros = micros(env.monotonic() - begun);
    Answer::Moved { operations, micros }
}

/// One worker's way through a disk.
struct Pace {
    pattern: Pattern,
    random: SimEnv,
    buffer: Aligned,
    steps: u64,
}

impl Pace {
    fn new(pattern: Pattern, worker: u64) -> Self {
        let len = match pattern {
            Pattern::RandomRead | Pattern::RandomWrite => BLOCK,
            Pattern::SequentialRead | Pattern::SequentialWrite => SEQUENTIAL,
        };
        Self {
            pattern,
            random: SimEnv::new(worker),
            buffer: Aligned::new(len),
            steps: 0,
        }
    }

    fn step(&mut self, file: &File) {
        let len = self.buffer.bytes().len() as u64;
        let (region, is_random) = match self.pattern {
            Pattern::RandomRead => (READ_REGION, true),
            Pattern::SequentialRead => (READ_REGION, false),
            Pattern::RandomWrite => (WRITE_REGION, true),
            Pattern::SequentialWrite => (WRITE_REGION, false),
        };
        let places = (region.end - region.start) / len;
        let place = if is_random {
            self.random.below(places)
        } else {
            self.steps % places
        };
        let at = region.start + place * len;
        match self.pattern {
            Pattern::RandomRead | Pattern::SequentialRead => {
                file.read_exact_at(self.buffer.bytes(), at).expect("read");
            }
            Pattern::RandomWrite | Pattern::SequentialWrite => {
                file.write_all_at(self.buffer.bytes(), at).expect("write");
            }
        }
        self.steps += 1;
    }
}

fn scatter(name: &str, count: u64) -> Answer {
    let (random, file) = (SystemEnv::new(), device(name, false));
    let mut block = Aligned::new(BLOCK);
    let places = (READ_REGION.end - READ_REGION.start) / BLOCK as u64;
    for _ in 0..count {
        let mut bytes = [0; 8];
        random.fill_random(&mut bytes);
        block.bytes()[..8].copy_from_slice(&bytes);
        let place = u64::from_le_bytes(bytes) % places;
        let at = READ_REGION.start + place * BLOCK as u64;
        file.write_all_at(block.bytes(), at).expect("write");
    }
    file.sync_all().expect("flush");
    Answer::Done
}

fn touch(name: &str, count: u64, durable: bool) -> Answer {
    let (env, file) = (SystemEnv::new(), device(name, durable));
    let mut block = Aligned::new(BLOCK);
    let mut once = || {
        let write = |number: u64| {
            let begun = env.monotonic();
            let at = READ_REGION.start + number * CLUSTER;
            file.write_all_at(block.bytes(), at).expect("write");
            micros(env.monotonic() - begun)
        };
        (0..count).map(write).collect::<Vec<_>>()
    };
    Answer::Touched {
        first_us: once(),
        second_us: once(),
    }
}
