//! What becomes of a guest when its agent or its machine is killed in the middle of a capture.
//!
//! One of the tests here is none: it is an agent in a process of its own, and does nothing unless it
//! is told to by the environment.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};
use stillpoint_layers::Pool;
use stillpoint_model::id::{LayerId, PoolId, SnapshotId, VolumeId};
use stillpoint_model::instance::Power;
use stillpoint_model::item::FreezePolicy;

use super::freezing::{ENDS_AFTER_SWITCH, Hold, REQUIRED, wait_until_thawed};
use super::{Agent, Host, Scene, Work};
use stillpoint_node::Machines as _;

/// What an agent is told.
const CHARGE: &str = "STILLPOINT_NODE_AGENT";

#[derive(Serialize, Deserialize)]
struct Charge {
    folder: PathBuf,
    pool_id: PoolId,
    set: Vec<(VolumeId, SnapshotId)>,
}

#[test]
fn the_agent_itself() {
    let Ok(charge) = std::env::var(CHARGE) else {
        return;
    };
    let charge: Charge = serde_json::from_str(&charge).unwrap();
    let host = Host::new(&charge.folder, charge.pool_id, REQUIRED);
    let agent = Agent::open(&host);
    let sealed = agent
        .pool
        .snapshot_together(&charge.set, FreezePolicy::Skip);
    panic!("nobody killed it: {sealed:?}");
}

/// Another agent, which captures these volumes.
fn agent_that_captures(scene: &Scene, set: &[(VolumeId, SnapshotId)]) -> Command {
    let charge = Charge {
        folder: scene.host.folder.clone(),
        pool_id: scene.host.pool_id,
        set: set.to_vec(),
    };
    let mut agent = Command::new(std::env::current_exe().unwrap());
    agent
        .args(["--exact", "killed::the_agent_itself", "--nocapture"])
        .env(CHARGE, serde_json::to_string(&charge).unwrap())
        .stdout(Stdio::null());
    agent
}

fn kill(mut agent: Child) {
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// Does what was under way once more, until it is done; what was captured.
fn capture_again(scene: &Scene, set: &[(VolumeId, SnapshotId)]) -> [LayerId; 2] {
    let sealed = scene
        .pool()
        .snapshot_together(set, FreezePolicy::Skip)
        .unwrap();
    [sealed[0].layer, sealed[1].layer]
}

/// The guest writes on, is captured as ever, and nothing is amiss.
fn check_that_all_goes_on(scene: &Scene) {
    scene.wait_for_more();
    let later = scene.snapshot();
    scene.written_together(scene.layers_of(later));
    scene.wait_for_more();
    assert_eq!(scene.pool().damage().unwrap(), Vec::<String>::new());
}

#[test]
fn a_guest_is_thawed_when_the_agent_that_captures_it_is_killed() {
    let mut scene = Scene::boot(Work::Journal, REQUIRED);
    scene.wait_for_more();
    let (_, set) = scene.new_set();
    scene.agent = None;
    let hold = Hold::new(&scene);
    let agent = agent_that_captures(&scene, &set).spawn().unwrap();
    hold.wait_until_frozen(&scene);
    kill(agent);
    // No agent is there that could do it.
    wait_until_thawed(&scene);
    drop(hold);

    scene.restart_agent();
    scene.wait_for_more();
    let layers = capture_again(&scene, &set);
    scene.written_together(layers);
    check_that_all_goes_on(&scene);
}

#[test]
fn a_capture_is_found_that_the_agent_did_not_live_to_record() {
    let mut scene = Scene::boot(Work::Journal, REQUIRED);
    scene.wait_for_more();
    let (_, set) = scene.new_set();
    let (before, _) = scene.said();
    scene.agent = None;
    let ended = agent_that_captures(&scene, &set)
        .env(ENDS_AFTER_SWITCH, "1")
        .status();
    assert!(!ended.unwrap().success());
    wait_until_thawed(&scene);

    scene.restart_agent();
    scene.wait_for_more();
    let (now, _) = scene.said();
    let captured = scene.written_together(capture_again(&scene, &set));
    assert!(
        before <= captured && captured < now,
        "it is that of then: {before} {captured} {now}"
    );
    check_that_all_goes_on(&scene);
}

#[test]
fn a_machine_that_is_killed_while_it_is_frozen_starts_again_with_what_it_had() {
    let scene = Scene::boot(Work::Journal, REQUIRED);
    scene.wait_for_more();
    let (_, set) = scene.new_set();
    let hold = Hold::new(&scene);
    let captured = std::thread::scope(|scope| {
        let capture = scope.spawn(|| scene.pool().snapshot_together(&set, FreezePolicy::Skip));
        hold.wait_until_frozen(&scene);
        scene.kill();
        drop(hold);
        capture.join().unwrap()
    });
    assert!(captured.is_err(), "{captured:?}");
    let seen = scene.agent().machines.inspect(scene.instance).unwrap();
    assert_eq!(seen.power, Power::Off);

    // Everything was frozen when it ended.
    let at_the_end = scene.written_together(capture_again(&scene, &set));
    let (said, _) = scene.said();
    assert!(at_the_end >= said, "{at_the_end} of {said}");
    scene.start();
    check_that_all_goes_on(&scene);
}
