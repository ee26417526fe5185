//! The service itself: how fast it starts, what it holds idle, how many operations it admits and
//! how many requests it answers with 100,000 snapshots in its database.

mod admission;
mod seed;

use std::fs;
use std::time::Duration;

use stillpoint_client::{ListQuery, Method};
use stillpoint_env::SystemEnv;
use stillpoint_model::Env as _;
use stillpoint_tests::person::Person;
use stillpoint_tests::server::Server;
use stillpoint_tests::wait::wait_out;

use crate::goals::goal;
use crate::samples::{Samples, timed};
use crate::table::{Table, milliseconds};
use seed::ITEMS;

const STARTS: usize = 7;
/// Long enough for whatever a start leaves to do.
const SETTLE: Duration = Duration::from_secs(3);
const MAX_IDLE_KIB: u64 = 64 << 10;
const MAX_START: Duration = Duration::from_secs(1);
const MIN_ADMISSIONS: f64 = 1000.0;
const MAX_CPU: Duration = Duration::from_millis(1);
/// How long each kind of request is asked for.
const ASKING: Duration = Duration::from_secs(3);
/// Ticks of `/proc/PID/stat` in a second, on every Linux.
const TICKS_PER_SECOND: u32 = 100;

/// Measures and prints.
pub fn run() {
    println!("\nService\n");
    let mut server = Server::start();
    let starts = starts(&mut server);
    let p50 = starts.percentile(50);
    goal(
        "time to start",
        "under 1 s",
        &format!("{} ms", milliseconds(p50)),
        p50.is_some_and(|time| time < MAX_START),
    );
    wait_out(SETTLE);
    let idle = resident_kib(server.process_id());
    goal(
        "memory of the idle server",
        "at most 64 MiB",
        &format!("{:.1} MiB", idle as f64 / 1024.0),
        idle <= MAX_IDLE_KIB,
    );

    let admitted = admission::per_second();
    goal(
        "snapshots admitted through control on SQLite, each durable",
        "at least 1,000 per second",
        &format!("{admitted:.0} per second"),
        admitted >= MIN_ADMISSIONS,
    );
    requests(&mut server);
}

fn starts(server: &mut Server) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..STARTS {
        server.stop();
        samples.push(timed(|| server.resume()).0);
    }
    samples
}

/// Lists and shows, with the database full.
fn requests(server: &mut Server) {
    server.stop();
    let data = server.data();
    let (seeded, ()) = timed(|| seed::fill(&data.join("stillpoint.db")));
    server.resume();
    println!(
        "\n  {ITEMS} snapshots were written in {} ms\n",
        milliseconds(Some(seeded))
    );
    let mut tenant = Person::tenant(server);
    tenant.follow(server);
    let query = ListQuery::default();
    let listed = tenant.get(async |client| client.snapshot_list(None, &query).await);
    let (snapshot, volume) = (listed.items[25].id, listed.items[25].volume_id);

    let mut table = Table::new(["request", "per second", "p50 ms", "p99 ms", "CPU ms each"]);
    let mut show_cpu = Duration::MAX;
    for (title, path) in [
        ("show a snapshot", format!("/v1/snapshots/{snapshot}")),
        ("show a volume", format!("/v1/volumes/{volume}")),
        ("list 50 snapshots", "/v1/snapshots".to_owned()),
        (
            "list those of a volume",
            format!("/v1/snapshots?volume={volume}"),
        ),
        ("list 50 volumes", "/v1/volumes".to_owned()),
    ] {
        let asked = ask(server, &tenant, &path);
        if title == "show a snapshot" {
            show_cpu = asked.cpu_each;
        }
        table.row([
            title.to_owned(),
            format!("{:.0}", asked.per_second),
            milliseconds(asked.latency.percentile(50)),
            milliseconds(asked.latency.percentile(99)),
            milliseconds(Some(asked.cpu_each)),
        ]);
    }
    println!("{table}");
    goal(
        "CPU of the server for one item",
        "under 1 ms",
        &format!("{} ms", milliseconds(Some(show_cpu))),
        show_cpu < MAX_CPU,
    );
}

/// What asking for one path for a while came to.
struct Asked {
    per_second: f64,
    latency: Samples,
    cpu_each: Duration,
}

/// One client, one request after the other: it shares the machine with the server.
fn ask(server: &Server, tenant: &Person, path: &str) -> Asked {
    let env = SystemEnv::new();
    let mut latency = Samples::default();
    let before = cpu(server.process_id());
    let start = env.monotonic();
    while env.monotonic() - start < ASKING {
        let (time, answer) =
            timed(|| tenant.get(async |client| client.raw(Method::GET, path, None).await));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        latency.push(time);
    }
    let count = u32::try_from(latency.count()).expect("a small number");
    let elapsed = env.monotonic() - start;
    Asked {
        per_second: f64::from(count) / elapsed.as_secs_f64(),
        cpu_each: (cpu(server.process_id()) - before) / count,
        latency,
    }
}

/// The memory that a process occupies.
fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
    kib.expect("VmRSS in kB")
}

/// The processor time that a process has used.
fn cpu(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("its figures");
    // After the name in parentheses: user and system time are the 12th and 13th field.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u32 = [11, 12]
        .iter()
        .map(|n| fields[*n].parse::<u32>().expect("ticks"))
        .sum();
    Duration::from_secs(1) / TICKS_PER_SECOND * ticks
}
