//! `stillpoint pool`: a pool's folder, looked at while it is open.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use stillpoint_env::SimEnv;
use stillpoint_layers::qcow2::Qcow2Driver;
use stillpoint_layers::{LayerPool, Pool as _};
use stillpoint_model::id::{PoolId, SnapshotId, VolumeId};
use stillpoint_model::{ByteCount, Env};

use crate::run::run;

fn open(folder: &Path, env: &Arc<dyn Env>) -> LayerPool<Qcow2Driver> {
    let driver = Qcow2Driver::open(folder, PoolId::generate(&**env)).expect("a pool");
    LayerPool::open(driver, Arc::clone(env)).expect("a pool")
}

#[test]
fn the_tree_and_a_volumes_graph_are_read_from_the_pool_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(1));
    // Open all the time, as by a server.
    let pool = open(folder.path(), &env);
    let (volume, snapshot) = (VolumeId::generate(&*env), SnapshotId::generate(&*env));
    pool.create_volume(volume, ByteCount::from_gib(1))
        .expect("a volume");
    pool.snapshot(volume, snapshot).expect("a snapshot");

    let tree = run(&["pool", "tree", "--pool", path]);
    assert_eq!((tree.code, tree.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = tree.stdout.lines().collect();
    assert!(
        lines[0].ends_with(": 2 layers, 1 volumes"),
        "{}",
        tree.stdout
    );
    assert!(lines[1].starts_with("└─ ") && lines[1].contains(&format!("snapshot {snapshot}")));
    assert!(lines[2].starts_with("   └─ ") && lines[2].contains(&format!("volume {volume}")));

    let graph = run(&[
        "pool",
        "graph",
        "--pool",
        path,
        "--volume",
        &volume.to_string(),
    ]);
    assert_eq!(graph.code, 0, "{}", graph.stderr);
    let tip: Value =
        serde_json::from_str(graph.stdout.lines().last().expect("a node")).expect("JSON");
    assert_eq!(tip["driver"], "qcow2");
    assert_eq!(tip["read-only"], false);
    assert!(tip["node-name"].is_string());
}

#[test]
fn a_folder_that_is_no_pool_and_an_unknown_volume_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let ended = run(&["pool", "tree", "--pool", path]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);

    let env: Arc<dyn Env> = Arc::new(SimEnv::new(1));
    let _pool = open(folder.path(), &env);
    let unknown = VolumeId::generate(&*env).to_string();
    let ended = run(&["pool", "graph", "--pool", path, "--volume", &unknown]);
    assert_eq!(ended.code, 5, "{}", ended.stderr);
}
