//! How soon a guest runs that is restored from a backup: a new instance that reads its backup until it
//! is filled, beside a plain boot of the same disk and a restore in full that is booted then.
//!
//! A real server, the whole way: from the request for a new instance to the first line that the guest's
//! user space writes. The disk is large and mostly empty, with a guest at its beginning and noise
//! behind it, as an archived machine would be; the noise is what a restore in full waits for. Filling
//! begins while the guest boots, and takes processor and storage from it, as it would anywhere.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stillpoint_client::{Change, DeleteVolumes};
use stillpoint_env::SimEnv;
use stillpoint_model::id::VolumeId;
use stillpoint_model::{ByteCount, Env as _};
use stillpoint_tests::cache_folder;
use stillpoint_tests::debian::small_guest;
use stillpoint_tests::person::Person;
use stillpoint_tests::process::run;
use stillpoint_tests::server::Server;
use stillpoint_tests::wait::{PATIENCE, until};
use stillpoint_wire::backup::Backup;
use stillpoint_wire::instance::{InstanceCreate, InstanceDisk};
use stillpoint_wire::item::ItemKind;
use stillpoint_wire::restore::RestoreSource;
use stillpoint_wire::upload::ImageFormat;

use crate::goals::{at_most, goal};
use crate::samples::{Samples, timed};
use crate::table::{Table, milliseconds};

/// The size of the disk.
const SIZE: ByteCount = ByteCount::from_gib(100);
/// Where its noise begins, and how much there is.
const NOISE_AT: ByteCount = ByteCount::from_gib(50);
const NOISE: ByteCount = ByteCount::from_gib(1);
const ROUNDS: u32 = 3;
const NAME: &str = "guest";

/// What is measured, in the order of the table.
const ROWS: [&str; 3] = [
    "plain boot",
    "new instance of the backup, at once",
    "the same, restored in full before",
];

/// Measures and prints.
pub fn measure() {
    println!("\nGuests of backups: milliseconds\n");
    let server = Server::start_with_instances(|plan| {
        plan.pacing.cooldown_s = 0;
        plan.pacing.in_flight_per_account = 100;
    });
    let tenant = Person::tenant(&server);
    let scratch = tempfile::tempdir_in(cache_folder()).expect("a folder");
    let image = scratch.path().join("root.qcow2");
    make_disk(scratch.path(), &image);
    let root = tenant.import("golden", &image, ImageFormat::Qcow2);
    let backup = tenant.backup(root, "golden");
    let mut samples: [Samples; 3] = Default::default();
    let mut whole_after = Samples::default();
    for _ in 0..ROUNDS {
        for (row, samples) in samples.iter_mut().enumerate() {
            let disk = match row {
                0 => existing(root),
                _ => restored(&backup, row == 1),
            };
            let (booted, instance) = timed(|| boot(&tenant, disk));
            samples.push(booted);
            if row == 1 {
                let (more, ()) = timed(|| wait_until_whole(&tenant, &instance));
                whole_after.push(booted + more);
            }
            let volumes = match row {
                0 => DeleteVolumes::Keep,
                _ => DeleteVolumes::All,
            };
            tenant.complete(async |client| {
                client
                    .instance_delete(&instance, &volumes, Some(NAME), &Change::default())
                    .await
            });
        }
    }
    print(&samples, &whole_after);
}

/// A guest, nothing for a long way, and noise.
fn make_disk(folder: &Path, image: &Path) {
    let raw = folder.join("root.raw");
    run(Command::new("cp")
        .args(["--sparse=always"])
        .arg(small_guest())
        .arg(&raw));
    let mut file = File::options().write(true).open(&raw).expect("a disk");
    file.set_len(SIZE.get()).expect("a large disk");
    file.seek(SeekFrom::Start(NOISE_AT.get())).expect("a place");
    let (random, mut piece) = (SimEnv::new(5), vec![0; 1 << 20]);
    for _ in 0..NOISE.get() >> 20 {
        random.fill_random(&mut piece);
        file.write_all(&piece).expect("noise");
    }
    drop(file);
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "qcow2"]);
    run(convert.arg(&raw).arg(image));
    std::fs::remove_file(&raw).expect("it is not needed");
}

fn existing(volume: VolumeId) -> InstanceDisk {
    InstanceDisk {
        volume: Some(volume.to_string()),
        ..InstanceDisk::default()
    }
}

fn restored(backup: &Backup, instant: bool) -> InstanceDisk {
    InstanceDisk {
        source: Some(RestoreSource {
            kind: ItemKind::Backup,
            item: backup.id.to_string(),
        }),
        instant: Some(instant),
        ..InstanceDisk::default()
    }
}

/// A new instance with this root, once its guest has said that it is there.
fn boot(tenant: &Person, root: InstanceDisk) -> String {
    let request = InstanceCreate {
        name: Some(NAME.into()),
        root,
        ..InstanceCreate::default()
    };
    let begun =
        tenant.begin(async |client| client.instance_create(&request, &Change::default()).await);
    let instance = begun.instance_id.expect("the instance's id").to_string();
    let line = format!("{NAME} is up");
    until(PATIENCE, "a guest that is up", || {
        let console = tenant.ask(async |client| client.instance_console(&instance).await);
        match console {
            Ok(console) if console.text.contains(&line) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let ended = tenant.end_of(&begun);
    assert!(ended.failure.is_none(), "{ended:?}");
    instance
}

fn wait_until_whole(tenant: &Person, instance: &str) {
    until(PATIENCE, "a volume that is whole", || {
        let shown = tenant.get(async |client| client.instance_show(instance).await);
        let root = shown.volumes[0].id.to_string();
        let volume = tenant.get(async |client| client.volume_show(&root).await);
        match volume.filling {
            None => Ok(()),
            Some(filling) => Err(format!("{filling:?}")),
        }
    });
}

fn print(samples: &[Samples; 3], whole_after: &Samples) {
    let mut table = Table::new([
        "request to the guest's first line, 100 GiB",
        "p50 ms",
        "worst",
    ]);
    for (title, samples) in ROWS.into_iter().zip(samples) {
        let [half, worst] = [50, 100].map(|percent| milliseconds(samples.percentile(percent)));
        table.row([title.to_owned(), half, worst]);
    }
    println!("{table}");
    let whole: Option<Duration> = whole_after.percentile(50);
    println!(
        "  {ROUNDS} rounds; {NOISE} of noise; whole {} ms after the request\n",
        milliseconds(whole)
    );
    let [plain, instant, full] = samples.each_ref().map(|samples| samples.percentile(50));
    let (met, ratio) = at_most(instant, 1.5, plain);
    let what = "a new instance of a backup of 100 GiB, to its guest's first line";
    goal(what, "at most 1.5 x a plain boot", &ratio, met);
    let (_, ratio) = at_most(full, 1.5, plain);
    println!("        restored in full before: {ratio} a plain boot\n");
}
