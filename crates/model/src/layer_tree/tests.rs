//! The planner against a model that keeps full copies of everything.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use crate::id::BackupId;
use crate::item::Consistency;

use super::*;
use crate::task::CloneSource;

const BLOCKS: u64 = 8;

/// What each layer holds itself: a byte per block; the rest shows what is below.
type Held = BTreeMap<LayerId, BTreeMap<u64, u8>>;

/// Executes steps as a driver would, and keeps full copies beside it.
#[derive(Default)]
struct World {
    tree: LayerTree,
    held: Held,
    last_id: u128,
    volumes: BTreeMap<VolumeId, Vec<u8>>,
    snapshots: BTreeMap<SnapshotId, (VolumeId, Vec<u8>)>,
    captures: BTreeMap<(VolumeId, BackupId), Vec<u8>>,
    /// Steps until the process dies, if it is to die.
    fuse: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Create,
    Write(usize, u64, u8),
    Snapshot(usize),
    RollBack(usize),
    CloneSnapshot(usize),
    CloneVolume(usize),
    Switch(usize, usize),
    Capture(usize),
    Settle(usize),
    DropSnapshot(usize),
    DeleteVolume(usize),
    Grow(usize),
    Merge(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let any = || 0usize..64;
    prop_oneof![
        1 => Just(Action::Create),
        6 => (any(), 0..BLOCKS, 1u8..5).prop_map(|(v, block, byte)| Action::Write(v, block, byte)),
        4 => any().prop_map(Action::Snapshot),
        2 => any().prop_map(Action::RollBack),
        1 => any().prop_map(Action::CloneSnapshot),
        1 => any().prop_map(Action::CloneVolume),
        1 => (any(), any()).prop_map(|(a, b)| Action::Switch(a, b)),
        1 => any().prop_map(Action::Capture),
        1 => any().prop_map(Action::Settle),
        3 => any().prop_map(Action::DropSnapshot),
        1 => any().prop_map(Action::DeleteVolume),
        1 => any().prop_map(Action::Grow),
        4 => any().prop_map(Action::Merge),
    ]
}

fn pick<K: Copy, V>(map: &BTreeMap<K, V>, index: usize) -> Option<K> {
    map.keys().nth(index.checked_rem(map.len())?).copied()
}

impl World {
    fn uuid(&mut self) -> Uuid {
        self.last_id += 1;
        Uuid::from_u128(self.last_id)
    }

    fn fresh(&mut self) -> FreshLayers {
        let first = LayerId::from_uuid(self.uuid());
        FreshLayers {
            first,
            second: LayerId::from_uuid(self.uuid()),
        }
    }

    /// Plans and executes; false when the process died on the way.
    fn ask(&mut self, request: Request) -> bool {
        let fresh = self.fresh();
        let plan = self.tree.plan(&request, fresh).expect("is possible");
        for step in &plan.steps {
            if let Some(fuse) = &mut self.fuse {
                if *fuse == 0 {
                    self.restart();
                    return false;
                }
                *fuse -= 1;
            }
            self.execute(step);
        }
        if !self.forget_spent() {
            return false;
        }
        let fresh = self.fresh();
        let again = self.tree.plan(&request, fresh).expect("is possible again");
        assert_eq!(again.steps, [], "{request:?} repeated");
        true
    }

    /// Removes the records that have nothing left to tell; false when the process died.
    fn forget_spent(&mut self) -> bool {
        let all: Vec<VolumeId> = self.tree.records().map(|(id, _)| id).collect();
        for volume in all {
            if !self.tree.is_spent(volume) {
                continue;
            }
            if self.fuse == Some(0) {
                self.restart();
                return false;
            }
            self.fuse = self.fuse.map(|fuse| fuse - 1);
            self.execute(&Step::RemoveRecord { volume });
        }
        true
    }

    fn execute(&mut self, step: &Step) {
        match step {
            Step::CreateLayer { layer, parent, .. } => {
                assert!(parent.is_none_or(|parent| self.held.contains_key(&parent)));
                assert!(self.held.insert(*layer, BTreeMap::new()).is_none());
            }
            Step::RemoveLayer { layer } => {
                assert!(self.held.remove(layer).is_some());
            }
            _ => {}
        }
        self.tree.apply(step);
        assert_eq!(self.tree.inconsistencies(), []);
    }

    /// What a new process reads from what is stored.
    fn restart(&mut self) {
        let layers: Vec<_> = self.tree.layers().map(|(id, layer)| (id, *layer)).collect();
        let records: Vec<_> = self.tree.records().map(|(id, r)| (id, r.clone())).collect();
        self.tree = LayerTree::new(layers, records);
        self.fuse = None;
        for step in self.tree.repairs() {
            self.execute(&step);
        }
        self.forget_spent();
    }

    /// Whichever record is lost, it is missed: nothing that it named counts as garbage.
    fn lose_each_record(&self) {
        let layers: Vec<_> = self.tree.layers().map(|(id, layer)| (id, *layer)).collect();
        let records: Vec<_> = self.tree.records().map(|(id, r)| (id, r.clone())).collect();
        for (lost, record) in &records {
            let rest = records.iter().filter(|(id, _)| id != lost).cloned();
            let tree = LayerTree::new(layers.clone(), rest);
            assert!(tree.is_record_lost(*lost), "{record:?} is not missed");
            let is_named = |found: &Inconsistency| matches!(found, Inconsistency::NoRecord { volume, .. } if volume == lost);
            assert!(tree.inconsistencies().iter().any(is_named));
            let volume = *lost;
            let fresh = FreshLayers {
                first: layer(1),
                second: layer(2),
            };
            let size = ByteCount::new(BLOCKS);
            for request in [
                Request::CreateVolume { volume, size },
                Request::DeleteVolume { volume },
                Request::Resize { volume, size },
            ] {
                assert_eq!(
                    tree.plan(&request, fresh),
                    Err(Refusal::RecordLost(volume)),
                    "nothing is done to a volume whose record is lost"
                );
            }
        }
    }

    fn show(&self, layer: LayerId) -> Vec<u8> {
        let size = self.tree.layer(layer).expect("exists").size.get();
        let chain = self.tree.chain(layer);
        let block = |block: u64| {
            let limit = |id: &&LayerId| self.tree.layer(**id).is_some_and(|l| block < l.size.get());
            let holder = chain
                .iter()
                .filter(limit)
                .find_map(|id| self.held[id].get(&block));
            holder.copied().unwrap_or(0)
        };
        (0..size).map(block).collect()
    }

    fn merge(&mut self, index: usize) {
        let candidates = self.tree.merge_candidates();
        let Some(candidate) = index.checked_rem(candidates.len()).map(|at| candidates[at]) else {
            return;
        };
        match candidate {
            MergeCandidate::Remove { layer } => self.execute(&Step::RemoveLayer { layer }),
            MergeCandidate::Merge { parent, child, .. } => {
                let mut joined = self.held.remove(&parent).expect("exists");
                let limit = self.tree.layer(parent).expect("exists").size.get();
                joined.retain(|block, _| *block < limit);
                joined.extend(self.held.remove(&child).expect("exists"));
                let allocated = ByteCount::new(joined.len() as u64);
                self.held.insert(child, joined);
                self.tree.apply(&Step::JoinLayers {
                    parent,
                    child,
                    allocated,
                });
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Create => {
                let volume = VolumeId::from_uuid(self.uuid());
                if self.ask(Request::CreateVolume {
                    volume,
                    size: ByteCount::new(BLOCKS),
                }) {
                    let blocks = usize::try_from(BLOCKS).expect("is small");
                    self.volumes.insert(volume, vec![0; blocks]);
                }
            }
            Action::Write(index, block, byte) => self.write(index, block, byte),
            Action::Merge(index) => {
                self.merge(index);
                self.forget_spent();
            }
            Action::Snapshot(i)
            | Action::Capture(i)
            | Action::CloneVolume(i)
            | Action::DeleteVolume(i)
            | Action::Grow(i) => {
                if let Some(volume) = pick(&self.volumes, i) {
                    self.act_on_volume(action, volume);
                }
            }
            Action::RollBack(i) | Action::CloneSnapshot(i) | Action::DropSnapshot(i) => {
                if let Some(snapshot) = pick(&self.snapshots, i) {
                    self.act_on_snapshot(action, snapshot);
                }
            }
            Action::Switch(a, b) => self.switch(a, b),
            Action::Settle(index) => {
                let Some((volume, backup)) = pick(&self.captures, index) else {
                    return;
                };
                if self.ask(Request::SettleCapture { volume, backup }) {
                    self.captures
                        .retain(|(v, b), _| *v != volume || *b == backup);
                }
            }
        }
    }

    fn write(&mut self, index: usize, block: u64, byte: u8) {
        let Some(volume) = pick(&self.volumes, index) else {
            return;
        };
        let tip = self.tree.tip(volume).expect("is live");
        let is_needed = |child| self.tree.is_needed(child);
        assert!(
            !self.tree.children(tip).any(is_needed),
            "something needs a tip unchanged"
        );
        self.held.get_mut(&tip).expect("exists").insert(block, byte);
        let count = self.held[&tip].len() as u64;
        self.tree.set_allocated(tip, ByteCount::new(count));
        let copy = self.volumes.get_mut(&volume).expect("exists");
        copy[usize::try_from(block).expect("is small")] = byte;
    }

    fn act_on_volume(&mut self, action: Action, volume: VolumeId) {
        let now = self.volumes[&volume].clone();
        match action {
            Action::Snapshot(_) => {
                let snapshot = SnapshotId::from_uuid(self.uuid());
                if self.ask(Request::Snapshot { volume, snapshot }) {
                    self.snapshots.insert(snapshot, (volume, now));
                }
            }
            Action::Capture(_) => {
                let backup = BackupId::from_uuid(self.uuid());
                if self.ask(Request::Capture {
                    volume,
                    backup,
                    snapshot: None,
                }) {
                    self.captures.insert((volume, backup), now);
                }
            }
            Action::CloneVolume(_) => {
                let clone = VolumeId::from_uuid(self.uuid());
                let source = CloneSource::Volume(volume);
                if self.ask(Request::Clone {
                    source,
                    volume: clone,
                }) {
                    self.volumes.insert(clone, now);
                }
            }
            Action::Grow(_) => {
                let size = ByteCount::new(now.len() as u64 + 2);
                if self.ask(Request::Resize { volume, size }) {
                    self.volumes
                        .get_mut(&volume)
                        .expect("exists")
                        .extend([0, 0]);
                }
            }
            _ => {
                if self.ask(Request::DeleteVolume { volume }) {
                    self.volumes.remove(&volume);
                    self.captures.retain(|(owner, _), _| *owner != volume);
                }
            }
        }
    }

    fn act_on_snapshot(&mut self, action: Action, snapshot: SnapshotId) {
        let (volume, content) = self.snapshots[&snapshot].clone();
        match action {
            Action::CloneSnapshot(_) => {
                let clone = VolumeId::from_uuid(self.uuid());
                let source = CloneSource::Snapshot(snapshot);
                if self.ask(Request::Clone {
                    source,
                    volume: clone,
                }) {
                    self.volumes.insert(clone, content);
                }
            }
            Action::DropSnapshot(_) => {
                if self.ask(Request::DropSnapshot { snapshot }) {
                    self.snapshots.remove(&snapshot);
                }
            }
            _ => {
                let Some(now) = self.volumes.get(&volume).cloned() else {
                    return;
                };
                let safety = SnapshotId::from_uuid(self.uuid());
                if self.ask(Request::RollBack {
                    volume,
                    snapshot,
                    safety,
                }) {
                    self.snapshots.insert(safety, (volume, now));
                    self.volumes.insert(volume, content);
                }
            }
        }
    }

    fn switch(&mut self, a: usize, b: usize) {
        let (Some(volume), Some(staged)) = (pick(&self.volumes, a), pick(&self.volumes, b)) else {
            return;
        };
        if volume == staged {
            return;
        }
        let safety = SnapshotId::from_uuid(self.uuid());
        if self.ask(Request::Switch {
            volume,
            staged,
            safety,
        }) {
            let content = self.volumes.remove(&staged).expect("exists");
            let before = self.volumes.insert(volume, content).expect("exists");
            self.captures.retain(|(owner, _), _| *owner != staged);
            self.snapshots.insert(safety, (volume, before));
        }
    }

    /// After a death nobody knows what happened: whatever the tree has must be what it was.
    fn adopt(&mut self) {
        let tree = &self.tree;
        self.volumes.retain(|volume, _| tree.tip(*volume).is_some());
        self.snapshots
            .retain(|snapshot, _| tree.snapshot(*snapshot).is_some());
        self.captures.retain(|(volume, backup), _| {
            tree.record(*volume)
                .is_some_and(|record| record.captures.contains_key(backup))
        });
    }

    fn check(&self) {
        for (volume, copy) in &self.volumes {
            let tip = self.tree.tip(*volume).expect("is live");
            assert_eq!(&self.show(tip), copy, "volume {volume}");
        }
        for (snapshot, (_, copy)) in &self.snapshots {
            let (_, record) = self.tree.snapshot(*snapshot).expect("exists");
            assert_eq!(&self.show(record.layer), copy, "snapshot {snapshot}");
        }
        self.lose_each_record();
        for ((volume, backup), copy) in &self.captures {
            let layer = self.tree.record(*volume).expect("exists").captures[backup];
            assert_eq!(&self.show(layer), copy, "capture {backup}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_surviving_item_reads_the_same(actions in prop::collection::vec(action(), 1..80)) {
        let mut world = World::default();
        for action in actions {
            world.act(action);
            world.check();
        }
        while !world.tree.merge_candidates().is_empty() {
            world.merge(0);
        }
        world.forget_spent();
        world.check();
        let all: Vec<VolumeId> = world.volumes.keys().copied().collect();
        for volume in all {
            world.ask(Request::DeleteVolume { volume });
        }
        let all: Vec<SnapshotId> = world.snapshots.keys().copied().collect();
        for snapshot in all {
            world.ask(Request::DropSnapshot { snapshot });
        }
        while !world.tree.merge_candidates().is_empty() {
            world.merge(0);
        }
        world.forget_spent();
        prop_assert_eq!(world.tree, LayerTree::default());
        prop_assert!(world.held.is_empty());
    }

    #[test]
    fn a_death_between_two_steps_loses_nothing_else(
        before in prop::collection::vec(action(), 10..40),
        last in action(),
        fuse in 0usize..4,
        after in prop::collection::vec(action(), 1..20),
    ) {
        let mut world = World::default();
        for action in before {
            world.act(action);
        }
        let untouched = |world: &World| world.snapshots.clone();
        let kept = untouched(&world);
        world.fuse = Some(fuse);
        world.act(last);
        world.restart();
        let touches_contents = matches!(last, Action::RollBack(_) | Action::Switch(..) | Action::Grow(_));
        world.adopt();
        if touches_contents {
            // Which of the two contents the volume has is open; it must be readable.
            let volumes: Vec<VolumeId> = world.volumes.keys().copied().collect();
            for volume in volumes {
                let tip = world.tree.tip(volume).expect("is live");
                let shown = world.show(tip);
                world.volumes.insert(volume, shown);
            }
        }
        for (snapshot, content) in kept {
            let was_dropped = matches!(last, Action::DropSnapshot(_));
            prop_assert!(was_dropped || world.snapshots.contains_key(&snapshot));
            if let Some(now) = world.snapshots.get(&snapshot) {
                prop_assert_eq!(now, &content);
            }
        }
        for action in after {
            world.act(action);
            world.check();
        }
    }
}

fn layer(number: u128) -> LayerId {
    LayerId::from_uuid(Uuid::from_u128(number))
}

fn volume_nine() -> VolumeId {
    VolumeId::from_uuid(Uuid::from_u128(9))
}

fn chain_of_two(below: u64, above: u64) -> LayerTree {
    let size = ByteCount::from_gib(1);
    let of = |parent, allocated| Layer {
        owner: volume_nine(),
        parent,
        size,
        allocated: ByteCount::new(allocated),
    };
    let record = VolumeRecord::new(VolumeOrigin::Image, layer(2));
    let layers = [
        (layer(1), of(None, below)),
        (layer(2), of(Some(layer(1)), above)),
    ];
    LayerTree::new(layers, [(volume_nine(), record)])
}

#[test]
fn a_merge_goes_the_way_that_moves_less() {
    for (below, above, direction, bytes) in [
        (100, 5, Direction::Commit, 5),
        (5, 100, Direction::Stream, 5),
    ] {
        let expected = MergeCandidate::Merge {
            parent: layer(1),
            child: layer(2),
            direction,
            bytes: ByteCount::new(bytes),
        };
        assert_eq!(chain_of_two(below, above).merge_candidates(), [expected]);
    }
}

#[test]
fn what_does_not_fit_together_is_named() {
    let volume = volume_nine();
    let lost = VolumeId::from_uuid(Uuid::from_u128(8));
    let of = |parent| Layer {
        owner: volume,
        parent,
        size: ByteCount::new(1),
        allocated: ByteCount::ZERO,
    };
    let record = VolumeRecord::new(VolumeOrigin::Image, layer(3));
    let layers = [
        (layer(1), of(Some(layer(2)))),
        (layer(2), of(Some(layer(1)))),
        (layer(4), of(Some(layer(5)))),
        (
            layer(6),
            Layer {
                owner: lost,
                ..of(None)
            },
        ),
    ];
    let tree = LayerTree::new(layers, [(volume, record)]);
    let expected = [
        Inconsistency::NoParent {
            layer: layer(4),
            parent: layer(5),
        },
        Inconsistency::Circle(layer(1)),
        Inconsistency::Circle(layer(2)),
        Inconsistency::NoRecord {
            volume: lost,
            layers: 1,
        },
        Inconsistency::NoLayer {
            volume,
            layer: layer(3),
        },
    ];
    assert_eq!(tree.inconsistencies(), expected);
    assert_eq!(tree.chain(layer(1)).len(), 4, "a circle ends");
}

/// A volume with a tip, by ids from a counter.
fn volume_with_tip() -> (World, VolumeId, LayerId) {
    let mut world = World::default();
    let volume = VolumeId::from_uuid(world.uuid());
    let size = ByteCount::new(BLOCKS);
    let fresh = world.fresh();
    let request = Request::CreateVolume { volume, size };
    let plan = world.tree.plan(&request, fresh).expect("creates");
    plan.steps.iter().for_each(|step| world.tree.apply(step));
    (world, volume, fresh.first)
}

fn prepared() -> (World, VolumeId, LayerId, SnapshotId) {
    let (mut world, volume, _) = volume_with_tip();
    let layer = LayerId::from_uuid(world.uuid());
    let snapshot = SnapshotId::from_uuid(world.uuid());
    let pending = Pending {
        layer,
        purpose: Purpose::Snapshot(snapshot),
        together: BTreeMap::from([(volume, layer)]),
    };
    let plan = world.tree.plan_prepare(volume, pending).expect("prepares");
    plan.steps.iter().for_each(|step| world.tree.apply(step));
    (world, volume, layer, snapshot)
}

#[test]
fn a_pending_overlay_is_no_garbage_and_no_inconsistency() {
    let (world, volume, overlay, snapshot) = prepared();
    assert_eq!(world.tree.inconsistencies(), []);
    assert_eq!(world.tree.merge_candidates(), []);
    assert_ne!(world.tree.tip(volume), Some(overlay));
    assert_eq!(world.tree.snapshot(snapshot), None, "it is not taken yet");
}

#[test]
fn a_switch_that_happened_names_what_was_the_tip() {
    let (mut world, volume, overlay, snapshot) = prepared();
    let before = world.tree.tip(volume).expect("has one");
    let plan = world
        .tree
        .plan_seal(volume, Consistency::Crash)
        .expect("seals");
    plan.steps.iter().for_each(|step| world.tree.apply(step));
    assert_eq!(world.tree.tip(volume), Some(overlay));
    let (_, taken) = world.tree.snapshot(snapshot).expect("is taken");
    assert_eq!(taken.layer, before);
    let promise = |tree: &LayerTree| tree.record(volume).expect("known").promise(before);
    assert_eq!(promise(&world.tree), Consistency::Crash);
    assert_eq!(
        world.tree.plan_seal(volume, Consistency::Crash),
        Ok(Plan::default()),
        "once"
    );
}

#[test]
fn a_switch_that_did_not_happen_leaves_nothing() {
    let (mut world, volume, overlay, snapshot) = prepared();
    let plan = world.tree.plan_call_off(volume).expect("calls off");
    plan.steps.iter().for_each(|step| world.tree.apply(step));
    assert_eq!(world.tree.layer(overlay), None);
    assert_eq!(world.tree.snapshot(snapshot), None);
    let record = world.tree.record(volume).expect("is there");
    assert!(!record.is_live());
}

/// A volume that shows a backup, its base and the backup.
fn filling() -> (World, VolumeId, Filling) {
    let mut world = World::default();
    let volume = VolumeId::from_uuid(world.uuid());
    let source = FillSource {
        vault: crate::task::VaultRef {
            target_id: crate::id::TargetId::from_uuid(world.uuid()),
            vault_id: crate::id::VaultId::from_uuid(world.uuid()),
            account_id: crate::id::AccountId::from_uuid(world.uuid()),
        },
        source_volume_id: VolumeId::from_uuid(world.uuid()),
        backup_id: BackupId::from_uuid(world.uuid()),
    };
    let fresh = FreshLayers {
        first: LayerId::from_uuid(world.uuid()),
        second: LayerId::from_uuid(world.uuid()),
    };
    let size = ByteCount::new(4096);
    let plan = world.tree.plan_begin_fill(volume, size, source, fresh);
    let plan = plan.expect("begins");
    plan.steps.iter().for_each(|step| world.tree.apply(step));
    let filling = world.tree.filling(volume).expect("is being filled");
    (world, volume, filling)
}

#[test]
fn what_is_being_filled_is_no_garbage_and_cannot_be_merged() {
    let (mut world, volume, filling) = filling();
    assert_eq!(world.tree.inconsistencies(), []);
    assert_eq!(world.tree.merge_candidates(), []);
    let tip = world.tree.live_tip(volume).expect("has one");
    assert_eq!(world.tree.chain(tip), [tip, filling.base]);
    assert_eq!(
        world.tree.check_whole(volume),
        Err(Refusal::Filling(volume))
    );
    let plan = world.tree.plan_end_fill(volume).expect("ends");
    plan.steps.iter().for_each(|step| world.tree.apply(step));
    assert_eq!(world.tree.check_whole(volume), Ok(()));
    assert_eq!(world.tree.plan_end_fill(volume), Ok(Plan::default()));
    assert_eq!(world.tree.merge_candidates().len(), 1, "it is a layer");
}

#[test]
fn a_volume_that_is_deleted_while_it_is_filled_leaves_nothing() {
    let (mut world, volume, _) = filling();
    let fresh = FreshLayers {
        first: LayerId::from_uuid(world.uuid()),
        second: LayerId::from_uuid(world.uuid()),
    };
    let plan = world.tree.plan(&Request::DeleteVolume { volume }, fresh);
    let plan = plan.expect("deletes");
    plan.steps.iter().for_each(|step| world.tree.apply(step));
    assert_eq!(world.tree.layers().count(), 0);
    assert!(world.tree.is_spent(volume));
}
