//! Who is measured, and the commands of each.
//!
//! A command finds `$REPO` (a folder, or `s3:`, an endpoint, `/` and a bucket), `$STATE` (keys and
//! caches), `$STEP`, `$DISK` and, for a restore, an empty current folder. Everybody reads the whole disk each time, but who says otherwise: a disk
//! that a machine wrote to is a file that changed.

use std::ffi::OsString;
use std::process::Command;

use stillpoint_tests::cache_folder;

/// Where commands are looked for: first among the tools that `scripts/peers` brought.
pub fn path() -> OsString {
    let mut path = cache_folder().join("peers/bin").into_os_string();
    if let Some(usual) = std::env::var_os("PATH") {
        path.push(":");
        path.push(usual);
    }
    path
}

/// How each tool is called, without asking anybody anything.
macro_rules! restic {
    () => {
        r#"RESTIC_PASSWORD=x RESTIC_CACHE_DIR="$STATE" restic -q -r "$REPO" "#
    };
}
macro_rules! rustic {
    () => {
        concat!(
            r#"case "$REPO" in s3:*) at="${REPO#s3:}" REPO=opendal:s3; "#,
            r#"export OPENDAL_ENDPOINT="${at%/*}" OPENDAL_BUCKET="${at##*/}" "#,
            "OPENDAL_REGION=us-east-1 OPENDAL_ROOT=/;; esac; ",
            r#"RUSTIC_PASSWORD=x RUSTIC_CACHE_DIR="$STATE" RUSTIC_REPOSITORY="$REPO" "#,
            "rustic --no-progress --log-level warn "
        )
    };
}
macro_rules! borg {
    () => {
        r#"export BORG_BASE_DIR="$STATE" BORG_PASSPHRASE=x BORG_REPO="$REPO"; borg "#
    };
}

/// One tool with its settings.
pub struct Contender {
    pub name: &'static str,
    program: &'static str,
    version: &'static str,
    /// Whether it stores what it has seen before only once, so that bars are set by it.
    pub deduplicates: bool,
    /// Whether it can store in a bucket.
    pub uses_buckets: bool,
    pub init: &'static str,
    pub backup: &'static str,
    pub restore: &'static str,
    pub check: &'static str,
}

/// Ours, told what changed since its parent.
pub const OURS: &str = "Stillpoint";
/// Ours, reading everything and comparing it with the parent.
pub const OURS_UNTRACKED: &str = "Stillpoint, changes not known";

/// All of them, ours first.
pub const CONTENDERS: [Contender; 7] = [
    Contender {
        name: OURS,
        program: "sh",
        version: "echo this one",
        deduplicates: false,
        uses_buckets: true,
        init: r#""$BENCH" --vault init"#,
        backup: r#""$BENCH" --vault backup tracked"#,
        restore: r#""$BENCH" --vault restore"#,
        check: r#""$BENCH" --vault check"#,
    },
    Contender {
        name: OURS_UNTRACKED,
        program: "sh",
        version: "echo this one",
        deduplicates: false,
        uses_buckets: true,
        init: r#""$BENCH" --vault init"#,
        backup: r#""$BENCH" --vault backup untracked"#,
        restore: r#""$BENCH" --vault restore"#,
        check: r#""$BENCH" --vault check"#,
    },
    Contender {
        name: "restic",
        program: "restic",
        version: "restic version",
        deduplicates: true,
        uses_buckets: true,
        init: concat!(restic!(), "init"),
        backup: concat!(restic!(), r#"backup --force --tag "$STEP" "$DISK""#),
        // Sparse where it can: from 0.15 on.
        restore: concat!(
            "s=; ! restic restore --help | grep -q -- --sparse || s=--sparse; ",
            restic!(),
            r"restore latest --tag increment $s --target ."
        ),
        check: concat!(restic!(), "check --read-data"),
    },
    Contender {
        name: "rustic",
        program: "rustic",
        version: "rustic --version",
        deduplicates: true,
        uses_buckets: true,
        init: concat!(rustic!(), "init --set-compression 3"),
        backup: concat!(rustic!(), r#"backup --force --tag "$STEP" "$DISK""#),
        restore: concat!(rustic!(), "restore --filter-tags increment latest ."),
        check: concat!(rustic!(), "check --read-data"),
    },
    Contender {
        name: "borg, zstd 3",
        program: "borg",
        version: "borg --version",
        deduplicates: true,
        uses_buckets: false,
        init: concat!(borg!(), "init --encryption repokey"),
        backup: concat!(
            borg!(),
            r#"create --files-cache disabled --compression zstd,3 "::$STEP" "$DISK""#
        ),
        restore: concat!(borg!(), "extract --sparse ::increment"),
        check: concat!(borg!(), "check --verify-data"),
    },
    Contender {
        name: "borg, zstd 3, fixed 4 MiB",
        program: "borg",
        version: "borg --version",
        deduplicates: true,
        uses_buckets: false,
        init: concat!(borg!(), "init --encryption repokey"),
        backup: concat!(
            borg!(),
            "create --files-cache disabled --chunker-params fixed,4194304 --sparse ",
            r#"--compression zstd,3 "::$STEP" "$DISK""#
        ),
        restore: concat!(borg!(), "extract --sparse ::increment"),
        check: concat!(borg!(), "check --verify-data"),
    },
    Contender {
        name: "zstd -1, a pipe",
        program: "zstd",
        version: "zstd --version | sed 's/.*v\\([0-9.]*\\),.*/zstd \\1/'",
        deduplicates: false,
        uses_buckets: false,
        init: "true",
        backup: r#"cat "$DISK" | zstd -q -1 -T0 >"$REPO/$STEP.zst""#,
        restore: r#"zstd -q -d --sparse "$REPO/increment.zst" -o disk.raw"#,
        check: r#"zstd -q -t "$REPO"/*.zst"#,
    },
];

impl Contender {
    /// Whether it is installed; says so, with its version.
    pub fn is_there(&self) -> bool {
        let script = format!(
            "command -v {} >/dev/null && {} | head -n 1",
            self.program, self.version
        );
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &script]).env("PATH", path()).output();
        let output = output.expect("a shell");
        let version = String::from_utf8_lossy(&output.stdout);
        match output.status.success() {
            true => println!("tool      {:<30} {}", self.name, version.trim()),
            false => println!("tool      {:<30} not installed, passed over", self.name),
        }
        output.status.success()
    }
}
