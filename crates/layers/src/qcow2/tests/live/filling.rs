//! Volumes that guests write to before they are whole.

use std::sync::{Arc, Mutex};

use serde_json::json;
use stillpoint_env::SimEnv;
use stillpoint_model::id::{AccountId, BackupId, SnapshotId, TargetId, VaultId, VolumeId};
use stillpoint_model::layer_tree::FillSource;
use stillpoint_model::task::VaultRef;
use stillpoint_model::{ByteCount, Env};

use super::answers::{BadLine, Trouble};
use super::{LiveFolder, Player};
use crate::conformance::{Guests, Storage};
use crate::{FillOutcome, LayerPool, Pool};

const SIZE: ByteCount = ByteCount::from_mib(4);

fn source(env: &dyn Env) -> FillSource {
    FillSource {
        vault: VaultRef {
            target_id: TargetId::generate(env),
            vault_id: VaultId::generate(env),
            account_id: AccountId::generate(env),
        },
        source_volume_id: VolumeId::generate(env),
        backup_id: BackupId::generate(env),
    }
}

#[test]
fn a_guest_writes_on_while_its_volume_becomes_whole() {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(201));
    let folder = LiveFolder::new(env.as_ref());
    let guests = Player(Arc::clone(&folder.machine));
    let line = Arc::new(BadLine(
        Arc::clone(&folder.machine),
        Mutex::new(Trouble::None),
    ));
    let pool = LayerPool::open(folder.driver(), Arc::clone(&env)).unwrap();
    pool.connect(Arc::<BadLine>::clone(&line));
    let mut content = vec![0; usize::try_from(SIZE.get()).unwrap()];
    env.fill_random(&mut content[1 << 20..3 << 20]);
    let backup = folder.path.join("backup.raw");
    std::fs::write(&backup, &content).unwrap();

    let volume = VolumeId::generate(env.as_ref());
    pool.begin_fill(volume, SIZE, source(env.as_ref())).unwrap();
    let reader = json!({
        "driver": "raw", "node-name": "qreader", "read-only": true,
        "file": {"driver": "file", "node-name": "backup", "filename": backup, "read-only": true},
    });
    let (graph, hold) = pool.open_filling(volume, &reader).unwrap();
    guests.start(volume, &graph);
    drop(hold);
    assert!(guests.read(volume) == content, "it shows the backup");
    let mut write = |at: usize, byte: u8| {
        content[at..at + 5000].fill(byte);
        guests.write(volume, at as u64, &content[at..at + 5000]);
    };
    // Over data and over zeros, and no whole blocks.
    write((1 << 20) + 100, 1);
    write(200, 2);
    let base = pool.fill_base(volume).unwrap().unwrap();
    let restored = std::fs::read(&backup).unwrap();
    base.write_at(1 << 20, &restored[1 << 20..3 << 20]).unwrap();
    write((2 << 20) + 7, 3);
    base.finish().unwrap();

    // The host did it, and the pool did not live to record it.
    line.becomes(Trouble::AnswerLost);
    assert!(pool.end_fill(volume).is_err());
    assert!(pool.filling(volume).unwrap().is_some());
    line.becomes(Trouble::None);
    assert!(pool.fill_base(volume).unwrap().is_none(), "it is read");
    assert_eq!(pool.end_fill(volume).unwrap(), FillOutcome::Whole);
    let chain = folder.machine.daemon().chain(volume);
    assert_eq!(chain.len(), 2);
    assert!(!chain.contains(&"qreader".to_owned()));
    write((1 << 20) + 9000, 4);
    assert!(guests.read(volume) == content, "nothing is lost");
    let snapshot = SnapshotId::generate(env.as_ref());
    let sealed = pool.snapshot(volume, snapshot).unwrap();
    let reader = pool.open_layer(sealed.layer).unwrap();
    let mut shown = vec![0; content.len()];
    reader.read_at(0, &mut shown).unwrap();
    assert!(shown == content, "it is a volume as any other");
    guests.stop(volume);
    assert_eq!(pool.damage().unwrap(), Vec::<String>::new());
}
