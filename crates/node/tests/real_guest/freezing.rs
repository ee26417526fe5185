//! A driver that freezes its guests whenever it captures them, and a guard that can be held while
//! its guest is frozen.
//!
//! One of the tests here is none: it is what guards run, and does nothing unless it is told to by
//! the environment.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use stillpoint_env::SystemEnv;
use stillpoint_machines::guard::{self, GuardProgram};
use stillpoint_machines::qemu::QemuDriver;
use stillpoint_machines::{
    DiskSpec, Error, Freeze, Hypervisor, Join, JoinEnd, JoinWatch, MachineSpec, MachineView,
    Switch, SwitchReport,
};
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::{ByteCount, Env as _};

use super::{PATIENCE, Scene, pause};

/// Tells a process of this test that it is a guard.
const GUARD: &str = "STILLPOINT_NODE_GUARD";
/// Tells a process of this test that it ends, without a word, once it has switched.
pub const ENDS_AFTER_SWITCH: &str = "STILLPOINT_NODE_ENDS_AFTER_SWITCH";
/// Tells a process of this test that it ends, without a word, once a volume stands on what it was filled
/// with.
pub const ENDS_AFTER_REBASE: &str = "STILLPOINT_NODE_ENDS_AFTER_REBASE";
/// The guest is frozen until its agent is told otherwise, or this is over.
pub const REQUIRED: Freeze = Freeze::Require {
    bound: Duration::from_secs(60),
};

#[test]
fn the_guard_itself() {
    if std::env::var_os(GUARD).is_some() {
        guard::run(&SystemEnv::new(), std::io::stdin(), std::io::stdout()).unwrap();
    }
}

/// This test program as the guard. While there is a pipe `hold` in the folder, it makes a file
/// `frozen` when its guest is, and does not say so to its agent until something is written to `hold`.
pub fn guard_program(folder: &Path) -> GuardProgram {
    let script = folder.join("guard");
    let text = format!(
        "#!/bin/sh\ncd '{}'\n{GUARD}=1 '{}' --exact freezing::the_guard_itself --nocapture |\n\
         while IFS= read -r word; do\n\
         case $word in *'\"frozen\"') [ ! -p hold ] || {{ : >frozen; read -r _ <hold; }} ;; esac\n\
         printf '%s\\n' \"$word\"\ndone\n",
        folder.display(),
        std::env::current_exe().unwrap().display(),
    );
    fs::write(&script, text).unwrap();
    GuardProgram {
        program: "sh".into(),
        args: vec![script.to_string_lossy().into_owned()],
    }
}

/// Keeps a guest frozen in the middle of a capture. Dropping it lets the guard go on.
pub struct Hold(PathBuf);

impl Hold {
    /// Takes effect at the next freeze.
    pub fn new(scene: &Scene) -> Self {
        let pipe = scene.host.folder.join("hold");
        let made = Command::new("mkfifo").arg(pipe).status();
        assert!(made.unwrap().success());
        Self(scene.host.folder.clone())
    }

    /// Waits until the guest is frozen and says so.
    pub fn wait_until_frozen(&self, scene: &Scene) {
        let deadline = scene.host.env.monotonic() + PATIENCE;
        while !self.0.join("frozen").exists() {
            assert!(scene.host.env.monotonic() < deadline, "it is not frozen");
            pause();
        }
        assert_eq!(frozen_state(scene), "frozen");
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // For reading as well, so that this does not wait for somebody who reads.
        let pipe = File::options()
            .read(true)
            .write(true)
            .open(self.0.join("hold"));
        let _nobody_waits = pipe.and_then(|mut pipe| {
            fs::remove_file(self.0.join("hold"))?;
            pipe.write_all(b"go on\n")
        });
    }
}

/// What the guest says of its file systems. Nobody else may speak to its agent meanwhile.
pub fn frozen_state(scene: &Scene) -> String {
    let stream = UnixStream::connect(scene.machine_file("agent")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut ask = &stream;
    ask.write_all(b"{\"execute\": \"guest-fsfreeze-status\"}\n")
        .unwrap();
    // What comes first may answer an earlier question.
    let answers = BufReader::new(&stream).lines().map_while(Result::ok);
    let mut states = answers.filter_map(|line| {
        let answer: Value = serde_json::from_str(&line).ok()?;
        answer["return"].as_str().map(str::to_owned)
    });
    states.next().unwrap()
}

/// Waits until the guest says that it is thawed.
pub fn wait_until_thawed(scene: &Scene) {
    let deadline = scene.host.env.monotonic() + PATIENCE;
    while frozen_state(scene) != "thawed" {
        assert!(scene.host.env.monotonic() < deadline, "it stays frozen");
        pause();
    }
}

/// QEMU, whose guests are frozen as its host wants, whatever it is asked for.
pub struct Freezing {
    driver: QemuDriver,
    freeze: Freeze,
}

impl Freezing {
    pub const fn new(driver: QemuDriver, freeze: Freeze) -> Self {
        Self { driver, freeze }
    }
}

impl Hypervisor for Freezing {
    fn switch(
        &self,
        id: InstanceId,
        switches: &[Switch],
        _: Freeze,
    ) -> Result<SwitchReport, Error> {
        let switched = self.driver.switch(id, switches, self.freeze);
        if std::env::var_os(ENDS_AFTER_SWITCH).is_some() {
            assert!(switched.is_ok(), "{switched:?}");
            std::process::abort();
        }
        switched
    }

    fn machines(&self) -> Vec<InstanceId> {
        self.driver.machines()
    }

    fn inspect(&self, id: InstanceId) -> Result<MachineView, Error> {
        self.driver.inspect(id)
    }

    fn start(&self, spec: &MachineSpec) -> Result<(), Error> {
        self.driver.start(spec)
    }

    fn shut_down(
        &self,
        id: InstanceId,
        bound: Duration,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        self.driver.shut_down(id, bound, go_on)
    }

    fn kill(&self, id: InstanceId) -> Result<(), Error> {
        self.driver.kill(id)
    }

    fn pause(&self, id: InstanceId) -> Result<(), Error> {
        self.driver.pause(id)
    }

    fn resume(&self, id: InstanceId) -> Result<(), Error> {
        self.driver.resume(id)
    }

    fn delete(&self, id: InstanceId) -> Result<(), Error> {
        self.driver.delete(id)
    }

    fn plug(&self, id: InstanceId, disk: &DiskSpec) -> Result<(), Error> {
        self.driver.plug(id, disk)
    }

    fn unplug(&self, id: InstanceId, volume: VolumeId, bound: Duration) -> Result<(), Error> {
        self.driver.unplug(id, volume, bound)
    }

    fn resize(&self, id: InstanceId, volume: VolumeId, size: ByteCount) -> Result<(), Error> {
        self.driver.resize(id, volume, size)
    }

    fn rebase(
        &self,
        id: InstanceId,
        volume: VolumeId,
        tip: &str,
        below: &Value,
    ) -> Result<(), Error> {
        let rebased = self.driver.rebase(id, volume, tip, below);
        if std::env::var_os(ENDS_AFTER_REBASE).is_some() {
            assert!(rebased.is_ok(), "{rebased:?}");
            std::process::abort();
        }
        rebased
    }

    fn console(&self, id: InstanceId, max: ByteCount) -> Result<Vec<u8>, Error> {
        self.driver.console(id, max)
    }

    fn holder(&self, volume: VolumeId) -> Result<Option<InstanceId>, Error> {
        self.driver.holder(volume)
    }

    fn open_chain(&self, id: InstanceId, volume: VolumeId) -> Result<Vec<String>, Error> {
        self.driver.open_chain(id, volume)
    }

    fn can_stream(&self, id: InstanceId) -> Result<bool, Error> {
        self.driver.can_stream(id)
    }

    fn join(&self, id: InstanceId, join: &Join, watch: JoinWatch<'_>) -> Result<JoinEnd, Error> {
        self.driver.join(id, join, watch)
    }

    fn stop_joins(&self, id: InstanceId, volume: VolumeId) -> Result<(), Error> {
        self.driver.stop_joins(id, volume)
    }
}
