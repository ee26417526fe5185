//! The eligibility rules of the guides, each as a plan states it, walked through every
//! circumstance: R28 (stopped or detached), R29 (active and ready, with a warning under load),
//! R30 (anything) and R31 (anything, with advice).

use crate::id::InstanceId;
use crate::instance::{InstanceState, Load};
use crate::plan::EligibilityRule;
use crate::volume::OwnInstance;

use super::*;

fn plan_with(rules: &str) -> Plan {
    #[derive(serde::Deserialize)]
    struct Rules {
        eligibility: Vec<EligibilityRule>,
    }
    let rules: Rules = toml::from_str(rules).unwrap();
    Plan {
        eligibility: rules.eligibility,
        ..plan()
    }
}

/// A volume of an instance of ours, which a pool can capture live.
fn of_instance(state: InstanceState, ready: bool, load: Option<u8>) -> VolumeFacts {
    let attached = match state {
        InstanceState::Active => AttachedState::Running,
        _ => AttachedState::Stopped,
    };
    let own = OwnInstance {
        id: InstanceId::generate(&Fixed),
        place: 0,
        state,
        ready,
        load: load.map(Load::percent),
        active_operation: None,
    };
    VolumeFacts {
        state: VolumeState::InUse,
        attachment: Some(Attachment {
            own: Some(own),
            ..Attachment::reported("web-1".parse().unwrap(), attached)
        }),
        live_capture: true,
        ..volume()
    }
}

/// What a snapshot of it is answered: `yes`, the advice, or the refusal.
fn asked(plan: &Plan, role: VolumeRole, volume: VolumeFacts) -> String {
    let volume = VolumeFacts { role, ..volume };
    match can(Action::SnapshotCreate, &facts(plan, volume)) {
        Ok(allowed) if allowed.warnings.is_empty() => "yes".to_owned(),
        Ok(allowed) => format!("yes, but {}", allowed.warnings.join(" ")),
        Err(refusal) => format!("no: {}", refusal.text),
    }
}

/// Every circumstance, one line each.
fn walk(rules: &str) -> String {
    let plan = plan_with(rules);
    let mut lines = Vec::new();
    for role in [VolumeRole::Root, VolumeRole::Data] {
        let detached = VolumeFacts {
            live_capture: true,
            ..volume()
        };
        let stopped = of_instance(InstanceState::Stopped, true, None);
        let running = of_instance(InstanceState::Active, true, Some(20));
        let booting = of_instance(InstanceState::Active, false, Some(20));
        let busy = of_instance(InstanceState::Active, true, Some(95));
        for (what, volume) in [
            ("detached", detached),
            ("stopped", stopped),
            ("running", running),
            ("not ready", booting),
            ("heavy load", busy),
        ] {
            let answer = asked(&plan, role, volume);
            lines.push(format!("{role} {what}: {answer}"));
        }
    }
    lines.join("\n")
}

#[test]
fn r28_root_running_or_stopped_data_stopped_or_detached() {
    let seen = walk(
        r#"
        [[eligibility]]
        role = "root"
        attach = ["running", "stopped"]
        answer = "allow"

        [[eligibility]]
        role = "data"
        attach = ["stopped", "detached"]
        answer = "allow"

        [[eligibility]]
        answer = "deny"
        text = "Stop the instance or detach the volume."
        "#,
    );
    insta::assert_snapshot!(seen, @"
    root detached: no: Stop the instance or detach the volume.
    root stopped: yes
    root running: yes
    root not ready: yes
    root heavy load: yes
    data detached: yes
    data stopped: yes
    data running: no: Stop the instance or detach the volume.
    data not ready: no: Stop the instance or detach the volume.
    data heavy load: no: Stop the instance or detach the volume.
    ");
}

#[test]
fn r29_active_and_ready_with_a_warning_under_heavy_load() {
    let seen = walk(
        r#"
        [[eligibility]]
        instance_state = ["active"]
        ready = true
        load_above = 80
        answer = "warn"
        text = "The instance is under heavy load."

        [[eligibility]]
        instance_state = ["active"]
        ready = true
        answer = "allow"

        [[eligibility]]
        answer = "deny"
        text = "Only active instances whose set-up is over."
        "#,
    );
    insta::assert_snapshot!(seen, @"
    root detached: no: Only active instances whose set-up is over.
    root stopped: no: Only active instances whose set-up is over.
    root running: yes
    root not ready: no: Only active instances whose set-up is over.
    root heavy load: yes, but The instance is under heavy load.
    data detached: no: Only active instances whose set-up is over.
    data stopped: no: Only active instances whose set-up is over.
    data running: yes
    data not ready: no: Only active instances whose set-up is over.
    data heavy load: yes, but The instance is under heavy load.
    ");
}

#[test]
fn r30_anything_and_crash_consistent_while_it_runs() {
    let rules = "[[eligibility]]\nanswer = \"allow\"";
    let seen = walk(rules);
    assert!(seen.lines().all(|line| line.ends_with(": yes")), "{seen}");
    let plan = Plan {
        freeze: FreezePolicy::Skip,
        ..plan_with(rules)
    };
    let running = of_instance(InstanceState::Active, true, None);
    let allowed = can(Action::SnapshotCreate, &facts(&plan, running)).unwrap();
    assert_eq!(allowed.consistency, Some(Consistency::Crash));
}

#[test]
fn a_plan_that_freezes_promises_more_of_a_guest_that_came_up() {
    let rules = "[[eligibility]]\nanswer = \"allow\"";
    let promised = |freeze, ready| {
        let plan = Plan {
            freeze,
            ..plan_with(rules)
        };
        let running = of_instance(InstanceState::Active, ready, None);
        let allowed = can(Action::SnapshotCreate, &facts(&plan, running)).unwrap();
        allowed.consistency.unwrap()
    };
    assert_eq!(promised(FreezePolicy::Skip, true), Consistency::Crash);
    for freeze in [FreezePolicy::Try, FreezePolicy::Require] {
        assert_eq!(promised(freeze, true), Consistency::Filesystem);
        assert_eq!(promised(freeze, false), Consistency::Crash);
    }
    // Of what somebody else runs, nobody here can freeze anything.
    let plan = plan();
    let theirs = VolumeFacts {
        attachment: running(),
        live_capture: true,
        ..volume()
    };
    let allowed = can(Action::SnapshotCreate, &facts(&plan, theirs)).unwrap();
    assert_eq!(allowed.consistency, Some(Consistency::Crash));
}

#[test]
fn r31_anything_with_the_advice_to_power_off() {
    let seen = walk(
        r#"
        [[eligibility]]
        actions = ["snapshot_create"]
        attach = ["running"]
        answer = "warn"
        text = "Powering off first is recommended."

        [[eligibility]]
        answer = "allow"
        "#,
    );
    insta::assert_snapshot!(seen, @"
    root detached: yes
    root stopped: yes
    root running: yes, but Powering off first is recommended.
    root not ready: yes, but Powering off first is recommended.
    root heavy load: yes, but Powering off first is recommended.
    data detached: yes
    data stopped: yes
    data running: yes, but Powering off first is recommended.
    data not ready: yes, but Powering off first is recommended.
    data heavy load: yes, but Powering off first is recommended.
    ");
}
