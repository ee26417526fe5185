//! A real S3 server, from `scripts/s3-server`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use stillpoint_model::ByteCount;
use tempfile::TempDir;

use crate::process::Dialogue;

/// How long a whole Ceph may take to come up on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(90);

/// What the tests store at most.
const ROOM: ByteCount = ByteCount::from_gib(2);

/// Ceph's RADOS gateway. Dropping it ends it.
pub struct BucketServer {
    script: Dialogue,
    endpoint: String,
    folder: TempDir,
}

impl BucketServer {
    /// Starts it, and makes a bucket.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(bucket: &str) -> Self {
        let mut server = Self::with_room(ROOM);
        server.make_bucket(bucket);
        server
    }

    /// Starts it with room for so much, which is in memory, and without a bucket.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn with_room(room: ByteCount) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new(repository.join("scripts/s3-server"));
        command.arg("ceph").arg(folder.path().join("server"));
        command.env("S3_SERVER_ROOM", room.get().to_string());
        let mut script = Dialogue::start("the S3 server", command, b'\n');
        let ready = script
            .receive(START_PATIENCE)
            .unwrap_or_else(|error| panic!("{error}"));
        let words: Vec<_> = ready.split_whitespace().collect();
        let ["ready", endpoint, access, secret] = words[..] else {
            panic!("the S3 server says {ready}");
        };
        let keys =
            format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n");
        let path = folder.path().join("credentials");
        fs::write(&path, keys).expect("credentials");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("private credentials");
        let endpoint = endpoint.to_owned();
        Self {
            script,
            endpoint,
            folder,
        }
    }

    /// Makes a bucket.
    #[track_caller]
    pub fn make_bucket(&mut self, name: &str) {
        self.tell(&format!("bucket {name}"));
    }

    /// How much is in a bucket.
    #[track_caller]
    pub fn size_of(&mut self, bucket: &str) -> ByteCount {
        let answer = self.ask(&format!("size {bucket}"));
        let size = answer
            .strip_prefix("ok ")
            .and_then(|size| size.parse().ok());
        ByteCount::new(size.unwrap_or_else(|| panic!("the size of {bucket}: {answer}")))
    }

    /// Where it answers.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A file with its keys.
    pub fn credentials(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    /// Kills it, without warning. What it keeps stays.
    pub fn kill(&mut self) {
        self.tell("kill");
    }

    /// Starts it again.
    pub fn resume(&mut self) {
        self.tell("start");
    }

    #[track_caller]
    fn tell(&mut self, command: &str) {
        assert_eq!(self.ask(command), "ok", "{command}");
    }

    #[track_caller]
    fn ask(&mut self, command: &str) -> String {
        let sent = self.script.send(command);
        let answer = sent.and_then(|()| self.script.receive(START_PATIENCE));
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}
