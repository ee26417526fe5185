//! Packs that are mostly dead: the schedule has them emptied and gives their room back, through the
//! board, the node, a real pool and a real vault; whoever reads meanwhile goes on.

use std::time::Duration;

use stillpoint_control::reconcile::vault_care;
use stillpoint_env::SimEnv;
use stillpoint_model::care::{CollectionState, Emptied, VaultCare};
use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::saga::{Request, RestoreSource};
use stillpoint_model::task::TaskSpec;
use stillpoint_model::{ByteCount, Env};
use stillpoint_store::{care, place};
use stillpoint_vault::ReadCache;

use crate::ground::Wanted;
use crate::lab::Lab;
use crate::matrix::done;

/// Large enough that its dead packs are worth the work.
const LEN: usize = 88 << 20;
const CHUNK: usize = 16 << 10;
/// The pause between two collections.
const PAUSE: Duration = Duration::from_hours(6);
const DAY: Duration = Duration::from_hours(24);

/// A volume whose first backup was deleted: of what that stored a tenth is still needed.
struct Worn {
    lab: Lab,
    volume: VolumeId,
    first: BackupId,
    kept: [(BackupId, Vec<u8>); 2],
}

impl Worn {
    async fn new(seed: u64) -> Self {
        let lab = Lab::new(seed).await;
        let ids = lab.ground.ids;
        let (at, now) = (ids.vault, lab.ground.env.now());
        let seen = lab.ground.db.write(move |tx| {
            Box::pin(place::vault_insert(
                tx,
                at.vault_id,
                at.account_id,
                at.target_id,
                now,
            ))
        });
        seen.await.expect("the vault's row");
        let volume = VolumeId::generate(&*lab.ground.env);
        let size = ByteCount::new(LEN as u64);
        done(&lab, about(&lab, volume, Request::VolumeCreate { size })).await;
        let mut content = vec![0; LEN];
        SimEnv::new(seed).fill_random(&mut content);
        lab.write(volume, &content).await;
        let first = back_up(&lab, volume, None).await;
        let mut rewritten = vec![0; LEN];
        SimEnv::new(seed + 1).fill_random(&mut rewritten);
        for at in (0..LEN)
            .step_by(CHUNK)
            .filter(|at| !(at / CHUNK).is_multiple_of(10))
        {
            write(&lab, volume, &mut content, at, &rewritten[at..at + CHUNK]);
        }
        let second = back_up(&lab, volume, Some(first)).await;
        let before = content.clone();
        write(&lab, volume, &mut content, 5 * CHUNK, &[7; CHUNK]);
        let third = back_up(&lab, volume, Some(second)).await;
        let kept = [(second, before), (third, content)];
        Self {
            lab,
            volume,
            first,
            kept,
        }
    }

    async fn delete_first(&self) {
        let vault = self.lab.ground.ids.vault;
        let deletion = Wanted {
            backup: Some(self.first),
            ..about(&self.lab, self.volume, Request::BackupDelete { vault })
        };
        done(&self.lab, deletion).await;
    }

    async fn health(&self) -> VaultCare {
        let at = self.lab.ground.ids.vault;
        let mut conn = self.lab.ground.db.read().await.expect("a reader");
        let found = care::vault_care_by_id(&mut conn, at.vault_id, at.target_id).await;
        found.expect("a query").expect("it is cared for")
    }

    /// Has what is due offered.
    async fn offer(&self) {
        let lab = &self.lab;
        lab.board.hello(lab.node_id).await.expect("hello");
        vault_care::offer_due(&lab.ground.cx)
            .await
            .expect("offered");
        lab.settle().await;
    }

    /// Does what is due for the vault, and gives how it is.
    async fn care(&self) -> VaultCare {
        self.offer().await;
        self.lab.run_to_rest().await;
        self.health().await
    }

    /// Cares for the vault, day after day, until packs were emptied and their room was given back.
    async fn until_given_back(&self) -> Emptied {
        let (mut emptied, mut freed) = (None, ByteCount::ZERO);
        for _ in 0..30 * 4 {
            let health = self.care().await;
            let last = health.collection.as_ref();
            if let (None, Some(found)) = (emptied, last.and_then(|last| last.emptied)) {
                (emptied, freed) = (Some(found), health.freed);
            }
            if let Some(emptied) = emptied
                && health.freed > freed
            {
                let state = last.map(|last| last.state);
                assert_eq!(state, Some(CollectionState::Done));
                return emptied;
            }
            self.lab.ground.env.advance(PAUSE);
        }
        panic!("nothing is given back: {:?}", self.health().await);
    }

    /// Every backup restores to what it was, and the next verification proves them all.
    async fn is_whole(&self) {
        for (backup, content) in &self.kept {
            let restored = self.lab.backup_content(self.volume, *backup);
            assert!(restored == *content, "{backup} differs");
        }
        self.lab.ground.env.advance(31 * DAY);
        let mut health = self.care().await;
        for _ in 0..3 {
            health = self.care().await;
        }
        let verified = health.verification.expect("a verification");
        let ids = self.kept.each_ref().map(|(id, _)| *id);
        assert_eq!((verified.backups, verified.bad), (ids.to_vec(), vec![]));
    }
}

fn write(lab: &Lab, volume: VolumeId, content: &mut [u8], at: usize, data: &[u8]) {
    content[at..at + data.len()].copy_from_slice(data);
    let tip = lab.pool.volume(volume).expect("the volume").tip;
    let written = lab.disk.guest_write(tip, at as u64, data);
    written.expect("written");
}

fn about(lab: &Lab, volume: VolumeId, request: Request) -> Wanted {
    Wanted {
        request,
        pool: lab.pool_id,
        volume: Some(volume),
        snapshot: None,
        backup: None,
        instance: None,
        image: None,
        whole: None,
    }
}

async fn back_up(lab: &Lab, volume: VolumeId, parent: Option<BackupId>) -> BackupId {
    let backup = BackupId::generate(&*lab.ground.env);
    let request = Request::BackupCreate {
        vault: lab.ground.ids.vault,
        snapshot_id: None,
        parent,
    };
    let wanted = Wanted {
        backup: Some(backup),
        ..about(lab, volume, request)
    };
    done(lab, wanted).await;
    backup
}

#[tokio::test(flavor = "multi_thread")]
async fn mostly_dead_packs_are_given_back_while_somebody_reads() {
    let worn = Worn::new(1).await;
    let (lab, before) = (&worn.lab, worn.lab.packs());
    let (second, content) = &worn.kept[0];
    // One has a backup open, another uses a volume that is not whole yet.
    let vault = lab.vault().expect("the vault");
    let cache = ReadCache::new(ByteCount::from_mib(1));
    let reader = vault.open_backup(worn.volume, *second, &cache);
    let reader = reader.expect("a reader");
    let read = |at: usize, len: usize| {
        let mut part = vec![0; len];
        reader.read_at(at as u64, &mut part).expect("readable");
        assert!(part == content[at..at + len], "at {at}");
    };
    read(0, LEN / 2);
    let instant = VolumeId::generate(&*lab.ground.env);
    let source = RestoreSource::Backup {
        backup_id: *second,
        source_volume_id: worn.volume,
        vault: lab.ground.ids.vault,
    };
    let request = Request::RestoreNew {
        source,
        instant: true,
    };
    let wanted = Wanted {
        backup: Some(*second),
        ..about(lab, instant, request)
    };
    done(lab, wanted).await;
    assert_eq!(lab.fills().await.len(), 1);

    worn.delete_first().await;
    let emptied = worn.until_given_back().await;
    assert_eq!((emptied.backups, emptied.left), (2, 0), "{emptied:?}");
    let (stored, dead) = (emptied.stored.get(), LEN as u64 * 9 / 10);
    assert!(stored < LEN as u64 / 8, "{emptied:?}");
    let freed = before - lab.packs();
    assert!(freed.abs_diff(dead) < dead / 8, "{freed} bytes of {dead}");

    read(LEN / 2, LEN / 2);
    read(0, LEN);
    lab.fill().await;
    assert!(lab.volume_content(instant) == *content);
    worn.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_are_given_back_by_a_node_that_dies_before_each_of_its_answers_is_heard() {
    let mut worn = Worn::new(3).await;
    worn.delete_first().await;
    let before = worn.lab.packs();
    let mut collections = 0;
    for _ in 0..30 * 4 {
        if worn.lab.packs() < before / 2 + before / 8 {
            break;
        }
        worn.offer().await;
        if let Some(task) = worn.lab.take().await {
            collections += usize::from(matches!(task.spec, TaskSpec::VaultCollect { .. }));
            worn.lab.perform(&task).expect("it is done");
            worn.lab.restart().await;
            let health = worn.care().await;
            assert_eq!(health.failure, None);
        }
        worn.lab.ground.env.advance(PAUSE);
    }
    assert!(collections >= 3, "{collections}");
    let left = worn.lab.packs();
    assert!(left < before / 2 + before / 8, "{left} of {before} bytes");
    worn.is_whole().await;
    let vault = worn.lab.vault().expect("the vault");
    assert_eq!(vault.open_runs().expect("listed"), Default::default());
}
