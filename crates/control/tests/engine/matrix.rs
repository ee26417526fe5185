//! The matrix: every operation x every task of it x every trouble. Nobody opts in: the kinds
//! come from `OperationKind::ALL`, the tasks from what the saga hands out.
//!
//! After each trouble everything is run to rest, and then: the operation is over; no row waits;
//! no lock is held; no task is left; the pool holds what the rows say and nothing else, the vault
//! too; and every item that is available has the content that it should have.

use std::collections::BTreeSet;
use std::time::Duration;

use stillpoint_control::board::Rejection;
use stillpoint_control::engine;
use stillpoint_layers::fault::Fault;
use stillpoint_model::id::{
    BackupId, ImageId, InstanceId, InstanceSnapshotId, OperationId, SnapshotId, VolumeId,
};
use stillpoint_model::image::sealed;
use stillpoint_model::instance::{InstanceState, MachineDisk, MachineOrder, Power, StopMode};
use stillpoint_model::item::{FreezePolicy, ItemState};
use stillpoint_model::layer_tree::LayerName;
use stillpoint_model::operation::{OperationKind, OperationState, Phase, Progress};
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::saga::{DiskSource, ImageContent, NewDisk, PutBack, Request, RestoreSource};
use stillpoint_model::task::{
    Assignment, ImageFormat, Report, SealPoint, TaskFailure, TaskOutcome,
};
use stillpoint_model::volume::VolumeState;
use stillpoint_model::{ByteCount, Env, ErrorKind};

use crate::ground::Wanted;
use crate::lab::{Lab, SIZE};

/// What goes wrong at a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing.
    None,
    /// The node says that it failed, before it did anything.
    Fails,
    /// The node says that it failed, after it did everything.
    FailsAfterDoing,
    /// Server and node die before the task is done.
    CrashBefore,
    /// Server and node die after it is done and before anybody heard.
    CrashAfter,
    /// The task is done twice.
    DoneTwice,
    /// The answer is given twice.
    AnsweredTwice,
    /// The node falls silent before it did anything.
    LeaseLost,
    /// The node did it and falls silent; its late answer changes nothing.
    LeaseLostAfterDoing,
    /// The same, when its late answer comes while the task is in hand again.
    LateAnswer,
    /// The node falls silent again and again.
    NeverAnswers,
    /// It works only later.
    Retries,
    /// It never works, though it might.
    RetriesForEver,
    /// The owner cancels before a node has it.
    CancelBefore,
    /// The owner cancels while a node has it, which stops.
    CancelWhile,
    /// The owner cancels while a node has it, which is done already.
    CancelAfterDoing,
    /// Nothing moves for too long, though the lease is renewed.
    NoProgress,
    /// The same, when all was done but not said.
    NoProgressAfterDoing,
    /// An operator releases the volume; the worker wakes up later.
    Released,
    /// The same, when all was done but not said.
    ReleasedAfterDoing,
    /// It fails, and each undo is done twice.
    UndoTwice,
    /// It fails, and the server dies after each undo.
    UndoCrashes,
    /// It fails, and its undo does not work for long.
    UndoFails,
    /// The pool's storage dies at this write, and the process with it.
    DiesAtWrite(u64),
    /// The pool's storage refuses this write.
    FailsAtWrite(u64),
}

const TROUBLES: &[Trouble] = &[
    Trouble::None,
    Trouble::Fails,
    Trouble::FailsAfterDoing,
    Trouble::CrashBefore,
    Trouble::CrashAfter,
    Trouble::DoneTwice,
    Trouble::AnsweredTwice,
    Trouble::LeaseLost,
    Trouble::LeaseLostAfterDoing,
    Trouble::LateAnswer,
    Trouble::NeverAnswers,
    Trouble::Retries,
    Trouble::RetriesForEver,
    Trouble::CancelBefore,
    Trouble::CancelWhile,
    Trouble::CancelAfterDoing,
    Trouble::NoProgress,
    Trouble::NoProgressAfterDoing,
    Trouble::Released,
    Trouble::ReleasedAfterDoing,
    Trouble::UndoTwice,
    Trouble::UndoCrashes,
    Trouble::UndoFails,
    Trouble::DiesAtWrite(1),
    Trouble::DiesAtWrite(2),
    Trouble::DiesAtWrite(3),
    Trouble::DiesAtWrite(4),
    Trouble::FailsAtWrite(1),
    Trouble::FailsAtWrite(2),
];

/// What a scenario starts from: a volume with a snapshot and a backup, each with its content.
pub struct Start {
    volume: VolumeId,
    snapshot: SnapshotId,
    backup: BackupId,
    /// An instance, and its root; there is one for operations about instances.
    instance: InstanceId,
    root: VolumeId,
    /// An image of the snapshot; there is one for operations about images.
    image: ImageId,
    /// A snapshot of the instance, and its parts: of the root, of the volume. There is one for
    /// operations about instance snapshots that exist.
    whole: InstanceSnapshotId,
    parts: [SnapshotId; 2],
}

/// What the instance of a scenario does at its start, and whether it has the volume.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setup {
    NoInstance,
    Image,
    Instance {
        power: Power,
        has_volume: bool,
    },
    /// One that is off and has the volume, and was captured.
    Captured,
}

/// What a way to ask for a kind starts from.
const fn setup(kind: OperationKind, variant: usize) -> Setup {
    let (power, has_volume) = match (kind, variant) {
        (OperationKind::InstanceStart, _) | (OperationKind::VolumeAttach, 1) => (Power::Off, false),
        (OperationKind::InstanceStop, 2) | (OperationKind::InstanceResume, _) => {
            (Power::Paused, false)
        }
        (
            OperationKind::InstanceStop
            | OperationKind::InstancePause
            | OperationKind::VolumeAttach,
            _,
        ) => (Power::Running, false),
        (OperationKind::InstanceSnapshotDelete | OperationKind::InstanceRebuild, _) => {
            return Setup::Captured;
        }
        (OperationKind::InstanceSnapshotCreate, 1) => (Power::Running, true),
        (OperationKind::VolumeDetach, 1) | (OperationKind::InstanceSnapshotCreate, _) => {
            (Power::Off, true)
        }
        (OperationKind::InstanceDelete | OperationKind::VolumeDetach, _) => (Power::Running, true),
        (OperationKind::ImageDelete, _)
        | (OperationKind::VolumeCreate, 1 | 2)
        | (OperationKind::InstanceCreate, 3) => return Setup::Image,
        _ => return Setup::NoInstance,
    };
    Setup::Instance { power, has_volume }
}

/// How an operation is asked for.
type Ask = fn(&Lab, &Start) -> Wanted;

pub fn content(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    for (index, block) in bytes.chunks_mut(4096).enumerate() {
        if index % 3 != 0 {
            block.fill(seed.wrapping_add(u8::try_from(index % 7).expect("small")));
        }
    }
    bytes
}

const OF_SNAPSHOT: u8 = 10;
pub const OF_BACKUP: u8 = 60;
const NOW: u8 = 110;
const OF_UPLOAD: u8 = 160;

/// Every way to ask for a kind. A new kind does not compile without one.
#[expect(clippy::too_many_lines, reason = "one arm per kind")]
fn asks(kind: OperationKind) -> &'static [Ask] {
    match kind {
        OperationKind::VolumeCreate => &[
            |lab, _| {
                let size = ByteCount::new(SIZE as u64);
                about_new_volume(lab, Request::VolumeCreate { size })
            },
            |lab, start| from_image(lab, start, SIZE),
            |lab, start| from_image(lab, start, 2 * SIZE),
        ],
        OperationKind::VolumeImport => &[|lab, _| {
            let upload = lab.upload(&content(OF_UPLOAD));
            let (format, max_size) = (ImageFormat::Raw, ByteCount::from_gib(1));
            about_new_volume(
                lab,
                Request::VolumeImport {
                    upload,
                    format,
                    max_size,
                },
            )
        }],
        OperationKind::VolumeClone => &[|lab, start| {
            about_new_volume(
                lab,
                Request::VolumeClone {
                    source: start.volume,
                },
            )
        }],
        OperationKind::VolumeResize => &[|lab, start| {
            let size = ByteCount::new(2 * SIZE as u64);
            about(lab, start, Request::VolumeResize { size })
        }],
        OperationKind::VolumeDelete => &[|lab, start| about(lab, start, Request::VolumeDelete)],
        OperationKind::SnapshotCreate => &[
            |lab, start| Wanted {
                snapshot: Some(SnapshotId::generate(&*lab.ground.env)),
                ..about(lab, start, Request::SnapshotCreate)
            },
            |lab, start| Wanted {
                snapshot: Some(SnapshotId::generate(&*lab.ground.env)),
                image: Some(ImageId::generate(&*lab.ground.env)),
                ..about(lab, start, Request::SnapshotCreate)
            },
        ],
        OperationKind::ImageCreate => &[
            |lab, start| image_of(lab, start, from_snapshot(start)),
            |lab, start| image_of(lab, start, from_backup(lab, start)),
            |lab, _| {
                let upload = lab.upload(&content(OF_UPLOAD));
                let (format, max_size) = (ImageFormat::Raw, ByteCount::from_gib(1));
                let content = ImageContent::Upload {
                    upload,
                    format,
                    max_size,
                };
                new_image(lab, content)
            },
        ],
        OperationKind::ImageDelete => &[|lab, start| Wanted {
            volume: None,
            image: Some(start.image),
            ..about(lab, start, Request::ImageDelete)
        }],
        OperationKind::SnapshotDelete => &[|lab, start| Wanted {
            snapshot: Some(start.snapshot),
            ..about(lab, start, Request::SnapshotDelete)
        }],
        OperationKind::BackupCreate => &[
            |lab, start| back_up(lab, start, None, None),
            |lab, start| back_up(lab, start, None, Some(start.backup)),
            |lab, start| back_up(lab, start, Some(start.snapshot), Some(start.backup)),
        ],
        OperationKind::BackupDelete => &[|lab, start| Wanted {
            backup: Some(start.backup),
            ..about(
                lab,
                start,
                Request::BackupDelete {
                    vault: lab.ground.ids.vault,
                },
            )
        }],
        OperationKind::BackupVerify => &[|lab, start| {
            let vault = lab.ground.ids.vault;
            Wanted {
                backup: Some(start.backup),
                ..about(lab, start, Request::BackupVerify { vault, deep: true })
            }
        }],
        OperationKind::RestoreNew => &[
            |lab, start| restore_new(lab, start, from_snapshot(start), false),
            |lab, start| restore_new(lab, start, from_backup(lab, start), false),
            |lab, start| restore_new(lab, start, from_backup(lab, start), true),
        ],
        OperationKind::RestoreInPlace => &[
            |lab, start| restore_in_place(lab, start, from_snapshot(start)),
            |lab, start| restore_in_place(lab, start, from_backup(lab, start)),
        ],
        OperationKind::InstanceCreate
        | OperationKind::InstanceStart
        | OperationKind::InstanceStop
        | OperationKind::InstancePause
        | OperationKind::InstanceResume
        | OperationKind::InstanceDelete
        | OperationKind::VolumeAttach
        | OperationKind::VolumeDetach
        | OperationKind::InstanceSnapshotCreate
        | OperationKind::InstanceSnapshotDelete
        | OperationKind::InstanceRebuild => asks_of_instance(kind),
    }
}

/// The same of the kinds that are about instances.
fn asks_of_instance(kind: OperationKind) -> &'static [Ask] {
    match kind {
        OperationKind::InstanceCreate => &[
            |lab, start| new_instance(lab, start, empty(), true),
            |lab, start| new_instance(lab, start, of_point(from_snapshot(start), false), false),
            |lab, start| new_instance(lab, start, of_point(from_backup(lab, start), false), true),
            |lab, start| new_instance(lab, start, of_point(from_backup(lab, start), true), false),
            |lab, start| {
                let (image_id, size) = (start.image, ByteCount::new(SIZE as u64));
                Wanted {
                    image: Some(image_id),
                    ..new_instance(lab, start, DiskSource::Image { image_id, size }, true)
                }
            },
        ],
        OperationKind::InstanceStart => &[|lab, start| {
            let machine = machine(lab, &[start.root]);
            of_instance(lab, start, Request::InstanceStart { machine })
        }],
        OperationKind::InstanceStop => &[
            |lab, start| stop(lab, start, StopMode::USUAL),
            |lab, start| stop(lab, start, StopMode::Forced),
            |lab, start| stop(lab, start, StopMode::Forced),
        ],
        OperationKind::InstancePause => {
            &[|lab, start| of_instance(lab, start, Request::InstancePause)]
        }
        OperationKind::InstanceResume => {
            &[|lab, start| of_instance(lab, start, Request::InstanceResume)]
        }
        OperationKind::InstanceDelete => &[|lab, start| {
            let request = Request::InstanceDelete {
                was: InstanceState::Active,
                keep: vec![start.volume],
                delete: vec![start.root],
            };
            of_instance(lab, start, request)
        }],
        OperationKind::VolumeAttach => &[attach, attach],
        OperationKind::VolumeDetach => &[detach, detach],
        OperationKind::InstanceSnapshotCreate => &[
            capture,
            capture,
            // Its root becomes an image at once.
            |lab, start| Wanted {
                image: Some(ImageId::generate(&*lab.ground.env)),
                ..capture(lab, start)
            },
        ],
        OperationKind::InstanceSnapshotDelete => &[|lab, start| forget(lab, start)],
        OperationKind::InstanceRebuild => &[
            |lab, start| rebuild(lab, start, false),
            |lab, start| rebuild(lab, start, true),
        ],
        other => panic!("{other} is about no instance"),
    }
}

fn of_instance(lab: &Lab, start: &Start, request: Request) -> Wanted {
    Wanted {
        volume: None,
        instance: Some(start.instance),
        ..about(lab, start, request)
    }
}

fn stop(lab: &Lab, start: &Start, mode: StopMode) -> Wanted {
    of_instance(lab, start, Request::InstanceStop { mode })
}

fn disk(lab: &Lab, volume_id: VolumeId, place: u32) -> MachineDisk {
    MachineDisk {
        volume_id,
        pool_id: lab.pool_id,
        place,
    }
}

fn machine(lab: &Lab, volumes: &[VolumeId]) -> MachineOrder {
    MachineOrder {
        hostname: "web".into(),
        vcpus: 1,
        memory: ByteCount::from_mib(256),
        disks: (0..)
            .zip(volumes)
            .map(|(place, id)| disk(lab, *id, place))
            .collect(),
    }
}

fn attach(lab: &Lab, start: &Start) -> Wanted {
    let disk = disk(lab, start.volume, 9);
    Wanted {
        instance: Some(start.instance),
        ..about(lab, start, Request::VolumeAttach { disk })
    }
}

fn detach(lab: &Lab, start: &Start) -> Wanted {
    let disk = disk(lab, start.volume, 9);
    Wanted {
        instance: Some(start.instance),
        ..about(lab, start, Request::VolumeDetach { disk })
    }
}

fn capture(lab: &Lab, start: &Start) -> Wanted {
    let volumes = [start.root, start.volume].into_iter().zip(start.parts);
    let point = |(volume_id, snapshot_id)| SealPoint {
        volume_id,
        snapshot_id,
    };
    let request = Request::InstanceSnapshotCreate {
        points: volumes.map(point).collect(),
        freeze: FreezePolicy::Try,
        memory: false,
    };
    Wanted {
        whole: Some(start.whole),
        ..of_instance(lab, start, request)
    }
}

/// Deletes the instance snapshot.
fn forget(lab: &Lab, start: &Start) -> Wanted {
    let snapshots = start.parts.to_vec();
    Wanted {
        whole: Some(start.whole),
        instance: None,
        ..of_instance(lab, start, Request::InstanceSnapshotDelete { snapshots })
    }
}

/// The root goes back to what it was when the instance was captured, the volume to its snapshot.
/// What goes on from memory does not in this lab, whose machines have none.
fn rebuild(lab: &Lab, start: &Start, go_on: bool) -> Wanted {
    let put_back = |volume_id, snapshot_id| PutBack {
        volume_id,
        snapshot_id,
        safety_id: SnapshotId::generate(&*lab.ground.env),
    };
    let request = Request::InstanceRebuild {
        put_back: vec![
            put_back(start.root, start.parts[0]),
            put_back(start.volume, start.snapshot),
        ],
        go_on: go_on.then(|| machine(lab, &[start.root, start.volume])),
    };
    Wanted {
        whole: Some(start.whole),
        ..of_instance(lab, start, request)
    }
}

const fn empty() -> DiskSource {
    DiskSource::Empty {
        size: ByteCount::new(SIZE as u64),
    }
}

const fn of_point(source: RestoreSource, instant: bool) -> DiskSource {
    DiskSource::RestorePoint { source, instant }
}

/// An instance with a new root, and with the volume of the scenario.
fn new_instance(lab: &Lab, begin: &Start, from: DiskSource, start: bool) -> Wanted {
    let env = &*lab.ground.env;
    let volume_id = VolumeId::generate(env);
    let request = Request::InstanceCreate {
        machine: machine(lab, &[volume_id, begin.volume]),
        make: vec![NewDisk { volume_id, from }],
        start,
        memory: None,
    };
    let (snapshot, backup) = request.reads();
    Wanted {
        instance: Some(InstanceId::generate(env)),
        snapshot,
        backup,
        ..of_instance(lab, begin, request)
    }
}

/// A volume that starts as the image of the scenario.
fn from_image(lab: &Lab, start: &Start, size: usize) -> Wanted {
    let (image_id, size) = (start.image, ByteCount::new(size as u64));
    Wanted {
        image: Some(image_id),
        ..about_new_volume(lab, Request::VolumeFromImage { image_id, size })
    }
}

fn new_image(lab: &Lab, content: ImageContent) -> Wanted {
    Wanted {
        volume: None,
        image: Some(ImageId::generate(&*lab.ground.env)),
        ..about_new_volume(lab, Request::ImageCreate { content })
    }
}

fn image_of(lab: &Lab, start: &Start, source: RestoreSource) -> Wanted {
    let content = ImageContent::RestorePoint { source };
    with_source(start, source, new_image(lab, content))
}

/// Brings the instance, or the image, of a scenario to where it starts.
async fn set_up(lab: &Lab, start: &Start, setup: Setup) {
    if setup == Setup::Image {
        let image = Some(start.image);
        let wanted = image_of(lab, start, from_snapshot(start));
        done(lab, Wanted { image, ..wanted }).await;
    }
    let (power, has_volume) = match setup {
        Setup::NoInstance | Setup::Image => return,
        Setup::Instance { power, has_volume } => (power, has_volume),
        Setup::Captured => (Power::Off, true),
    };
    let request = Request::InstanceCreate {
        machine: machine(lab, &[start.root]),
        make: vec![NewDisk {
            volume_id: start.root,
            from: empty(),
        }],
        start: power != Power::Off,
        memory: None,
    };
    done(lab, of_instance(lab, start, request)).await;
    if has_volume {
        done(lab, attach(lab, start)).await;
    }
    if power == Power::Paused {
        done(lab, of_instance(lab, start, Request::InstancePause)).await;
    }
    if setup == Setup::Captured {
        done(lab, capture(lab, start)).await;
    }
}

fn about(lab: &Lab, start: &Start, request: Request) -> Wanted {
    Wanted {
        request,
        pool: lab.pool_id,
        volume: Some(start.volume),
        snapshot: None,
        backup: None,
        instance: None,
        image: None,
        whole: None,
    }
}

fn about_new_volume(lab: &Lab, request: Request) -> Wanted {
    Wanted {
        request,
        pool: lab.pool_id,
        volume: Some(VolumeId::generate(&*lab.ground.env)),
        snapshot: None,
        backup: None,
        instance: None,
        image: None,
        whole: None,
    }
}

fn back_up(
    lab: &Lab,
    start: &Start,
    snapshot_id: Option<SnapshotId>,
    parent: Option<BackupId>,
) -> Wanted {
    let vault = lab.ground.ids.vault;
    Wanted {
        snapshot: snapshot_id,
        backup: Some(BackupId::generate(&*lab.ground.env)),
        ..about(
            lab,
            start,
            Request::BackupCreate {
                vault,
                snapshot_id,
                parent,
            },
        )
    }
}

fn from_snapshot(start: &Start) -> RestoreSource {
    RestoreSource::Snapshot {
        snapshot_id: start.snapshot,
    }
}

pub fn from_backup(lab: &Lab, start: &Start) -> RestoreSource {
    RestoreSource::Backup {
        backup_id: start.backup,
        source_volume_id: start.volume,
        vault: lab.ground.ids.vault,
    }
}

fn with_source(start: &Start, source: RestoreSource, wanted: Wanted) -> Wanted {
    match source {
        RestoreSource::Snapshot { .. } => Wanted {
            snapshot: Some(start.snapshot),
            ..wanted
        },
        RestoreSource::Backup { .. } => Wanted {
            backup: Some(start.backup),
            ..wanted
        },
    }
}

pub fn restore_new(lab: &Lab, start: &Start, source: RestoreSource, instant: bool) -> Wanted {
    with_source(
        start,
        source,
        about_new_volume(lab, Request::RestoreNew { source, instant }),
    )
}

fn restore_in_place(lab: &Lab, start: &Start, source: RestoreSource) -> Wanted {
    let request = Request::RestoreInPlace {
        source,
        safety_id: SnapshotId::generate(&*lab.ground.env),
        staged_id: VolumeId::generate(&*lab.ground.env),
    };
    with_source(start, source, about(lab, start, request))
}

pub async fn done(lab: &Lab, wanted: Wanted) {
    let id = lab.ground.accept(wanted).await;
    lab.run_to_rest().await;
    let op = lab.ground.operation(id).await;
    assert_eq!(op.state, OperationState::Succeeded, "{:?}", op.failure);
}

pub async fn start(lab: &Lab) -> Start {
    let env = &*lab.ground.env;
    let start = Start {
        volume: VolumeId::generate(env),
        snapshot: SnapshotId::generate(env),
        backup: BackupId::generate(env),
        instance: InstanceId::generate(env),
        root: VolumeId::generate(env),
        image: ImageId::generate(env),
        whole: InstanceSnapshotId::generate(env),
        parts: [SnapshotId::generate(env), SnapshotId::generate(env)],
    };
    let size = ByteCount::new(SIZE as u64);
    done(lab, about(lab, &start, Request::VolumeCreate { size })).await;
    lab.write(start.volume, &content(OF_SNAPSHOT)).await;
    let snapshot = Some(start.snapshot);
    done(
        lab,
        Wanted {
            snapshot,
            ..about(lab, &start, Request::SnapshotCreate)
        },
    )
    .await;
    lab.write(start.volume, &content(OF_BACKUP)).await;
    let backup = Some(start.backup);
    done(
        lab,
        Wanted {
            backup,
            ..back_up(lab, &start, None, None)
        },
    )
    .await;
    lab.write(start.volume, &content(NOW)).await;
    start
}

pub fn failure(kind: ErrorKind) -> TaskFailure {
    TaskFailure {
        kind,
        code: ProblemCode::Internal,
        text: "It did not work.".into(),
        detail: "on purpose".into(),
    }
}

/// One cell of the matrix, under way.
struct Cell<'a> {
    lab: &'a mut Lab,
    op: OperationId,
    trouble: Trouble,
    /// The task that it happens at, counted from 0.
    at: usize,
    seen: usize,
    struck: bool,
    /// Tasks after the trouble.
    after: usize,
}

impl Cell<'_> {
    /// Runs to rest. Answers how many tasks the operation had.
    async fn run(&mut self) -> usize {
        for _ in 0..6000 {
            self.lab.settle().await;
            if self.trouble == Trouble::CancelBefore && self.seen == self.at && !self.struck {
                self.struck = true;
                self.cancel().await;
                continue;
            }
            let Some(task) = self.lab.take().await else {
                if self.lab.is_at_rest().await {
                    return self.seen;
                }
                self.lab.ground.env.advance(Duration::from_secs(7));
                continue;
            };
            let mine = task.operation_id == Some(self.op);
            let index = self.seen;
            self.seen += usize::from(mine);
            if mine && index == self.at && !self.struck {
                self.struck = true;
                self.strike(&task).await;
            } else if mine && self.struck {
                self.after += 1;
                self.aftermath(&task).await;
            } else {
                self.plainly(&task).await;
            }
        }
        panic!("it never comes to rest");
    }

    async fn plainly(&self, task: &Assignment) {
        let result = self.lab.perform(task);
        self.lab.finish(task, result).await.expect("heard");
    }

    async fn say(&self, task: &Assignment, result: Result<TaskOutcome, TaskFailure>) {
        self.lab.finish(task, result).await.expect("heard");
    }

    async fn cancel(&self) {
        let (op, now) = (self.op, self.lab.ground.env.now());
        self.lab
            .ground
            .db
            .write(move |tx| Box::pin(async move { engine::cancel(tx, op, now).await }))
            .await
            .expect("cancelled");
        self.lab.settle().await;
    }

    async fn release(&self) {
        let (op, now) = (self.op, self.lab.ground.env.now());
        self.lab
            .ground
            .db
            .write(move |tx| Box::pin(async move { engine::release(tx, op, "stuck", now).await }))
            .await
            .expect("released");
    }

    /// A worker that was given up says that it is done: nobody may believe it.
    async fn too_late(&self, task: &Assignment, result: Result<TaskOutcome, TaskFailure>) {
        let fence = self.lab.ground.operation(self.op).await.fence;
        assert!(fence > task.fence, "{fence}: the fence was not raised");
        let heard = self.lab.finish(task, result).await;
        assert!(matches!(heard, Err(Rejection::Fenced)), "{heard:?}");
        let confirmed = self.lab.board.confirm(task.task_id, task.fence).await;
        assert!(matches!(confirmed, Err(Rejection::Fenced)), "{confirmed:?}");
    }

    fn wait(&self, seconds: u64) {
        self.lab.ground.env.advance(Duration::from_secs(seconds));
    }

    /// The plan's time without progress passes. The lease is renewed all the while, and the
    /// engine looks often, as it does.
    async fn nothing_moves(&self, task: &Assignment) {
        for _ in 0..36 {
            self.wait(20);
            let report = Report {
                task_id: task.task_id,
                fence: task.fence,
                progress: Progress::start(Phase::DataCapture),
            };
            let fenced = self.lab.board.report(report).await.is_err();
            self.lab.settle().await;
            if fenced {
                return;
            }
        }
        panic!("it was never ended");
    }

    #[expect(clippy::too_many_lines, reason = "one arm per trouble")]
    async fn strike(&mut self, task: &Assignment) {
        match self.trouble {
            Trouble::None | Trouble::CancelBefore => self.plainly(task).await,
            Trouble::Fails => self.say(task, Err(failure(ErrorKind::Internal))).await,
            Trouble::FailsAfterDoing
            | Trouble::UndoTwice
            | Trouble::UndoCrashes
            | Trouble::UndoFails => {
                drop(self.lab.perform(task));
                self.say(task, Err(failure(ErrorKind::Internal))).await;
            }
            Trouble::CrashBefore => self.lab.restart().await,
            Trouble::CrashAfter => {
                drop(self.lab.perform(task));
                self.lab.restart().await;
            }
            Trouble::DoneTwice => {
                let first = self.lab.perform(task);
                let second = self.lab.perform(task);
                assert_eq!(first.is_ok(), second.is_ok(), "{first:?} then {second:?}");
                self.say(task, second).await;
            }
            Trouble::AnsweredTwice => {
                let result = self.lab.perform(task);
                self.say(task, result.clone()).await;
                self.say(task, result).await;
            }
            Trouble::LeaseLost => self.wait(31),
            Trouble::LeaseLostAfterDoing => {
                let result = self.lab.perform(task);
                self.wait(31);
                self.lab.settle().await;
                self.too_late(task, result).await;
            }
            Trouble::LateAnswer => {
                self.wait(31);
                self.lab.settle().await;
                self.wait(3);
                let again = self.lab.take().await.expect("the task, given again");
                assert_eq!(again.task_id, task.task_id);
                self.seen += 1;
                self.too_late(task, Err(failure(ErrorKind::Internal))).await;
                self.plainly(&again).await;
            }
            Trouble::NeverAnswers => self.wait(31),
            Trouble::Retries | Trouble::RetriesForEver => {
                self.say(task, Err(failure(ErrorKind::Retry))).await;
            }
            Trouble::CancelWhile => {
                self.cancel().await;
                let stopped = self.lab.board.confirm(task.task_id, task.fence).await;
                drop(stopped);
                self.say(task, Err(failure(ErrorKind::Cancelled))).await;
            }
            Trouble::CancelAfterDoing => {
                let result = self.lab.perform(task);
                self.cancel().await;
                self.say(task, result).await;
            }
            Trouble::NoProgress | Trouble::NoProgressAfterDoing => {
                let doing = self.trouble == Trouble::NoProgressAfterDoing;
                let result = if doing {
                    self.lab.perform(task)
                } else {
                    Ok(TaskOutcome::Done)
                };
                self.nothing_moves(task).await;
                self.too_late(task, result).await;
            }
            Trouble::Released | Trouble::ReleasedAfterDoing => {
                let doing = self.trouble == Trouble::ReleasedAfterDoing;
                let result = if doing {
                    self.lab.perform(task)
                } else {
                    Ok(TaskOutcome::Done)
                };
                self.release().await;
                self.too_late(task, result).await;
            }
            Trouble::DiesAtWrite(write) => {
                self.lab.faults.inject(write, Fault::CrashAfter);
                let result = self.lab.perform(task);
                if self.lab.faults.steps() >= write {
                    self.lab.restart().await;
                } else {
                    self.lab.faults.clear();
                    self.say(task, result).await;
                }
            }
            Trouble::FailsAtWrite(write) => {
                self.lab.faults.inject(write, Fault::Fail);
                let result = self.lab.perform(task);
                self.lab.faults.clear();
                self.say(task, result).await;
            }
        }
    }

    /// The tasks of the operation after the trouble.
    async fn aftermath(&mut self, task: &Assignment) {
        match self.trouble {
            Trouble::NeverAnswers if self.after < 12 => self.wait(31),
            Trouble::RetriesForEver if self.after < 8 => {
                self.say(task, Err(failure(ErrorKind::Retry))).await;
            }
            Trouble::UndoTwice => {
                drop(self.lab.perform(task));
                self.plainly(task).await;
            }
            Trouble::UndoCrashes if self.after < 4 => {
                drop(self.lab.perform(task));
                self.lab.restart().await;
            }
            Trouble::UndoFails if self.after < 11 => {
                self.say(task, Err(failure(ErrorKind::Internal))).await;
            }
            _ => self.plainly(task).await,
        }
    }
}

/// Whether nothing is left over, and everything that is available is what it should be.
async fn check(lab: &Lab, start: &Start, wanted: &Wanted, op: OperationId, cell: &str) {
    let op = lab.ground.operation(op).await;
    assert!(op.state.is_terminal(), "{cell}: {}", op.state);
    let succeeded = op.state == OperationState::Succeeded;
    check_filling(lab, wanted, succeeded, cell).await;
    check_rows(lab, start, wanted, cell).await;
    check_instances(lab, start, wanted, succeeded, cell).await;
    check_pool(lab, cell).await;
    check_vault(lab, cell).await;
    check_contents(lab, start, wanted, succeeded, cell).await;
    if op.kind.starts_cooldown() {
        let about = lab
            .ground
            .volume(op.volume_id.unwrap_or(start.volume))
            .await;
        let rests = about.is_some_and(|v| v.cooldown_until.is_some());
        assert_eq!(
            rests, succeeded,
            "{cell}: a cooldown follows success and nothing else"
        );
    }
}

/// What is used before it is whole says so, and is whole once that was seen to.
async fn check_filling(lab: &Lab, wanted: &Wanted, succeeded: bool, cell: &str) {
    let filled = match &wanted.request {
        Request::RestoreNew { instant: true, .. } => wanted.volume,
        Request::InstanceCreate { make, .. } => make
            .iter()
            .find(|disk| matches!(disk.from, DiskSource::RestorePoint { instant: true, .. }))
            .map(|disk| disk.volume_id),
        _ => None,
    };
    let Some(volume) = filled else { return };
    let filling = match lab.ground.volume(volume).await {
        Some(row) => row.filling,
        None => None,
    };
    assert_eq!(filling, wanted.backup.filter(|_| succeeded), "{cell}");
    lab.fill().await;
}

async fn check_rows(lab: &Lab, start: &Start, wanted: &Wanted, cell: &str) {
    let volumes = [Some(start.volume), wanted.volume];
    for id in volumes.into_iter().flatten() {
        let Some(row) = lab.ground.volume(id).await else {
            continue;
        };
        assert_eq!(row.active_operation, None, "{cell}: a lock is left");
        let settled = match row.state {
            VolumeState::Available | VolumeState::Failed => row.attachment.is_none(),
            VolumeState::InUse => row.attachment.is_some(),
            VolumeState::Creating | VolumeState::Deleting => false,
        };
        assert!(settled, "{cell}: the volume is {}", row.state);
        let explained = (row.state == VolumeState::Failed) == row.failure.is_some();
        assert!(
            explained,
            "{cell}: {} because of {:?}",
            row.state, row.failure
        );
    }
    let settled = |state| matches!(state, ItemState::Available | ItemState::Failed);
    for id in snapshots(start, wanted) {
        let Some(row) = lab.ground.snapshot(id).await else {
            continue;
        };
        assert!(settled(row.state), "{cell}: the snapshot is {}", row.state);
        let explained = (row.state == ItemState::Failed) == row.failure.is_some();
        assert!(
            explained,
            "{cell}: {} because of {:?}",
            row.state, row.failure
        );
    }
    if let Some(row) = lab.ground.whole(start.whole).await {
        assert!(settled(row.state), "{cell}: the whole is {}", row.state);
        let explained = (row.state == ItemState::Failed) == row.failure.is_some();
        assert!(explained, "{cell}: because of {:?}", row.failure);
    }
    for id in [Some(start.backup), wanted.backup].into_iter().flatten() {
        let Some(row) = lab.ground.backup(id).await else {
            continue;
        };
        assert!(settled(row.state), "{cell}: the backup is {}", row.state);
        let explained = (row.state == ItemState::Failed) == row.failure.is_some();
        assert!(
            explained,
            "{cell}: {} because of {:?}",
            row.state, row.failure
        );
    }
}

/// Rows and machines say the same, and the operation did what it was for.
async fn check_instances(lab: &Lab, start: &Start, wanted: &Wanted, succeeded: bool, cell: &str) {
    for id in [Some(start.instance), wanted.instance]
        .into_iter()
        .flatten()
    {
        let (row, seen) = (lab.ground.instance(id).await, lab.machines.seen(id));
        let Some(row) = row else {
            assert_eq!(seen.power, Power::Off, "{cell}: a machine without a row");
            continue;
        };
        assert_eq!(row.active_operation, None, "{cell}: the instance is held");
        assert_eq!(row.power, seen.power, "{cell}: row and machine");
        let settled = row.state == InstanceState::Failed || row.state == row.power.settled_state();
        assert!(settled, "{cell}: the instance is {}", row.state);
        let volumes = lab.ground.volumes_of(id).await;
        let mut attached: Vec<_> = volumes.iter().map(|v| v.id).collect();
        let mut open = seen.open;
        attached.sort();
        open.sort();
        if row.power.has_volumes_open() {
            assert_eq!(attached, open, "{cell}: attached and open");
        }
        for volume in volumes {
            assert_eq!(volume.active_operation, None, "{cell}: a lock is left");
            let there = lab.pool.volume(volume.id).is_ok();
            assert!(there, "{cell}: an attached volume is not in the pool");
        }
    }
    if matches!(wanted.request, Request::InstanceSnapshotDelete { .. }) {
        let whole = lab.ground.whole(start.whole).await;
        assert_eq!(whole.is_none(), succeeded, "{cell}");
    }
    if let Some(id) = wanted.instance {
        check_purpose(lab, start, wanted, id, succeeded, cell).await;
    }
}

/// Whether an operation about an instance did what it was for, when it says so.
async fn check_purpose(
    lab: &Lab,
    start: &Start,
    wanted: &Wanted,
    id: InstanceId,
    succeeded: bool,
    cell: &str,
) {
    let row = lab.ground.instance(id).await;
    let power = row.as_ref().map(|row| row.power);
    let volume = lab.ground.volume(start.volume).await;
    let has_volume = volume.is_some_and(|v| v.own_instance().is_some_and(|own| own.id == id));
    match &wanted.request {
        Request::InstanceCreate {
            make, start: on, ..
        } => {
            let made = row.is_some_and(|row| row.state != InstanceState::Failed);
            assert_eq!(made, succeeded, "{cell}");
            assert_eq!(has_volume, succeeded, "{cell}: the volume that existed");
            let there = lab.pool.volume(make[0].volume_id).is_ok();
            assert_eq!(there, succeeded, "{cell}: the new root");
            let running = if *on { Power::Running } else { Power::Off };
            assert!(!succeeded || power == Some(running), "{cell}: {power:?}");
            if succeeded {
                let expected = match make[0].from {
                    DiskSource::Empty { .. } => vec![0; SIZE],
                    DiskSource::Image { .. } => content(OF_SNAPSHOT),
                    DiskSource::RestorePoint { .. } if wanted.snapshot.is_some() => {
                        content(OF_SNAPSHOT)
                    }
                    DiskSource::RestorePoint { .. } => content(OF_BACKUP),
                };
                let read = lab.volume_content(make[0].volume_id);
                assert!(read == expected, "{cell}: the new root's content");
            }
        }
        // One whose worker was given up may have done it: then the row follows the machine.
        Request::InstanceStart { .. } | Request::InstanceResume => {
            assert!(!succeeded || power == Some(Power::Running), "{cell}");
        }
        Request::InstanceStop { .. } => {
            assert!(!succeeded || power == Some(Power::Off), "{cell}");
        }
        Request::InstancePause => {
            assert!(!succeeded || power == Some(Power::Paused), "{cell}");
        }
        Request::InstanceDelete { .. } => {
            assert_eq!(power.is_none(), succeeded, "{cell}");
            let there = lab.pool.volume(start.root).is_ok();
            assert_eq!(there, !succeeded, "{cell}: the root that goes with it");
        }
        Request::InstanceSnapshotCreate { .. } => {
            let whole = lab.ground.whole(start.whole).await;
            let usable = whole.is_some_and(|whole| whole.state == ItemState::Available);
            assert_eq!(usable, succeeded, "{cell}");
            for part in start.parts {
                let row = lab.ground.snapshot(part).await;
                let usable = row.is_some_and(|row| row.state == ItemState::Available);
                assert_eq!(usable, succeeded, "{cell}: a part");
            }
            if succeeded {
                let read = lab.snapshot_content(start.parts[1]);
                assert!(read == content(NOW), "{cell}: the part of the volume");
            }
        }
        Request::InstanceRebuild { put_back, .. } => {
            for one in put_back {
                let kept = lab.ground.snapshot(one.safety_id).await.is_some();
                assert!(kept || !succeeded, "{cell}: success keeps what was there");
            }
        }
        Request::VolumeAttach { .. } => assert!(has_volume || !succeeded, "{cell}"),
        Request::VolumeDetach { .. } => assert!(!has_volume || !succeeded, "{cell}"),
        _ => {}
    }
}

fn safety_of(wanted: &Wanted) -> Option<SnapshotId> {
    match wanted.request {
        Request::RestoreInPlace { safety_id, .. } => Some(safety_id),
        // That of the volume; that of the root comes before it.
        Request::InstanceRebuild { ref put_back, .. } => put_back.last().map(|one| one.safety_id),
        _ => None,
    }
}

fn snapshots(start: &Start, wanted: &Wanted) -> BTreeSet<SnapshotId> {
    [Some(start.snapshot), wanted.snapshot, safety_of(wanted)]
        .into_iter()
        .flatten()
        .chain(start.parts)
        .chain(wanted.request.other_snapshots())
        .collect()
}

/// Every name in the pool has a row that needs it.
async fn check_pool(lab: &Lab, cell: &str) {
    let tree = lab.pool.tree();
    for (layer, _) in tree.layers() {
        for name in tree.names(layer) {
            let needed = match name {
                LayerName::Tip(id) => lab.ground.volume(id).await.is_some(),
                LayerName::Snapshot(id) | LayerName::Safety(id) => {
                    let image = ImageId::from_uuid(id.as_uuid());
                    lab.ground.snapshot(id).await.is_some()
                        || lab.ground.image(image).await.is_some()
                }
                LayerName::Pending(_) | LayerName::Filling(_) => false,
                LayerName::Capture(_, id) => {
                    let row = lab.ground.backup(id).await;
                    row.is_some_and(|b| b.content_hash.is_some())
                }
            };
            assert!(needed, "{cell}: the pool still holds {name:?}");
        }
    }
    assert_eq!(tree.inconsistencies(), vec![], "{cell}");
    assert_eq!(lab.pool.orphans().expect("a listing"), vec![], "{cell}");
    assert_eq!(
        lab.pool.merge_candidates(),
        vec![],
        "{cell}: the pool was not tidied"
    );
}

/// The vault holds the backups that are listed, and nothing that nobody names.
async fn check_vault(lab: &Lab, cell: &str) {
    let Some(vault) = lab.vault() else { return };
    for info in vault.list_backups(None).expect("a listing") {
        let row = lab.ground.backup(info.backup_id).await;
        // Whether a deletion that failed got there is open: it is listed, and deleted again.
        if row
            .as_ref()
            .is_some_and(|b| b.state == ItemState::Failed && b.content_hash.is_some())
        {
            continue;
        }
        let listed = row.is_some_and(|b| b.state == ItemState::Available);
        let deleted = info.deleted.is_some();
        assert!(
            listed != deleted,
            "{cell}: {} listed {listed}, deleted {deleted}",
            info.backup_id
        );
    }
    let left = vault.unreferenced().expect("a listing");
    assert!(
        left.runs.is_empty() && left.objects.is_empty(),
        "{cell}: {left:?}"
    );
    assert!(left.unknown.is_empty(), "{cell}: {left:?}");
}

async fn check_contents(lab: &Lab, start: &Start, wanted: &Wanted, succeeded: bool, cell: &str) {
    let kind = wanted.request.kind();
    if let Some(row) = lab.ground.snapshot(start.snapshot).await
        && row.state == ItemState::Available
    {
        assert!(
            lab.snapshot_content(start.snapshot) == content(OF_SNAPSHOT),
            "{cell}: snapshot"
        );
    } else {
        assert_eq!(
            kind,
            OperationKind::SnapshotDelete,
            "{cell}: a snapshot was lost"
        );
    }
    if let Some(row) = lab.ground.backup(start.backup).await
        && row.state == ItemState::Available
    {
        let read = lab.backup_content(start.volume, start.backup);
        assert!(read == content(OF_BACKUP), "{cell}: backup");
    } else {
        let about_it = matches!(
            kind,
            OperationKind::BackupDelete | OperationKind::BackupVerify
        );
        assert!(
            about_it && wanted.backup == Some(start.backup),
            "{cell}: a backup was lost"
        );
        assert_ne!(
            kind,
            OperationKind::BackupVerify,
            "{cell}: a good backup was condemned"
        );
    }
    check_volume(lab, start, wanted, succeeded, cell).await;
    check_images(lab, start, wanted, succeeded, cell).await;
    check_made(lab, wanted, succeeded, cell).await;
}

/// The volume that everything started from.
async fn check_volume(lab: &Lab, start: &Start, wanted: &Wanted, succeeded: bool, cell: &str) {
    let row = lab.ground.volume(start.volume).await;
    if wanted.request.kind() == OperationKind::VolumeDelete {
        assert_eq!(row.is_none(), succeeded, "{cell}: deleted or not");
        return;
    }
    let row = row.expect("the volume is listed");
    assert_ne!(row.state, VolumeState::Failed, "{cell}");
    let info = lab.pool.volume(start.volume).expect("the volume is there");
    assert_eq!(
        row.size, info.size,
        "{cell}: the row says another size than the pool"
    );
    let read = lab.volume_content(start.volume);
    let (now, safety) = (content(NOW), safety_of(wanted));
    let Some(safety) = safety else {
        assert!(read[..SIZE] == now, "{cell}: the volume changed");
        return;
    };
    let of_whole = wanted.whole.map(|_| start.snapshot);
    let back = match wanted.snapshot.or(of_whole) {
        Some(_) => content(OF_SNAPSHOT),
        None => content(OF_BACKUP),
    };
    let kept = lab.ground.snapshot(safety).await.is_some();
    if kept {
        assert!(
            read == back,
            "{cell}: a safety snapshot means that it was put back"
        );
        assert!(
            lab.snapshot_content(safety) == now,
            "{cell}: the safety snapshot"
        );
    } else {
        assert!(
            read == now,
            "{cell}: without a safety snapshot nothing was put back"
        );
    }
    assert!(kept || !succeeded, "{cell}: success keeps what was there");
}

/// Images have their content, and an operation about one did what it was for.
async fn check_images(lab: &Lab, start: &Start, wanted: &Wanted, succeeded: bool, cell: &str) {
    for id in images(start, wanted) {
        let row = lab.ground.image(id).await;
        let usable = row
            .as_ref()
            .is_some_and(|i| i.state == ItemState::Available);
        if let Some(row) = &row {
            let failed = row.state == ItemState::Failed && row.failure.is_some();
            assert!(usable || failed, "{cell}: the image is {}", row.state);
        }
        let expected = match wanted.request {
            Request::SnapshotCreate => content(NOW),
            Request::ImageCreate {
                content: ImageContent::Upload { .. },
            } => content(OF_UPLOAD),
            Request::ImageCreate { .. } if wanted.backup.is_some() => content(OF_BACKUP),
            // Nothing was written to the root.
            Request::InstanceSnapshotCreate { .. } => vec![0; SIZE],
            _ => content(OF_SNAPSHOT),
        };
        let there = lab.pool.snapshot_layer(sealed(id)).is_ok();
        if usable {
            let read = lab.snapshot_content(sealed(id));
            assert!(read == expected, "{cell}: the image's content");
            let size = row.as_ref().map(|row| row.size.get());
            assert_eq!(size, Some(SIZE as u64), "{cell}: the image's size");
        }
        match wanted.request {
            Request::ImageDelete => assert_eq!(row.is_none(), succeeded, "{cell}"),
            Request::SnapshotCreate
            | Request::InstanceSnapshotCreate { .. }
            | Request::ImageCreate { .. }
                if id != start.image =>
            {
                assert_eq!(usable, succeeded, "{cell}");
                assert_eq!(there, succeeded, "{cell}: the image in the pool");
            }
            _ => assert_eq!(usable, row.is_some(), "{cell}: what is only read stays"),
        }
    }
}

fn images(start: &Start, wanted: &Wanted) -> BTreeSet<ImageId> {
    let both = [Some(start.image), wanted.image];
    both.into_iter().flatten().collect()
}

/// What the operation was to make.
#[expect(clippy::too_many_lines, reason = "one arm per kind")]
async fn check_made(lab: &Lab, wanted: &Wanted, succeeded: bool, cell: &str) {
    let Some(volume) = wanted.volume else { return };
    let expected = match wanted.request {
        Request::VolumeCreate { .. } => Some(vec![0; SIZE]),
        Request::VolumeFromImage { size, .. } => {
            let mut image = content(OF_SNAPSHOT);
            image.resize(usize::try_from(size.get()).expect("small"), 0);
            Some(image)
        }
        Request::VolumeImport { .. } => Some(content(OF_UPLOAD)),
        Request::VolumeClone { .. } => Some(content(NOW)),
        Request::RestoreNew {
            source: RestoreSource::Snapshot { .. },
            ..
        } => Some(content(OF_SNAPSHOT)),
        Request::RestoreNew {
            source: RestoreSource::Backup { .. },
            ..
        } => Some(content(OF_BACKUP)),
        _ => None,
    };
    if let Some(expected) = expected {
        let row = lab.ground.volume(volume).await;
        let there = lab.pool.volume(volume).is_ok();
        assert_eq!(
            there, succeeded,
            "{cell}: a new volume is there when it succeeded"
        );
        let usable = row.is_some_and(|v| v.state == VolumeState::Available);
        assert_eq!(usable, succeeded, "{cell}");
        if succeeded {
            assert!(
                lab.volume_content(volume) == expected,
                "{cell}: the new volume"
            );
        }
    }
    match wanted.request {
        Request::SnapshotCreate => {
            let id = wanted.snapshot.expect("a snapshot");
            let row = lab.ground.snapshot(id).await;
            let usable = row.is_some_and(|s| s.state == ItemState::Available);
            assert_eq!(usable, succeeded, "{cell}");
            if usable {
                assert!(
                    lab.snapshot_content(id) == content(NOW),
                    "{cell}: the new snapshot"
                );
            }
        }
        Request::BackupCreate { snapshot_id, .. } => {
            let id = wanted.backup.expect("a backup");
            let row = lab.ground.backup(id).await;
            let usable = row.is_some_and(|b| b.state == ItemState::Available);
            assert_eq!(usable, succeeded, "{cell}");
            if usable {
                let seed = if snapshot_id.is_some() {
                    OF_SNAPSHOT
                } else {
                    NOW
                };
                assert!(
                    lab.backup_content(volume, id) == content(seed),
                    "{cell}: the new backup"
                );
            }
        }
        Request::SnapshotDelete => {
            let row = lab
                .ground
                .snapshot(wanted.snapshot.expect("a snapshot"))
                .await;
            assert_eq!(row.is_none(), succeeded, "{cell}");
        }
        Request::BackupDelete { .. } => {
            let row = lab.ground.backup(wanted.backup.expect("a backup")).await;
            assert_eq!(row.is_none(), succeeded, "{cell}");
        }
        _ => {}
    }
}

/// Deletes the instances of a scenario, with the volumes that were made for them.
async fn clear_instances(lab: &Lab, start: &Start, wanted: &Wanted) {
    let instances: BTreeSet<_> = [Some(start.instance), wanted.instance]
        .into_iter()
        .flatten()
        .collect();
    for id in instances {
        let Some(row) = lab.ground.instance(id).await else {
            continue;
        };
        let volumes = lab.ground.volumes_of(id).await.into_iter().map(|v| v.id);
        let (keep, delete) = volumes.partition(|id| *id == start.volume);
        let request = Request::InstanceDelete {
            was: row.state,
            keep,
            delete,
        };
        let instance = Some(id);
        done(
            lab,
            Wanted {
                instance,
                ..of_instance(lab, start, request)
            },
        )
        .await;
    }
    // A deletion that failed after all may have left its root.
    if lab.ground.volume(start.root).await.is_some() {
        let volume = Some(start.root);
        let wanted = about(lab, start, Request::VolumeDelete);
        done(lab, Wanted { volume, ..wanted }).await;
    }
}

/// Ends what a scenario leaves, so that the next begins on a tidy floor.
async fn clear(lab: &Lab, start: &Start, wanted: &Wanted) {
    let vault = lab.ground.ids.vault;
    clear_instances(lab, start, wanted).await;
    if lab.ground.whole(start.whole).await.is_some() {
        done(lab, forget(lab, start)).await;
    }
    for id in snapshots(start, wanted) {
        if lab.ground.snapshot(id).await.is_some() {
            let snapshot = Some(id);
            done(
                lab,
                Wanted {
                    snapshot,
                    ..about(lab, start, Request::SnapshotDelete)
                },
            )
            .await;
        }
    }
    for id in images(start, wanted) {
        if lab.ground.image(id).await.is_some() {
            let (image, volume) = (Some(id), None);
            let gone = about(lab, start, Request::ImageDelete);
            done(
                lab,
                Wanted {
                    image,
                    volume,
                    ..gone
                },
            )
            .await;
        }
    }
    let backups: BTreeSet<_> = [Some(start.backup), wanted.backup]
        .into_iter()
        .flatten()
        .collect();
    for id in backups {
        if lab.ground.backup(id).await.is_some() {
            let backup = Some(id);
            let request = Request::BackupDelete { vault };
            done(
                lab,
                Wanted {
                    backup,
                    ..about(lab, start, request)
                },
            )
            .await;
        }
    }
    let volumes: BTreeSet<_> = [Some(start.volume), wanted.volume]
        .into_iter()
        .flatten()
        .collect();
    for id in volumes {
        if lab.ground.volume(id).await.is_some() {
            let volume = Some(id);
            done(
                lab,
                Wanted {
                    volume,
                    ..about(lab, start, Request::VolumeDelete)
                },
            )
            .await;
        }
    }
}

/// One cell. Answers how many tasks the operation had.
async fn cell(lab: &mut Lab, way: Way, trouble: Trouble, at: usize, name: &str) -> usize {
    let (ask, setup) = way;
    let start = start(lab).await;
    set_up(lab, &start, setup).await;
    let wanted = ask(lab, &start);
    let op = lab.ground.accept(wanted.clone()).await;
    let mut cell = Cell {
        lab,
        op,
        trouble,
        at,
        seen: 0,
        struck: false,
        after: 0,
    };
    let tasks = cell.run().await;
    if wanted.instance.is_some() {
        lab.look().await;
    }
    check(lab, &start, &wanted, op, name).await;
    clear(lab, &start, &wanted).await;
    tasks
}

/// A way to ask, and what it starts from.
type Way = (Ask, Setup);

async fn every_trouble_of(kind: OperationKind, variant: usize, ask: Ask) -> usize {
    let mut lab = Lab::new(u64::try_from(variant).expect("few")).await;
    let name = format!("{kind} {variant} undisturbed");
    let way = (ask, setup(kind, variant));
    let tasks = cell(&mut lab, way, Trouble::None, usize::MAX, &name).await;
    assert!(tasks > 0, "{name}: no node had anything to do");
    for trouble in TROUBLES {
        for at in 0..tasks {
            let name = format!("{kind} {variant}, task {at}: {trouble:?}");
            cell(&mut lab, way, *trouble, at, &name).await;
        }
    }
    assert!(
        lab.pool.tree().layers().next().is_none(),
        "{kind}: layers are left"
    );
    assert!(lab.machines.is_empty(), "{kind}: machines are left");
    TROUBLES.len() * tasks
}

/// Every way to ask for every kind, in `of` parts that run side by side.
async fn every_trouble_of_part(part: usize, of: usize) {
    let every = OperationKind::ALL.iter().flat_map(|kind| {
        let asks = asks(*kind).iter().enumerate();
        asks.map(|(variant, ask)| (*kind, variant, *ask))
    });
    for (kind, variant, ask) in every.skip(part).step_by(of) {
        let cells = every_trouble_of(kind, variant, ask).await;
        println!("{kind} {variant}: {cells} cells");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_survives_every_trouble_at_every_task_1() {
    every_trouble_of_part(0, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_survives_every_trouble_at_every_task_2() {
    every_trouble_of_part(1, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_survives_every_trouble_at_every_task_3() {
    every_trouble_of_part(2, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_survives_every_trouble_at_every_task_4() {
    every_trouble_of_part(3, 4).await;
}
