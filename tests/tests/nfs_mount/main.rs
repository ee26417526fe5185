//! The NFS target on a real mount: the kernel's client in a guest, nfs-ganesha on this machine.
//!
//! ```text
//! guest: this very program ── NfsTarget ── kernel's NFS client ── TCP ── nfs-ganesha ── a folder here
//!                                                        (where answers can get lost)
//! ```
//!
//! This machine's kernel may have no NFS client, and a mount that hangs should hang in a guest. So each
//! test boots one, mounts there what operators would mount, and runs what is in [`inside`] there: it is
//! this program again, called with the name of a test that is ignored here.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and speaks to another by what it prints"
)]

mod inside;

use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint_env::SystemEnv;
use stillpoint_tests::export::ExportServer;
use stillpoint_tests::guest_shell::GuestShell;
use stillpoint_tests::lossy::LossyPath;
use stillpoint_tests::process::run;
use stillpoint_tests::server::stillpoint_binary;
use stillpoint_vault::RootKey;
use tempfile::TempDir;

/// How the documents tell operators to mount, for a server that is always there at this address.
const OPTIONS: &str = "vers=4.2,hard,proto=tcp,addr=10.0.2.2";

/// A server with exports, and a guest that can mount them.
struct Ground {
    server: ExportServer,
    path: LossyPath,
    guest: GuestShell,
    folder: TempDir,
}

impl Ground {
    /// Exports `vault`, to write and to read only, and `tiny`, where little fits. The guest has this
    /// program and `more`.
    fn new(more: &[PathBuf]) -> Self {
        // On a disk: not every file system in memory can be exported.
        let folder = tempfile::tempdir_in(stillpoint_tests::cache_folder()).unwrap();
        let vault = folder.path().join("vault");
        std::fs::create_dir_all(vault.join("target")).unwrap();
        RootKey::create(&vault.join("root.key"), &SystemEnv::new()).unwrap();
        let server = ExportServer::start(&[
            ("vault", &vault, ":rw"),
            ("archive", &vault, ":ro"),
            ("tiny", Path::new("16M"), ":new"),
        ]);
        let path = LossyPath::to(server.port());
        let mut programs = vec![std::env::current_exe().unwrap()];
        programs.extend_from_slice(more);
        let mut guest = GuestShell::boot(&programs);
        guest.must("load-nfs");
        Self {
            server,
            path,
            guest,
            folder,
        }
    }

    /// Mounts an export on a folder of the guest.
    fn mount(&mut self, export: &str, at: &str, more: &str) {
        let port = self.path.port();
        self.guest.must(&format!(
            "mkdir -p {at} && mount -t nfs -o {OPTIONS},port={port}{more} 10.0.2.2:/{export} {at}"
        ));
    }

    /// Two clients of the export `vault`: neither remembers what the other asked.
    fn mount_twice(&mut self) {
        self.mount("vault", "/mnt/a", ",nosharecache");
        self.mount("vault", "/mnt/b", ",nosharecache");
    }

    /// Begins to run a test of [`inside`] in the guest.
    fn begin(&mut self, test: &str) {
        let program = GuestShell::program(&std::env::current_exe().unwrap());
        self.guest.begin(&format!(
            "{program} --exact inside::{test} --ignored --nocapture --test-threads 1"
        ));
    }

    /// Waits until it passed.
    fn passes(&mut self, test: &str) {
        let ended = self.guest.finish();
        let printed = ended.unwrap_or_else(|printed| panic!("{test} in the guest:\n{printed}"));
        assert!(printed.contains("1 passed"), "{test}:\n{printed}");
    }

    fn run(&mut self, test: &str) {
        self.begin(test);
        self.passes(test);
    }

    /// Where the exported vault is on this machine.
    fn vault(&self) -> PathBuf {
        self.folder.path().join("vault")
    }
}

#[test]
fn nfs_a_real_mount_is_a_target_and_two_clients_see_one() {
    let mut ground = Ground::new(&[]);
    ground.mount_twice();
    ground.run("a_mount_conforms");
    ground.run("two_mounts_are_one_place");
    ground.run("a_name_that_is_open_elsewhere_goes_all_the_same");
    let left = std::fs::read_dir(ground.vault().join("target")).unwrap();
    assert_eq!(left.count(), 0, "it leaves nothing on the server");
}

#[test]
fn nfs_a_vault_on_a_real_mount_is_kept_by_two_clients() {
    let stillpoint = stillpoint_binary();
    let mut ground = Ground::new(std::slice::from_ref(&stillpoint));
    ground.mount_twice();
    ground.run("a_vault_is_written_here_and_read_there");
    // The command recognizes a mount, and what it wrote is on the server what a folder would hold.
    let program = GuestShell::program(&stillpoint);
    let arguments = "vault check --deep --target /mnt/b/target --key /mnt/b/root.key";
    ground.guest.must(&format!("{program} {arguments}"));
    let vault = ground.vault();
    run(Command::new(&stillpoint)
        .args(["vault", "check", "--deep", "--target"])
        .arg(vault.join("target"))
        .arg("--key")
        .arg(vault.join("root.key")));
}

#[test]
fn nfs_a_backup_outlives_the_server_it_writes_to() {
    let mut ground = Ground::new(&[]);
    ground.mount_twice();
    let test = "a_backup_goes_on_when_the_server_is_back";
    ground.begin(test);
    ground.guest.wait_for(inside::HALF_WAY);
    ground.server.kill();
    ground.guest.say("go on");
    ground.server.resume();
    ground.passes(test);

    let test = "every_put_happens_once_while_the_server_comes_and_goes";
    ground.begin(test);
    for _ in 0..inside::CRASHES {
        ground.guest.wait_for(inside::SO_MANY);
        ground.server.kill();
        ground.server.resume();
    }
    ground.passes(test);
}

/// The part of an NFS 4 request that does something to a name: the numbers of the operation (and of
/// its kind), then the name.
fn request(numbers: &[u32], name: &str) -> Vec<u8> {
    let len = u32::try_from(name.len()).unwrap();
    let numbers = numbers.iter().chain([&len]);
    let mut bytes: Vec<u8> = numbers.flat_map(|number| number.to_be_bytes()).collect();
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

#[test]
fn nfs_what_a_server_did_before_it_died_is_done_though_nobody_heard_of_it() {
    /// RFC 8881: to create a directory, to link, to remove.
    const CREATE: [u32; 2] = [6, 2];
    const LINK: [u32; 1] = [11];
    const REMOVE: [u32; 1] = [28];
    let mut ground = Ground::new(&[]);
    ground.mount_twice();
    let test = "what_is_done_is_done_once";
    let lost = [
        request(&CREATE, inside::MADE),
        request(&LINK, inside::LINKED),
        request(&REMOVE, inside::LINKED),
        request(&REMOVE, inside::MADE),
    ];
    for (nth, request) in lost.into_iter().enumerate() {
        ground.path.lose_the_answer_to(request);
        match nth {
            0 => ground.begin(test),
            _ => ground.server.resume(),
        }
        ground.path.wait_until_lost();
        ground.server.kill();
    }
    ground.path.lose_the_answer_to(b"nothing more".to_vec());
    ground.server.resume();
    ground.passes(test);
}

#[test]
fn nfs_a_mount_that_cannot_be_written_says_why() {
    let mut ground = Ground::new(&[]);
    ground.mount("tiny", "/mnt/tiny", "");
    ground.run("a_full_server_is_full_and_works_once_something_went");
    ground.mount("vault", "/mnt/a", ",nosharecache");
    ground.mount("archive", "/mnt/archive", ",nosharecache");
    ground.run("an_export_to_read_only_is_read");
    ground.mount("vault", "/mnt/nocto", ",nosharecache,nocto");
    ground.run("a_mount_that_never_asks_is_refused");
    ground.run("a_mount_that_went_away_is_no_empty_target");
}
