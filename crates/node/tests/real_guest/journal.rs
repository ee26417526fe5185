//! A guest that writes to the file systems of two disks in lock-step, and what its captures show.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use stillpoint_layers::Pool;
use stillpoint_machines::Freeze;
use stillpoint_model::ByteCount;
use stillpoint_model::id::LayerId;

use super::freezing::REQUIRED;
use super::{Scene, Work, run_script};

/// How often it is captured.
const CAPTURES: usize = 20;
/// How much of a layer is copied at once.
const PIECE: u64 = 1 << 20;

/// An empty file system.
pub fn make_disk(disk: &Path, size: ByteCount) {
    File::create(disk).unwrap().set_len(size.get()).unwrap();
    let known = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"];
    let found = known.into_iter().find(|path| Path::new(path).exists());
    let program = found.unwrap_or("mkfs.ext4");
    let made = Command::new(program).args(["-q", "-F"]).arg(disk).status();
    assert!(made.unwrap().success());
}

impl Scene {
    /// How many steps a layer shows. Its file system is whole: as it is after a loss of power, or,
    /// when guests are frozen, as after it was unmounted.
    pub fn steps_written(&self, layer: LayerId) -> u64 {
        let copy = self.folder.path().join(format!("{layer}.raw"));
        self.copy_layer(layer, &copy);
        let is_frozen = self.host.freeze != Freeze::Skip;
        let flag = is_frozen.then_some("--frozen".as_ref());
        let args: Vec<_> = flag.into_iter().chain([copy.as_ref()]).collect();
        let steps = run_script("check-journal", &args);
        fs::remove_file(&copy).unwrap();
        steps.parse().unwrap()
    }

    fn copy_layer(&self, layer: LayerId, to: &Path) {
        let reader = self.pool().open_layer(layer).unwrap();
        let copy = File::create(to).unwrap();
        copy.set_len(reader.size().get()).unwrap();
        let mut piece = vec![0; usize::try_from(PIECE).unwrap()];
        let mut at = 0;
        while let Some(extent) = reader.extent_at(at).unwrap() {
            let end = extent.range.end();
            while extent.data && at < end {
                let len = usize::try_from(PIECE.min(end - at)).unwrap();
                reader.read_at(at, &mut piece[..len]).unwrap();
                copy.write_all_at(&piece[..len], at).unwrap();
                at += u64::try_from(len).unwrap();
            }
            at = end;
        }
    }

    /// Captures it again and again while it writes; how many steps each shows.
    fn capture_often(&self) -> Vec<u64> {
        self.wait_for_more();
        let capture = |_| {
            let point = self.snapshot();
            // Its first disk may already show the step that the guest says next: a later capture shows
            // more once there was another.
            self.wait_for_more();
            self.wait_for_more();
            point
        };
        let points: Vec<_> = (0..CAPTURES).map(capture).collect();
        let layers = points.into_iter().map(|point| self.layers_of(point));
        layers.map(|layers| self.written_together(layers)).collect()
    }
}

#[track_caller]
fn check_order(steps: &[u64]) {
    let distinct: BTreeSet<_> = steps.iter().collect();
    assert!(steps.is_sorted() && distinct.len() == CAPTURES, "{steps:?}");
}

#[test]
fn each_capture_of_a_guest_that_writes_is_whole_and_of_one_instant() {
    let scene = Scene::boot(Work::Journal, Freeze::Skip);
    check_order(&scene.capture_often());
}

#[test]
fn nothing_is_left_to_replay_in_what_was_captured_frozen() {
    let scene = Scene::boot(Work::Journal, REQUIRED);
    check_order(&scene.capture_often());
}
