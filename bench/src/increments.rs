//! What a second backup costs after little has changed: in proportion to the change.

use stillpoint_env::SimEnv;
use stillpoint_model::ByteCount;
use stillpoint_tests::debian::debian_disk;
use stillpoint_tests::guest::{make_database, scatter};
use stillpoint_tests::mount::MountedVolume;
use stillpoint_tests::person::Person;
use stillpoint_tests::server::Server;
use stillpoint_wire::backup::Backup;
use stillpoint_wire::upload::ImageFormat;

use crate::goals::goal;
use crate::table::Table;

const DATABASE: &str = "srv/database";
const DATABASE_SIZE: ByteCount = ByteCount::from_mib(128);

/// Backs up a Debian disk, changes 1 % of it at random places, backs it up again.
pub fn run() {
    println!("\nIncrements: a Debian disk, then 1 % of it rewritten at random places\n");
    let server = Server::start_with_plan(|plan| plan.pacing.cooldown_s = 0);
    let tenant = Person::tenant(&server);
    let volume = tenant.import("debian", &debian_disk(), ImageFormat::Raw);
    let random = SimEnv::new(1);
    let inside = |work: &dyn Fn(&std::path::Path)| {
        let mounted = MountedVolume::open_volume(&server.pool(), volume);
        work(&mounted.root().join(DATABASE));
        mounted.close();
    };
    inside(&|file| make_database(file, DATABASE_SIZE, &random));
    let first = tenant.backup(volume, "first");
    let amount = ByteCount::new(first.sizes.used_bytes.get() / 100);
    inside(&|file| scatter(file, amount, &random));
    let second = tenant.backup(volume, "second");

    let mut table = Table::new(["", "used", "changed", "read", "stored", "milliseconds"]);
    for backup in [&first, &second] {
        table.row(row(backup));
    }
    println!("{table}");
    let share = |part: ByteCount, whole: ByteCount| part.get() as f64 / whole.get() as f64;
    let read = share(second.bytes_read, first.bytes_read);
    let stored = share(second.sizes.stored_bytes, first.sizes.stored_bytes);
    goal(
        "the second backup after 1 % change, beside the first",
        "reads and stores at most 5 %",
        &format!("{:.1} % and {:.1} %", read * 100.0, stored * 100.0),
        read <= 0.05 && stored <= 0.05,
    );
}

fn row(backup: &Backup) -> [String; 6] {
    let sizes = &backup.sizes;
    [
        backup.name.to_string(),
        sizes.used_bytes.to_string(),
        sizes.changed_bytes.to_string(),
        backup.bytes_read.to_string(),
        sizes.stored_bytes.to_string(),
        backup
            .duration_ms
            .map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
    ]
}
