use std::time::Duration;

use maud::{Markup, Render};
use stillpoint_model::guard::Allowed;
use stillpoint_model::id::{AccountId, BackupId, OperationId, ProjectId, UserId, VolumeId};
use stillpoint_model::item::RestorePointId;
use stillpoint_model::operation::{Operation, OperationKind, OperationState, Phase, Progress};
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};
use stillpoint_model::{ByteCount, Timestamp};
use uuid::Uuid;

use super::*;
use crate::portal::icon::Icon;

const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

fn volume_id() -> VolumeId {
    VolumeId::from_uuid(Uuid::from_u128(7))
}

fn operation(progress: Progress) -> Operation {
    Operation {
        id: OperationId::from_uuid(Uuid::from_u128(1)),
        account_id: AccountId::from_uuid(Uuid::nil()),
        project_id: ProjectId::from_uuid(Uuid::nil()),
        user_id: UserId::from_uuid(Uuid::nil()),
        kind: OperationKind::BackupCreate,
        instance_id: None,
        instance_name: None,
        image_id: None,
        image_name: None,
        instance_snapshot_id: None,
        state: OperationState::Running,
        volume_id: Some(volume_id()),
        volume_name: None,
        snapshot_id: None,
        backup_id: None,
        progress,
        fence: 1,
        failure: None,
        created_at: NOW,
        started_at: Some(NOW.saturating_sub(Duration::from_secs(75))),
        progressed_at: NOW,
        finished_at: None,
        version: 1,
    }
}

fn action(answer: &Answer) -> String {
    Action {
        id: "take-snapshot",
        label: "Take Snapshot",
        icon: Icon::Camera,
        href: "/volumes/v/snapshots/new".to_owned(),
        class: "primary",
        answer,
        now: NOW,
    }
    .render()
    .into_string()
}

fn text(markup: &Markup) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in markup.0.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

#[test]
fn what_is_possible_is_a_link_to_its_dialog() {
    let html = action(&Ok(Allowed::default()));
    assert!(
        html.contains(r#"href="/volumes/v/snapshots/new""#),
        "{html}"
    );
    assert!(!html.contains("disabled"), "{html}");
}

#[test]
fn what_is_not_possible_is_disabled_and_says_why() {
    let refusal = Refusal::new(ProblemCode::SnapshotLimit, "Snapshot limit reached.")
        .or(WayOut::DeleteSnapshot(volume_id()));
    let html = action(&Err(refusal));
    assert!(
        html.contains(r#"disabled aria-describedby="take-snapshot-reason""#),
        "{html}"
    );
    assert!(
        html.contains(r#"<p class="reason" id="take-snapshot-reason">Snapshot limit reached."#),
        "{html}"
    );
    let list = format!(r#"href="/volumes/{}/snapshots""#, volume_id());
    assert!(html.contains(&list), "{html}");
}

#[test]
fn a_cooldown_counts_down_inside_the_sentence_of_the_guard() {
    let text_of_guard = "Volume is in cooldown. Try again in 217 seconds.";
    let refusal =
        Refusal::new(ProblemCode::Cooldown, text_of_guard).after(Duration::from_secs(217));
    let markup = reason(&refusal, NOW, None);
    assert_eq!(text(&markup), text_of_guard);
    let until = millis(NOW) + 217_000;
    assert!(
        markup.0.contains(&format!(
            r#"data-until="{until}" data-left="217" data-unit="s""#
        )),
        "{}",
        markup.0
    );
}

#[test]
fn a_way_out_without_a_page_is_words_and_no_link() {
    let refusal = Refusal::new(ProblemCode::AttachedRunning, "Attached.")
        .or(WayOut::StopInstance(None))
        .or(WayOut::RestoreToNewVolume);
    let backup = RestorePointId::Backup(BackupId::from_uuid(Uuid::from_u128(9)));
    let markup = reason(&refusal, NOW, Some(backup.into()));
    assert_eq!(
        text(&markup),
        "Attached. Stop the instance. Restore to a new volume"
    );
    assert_eq!(markup.0.matches("<a ").count(), 1, "{}", markup.0);
}

#[test]
fn a_bar_without_a_known_total_is_indeterminate() {
    let mut progress = Progress::start(Phase::DataCapture);
    progress.bytes_done = ByteCount::from_mib(5);
    let html = bar(&operation(progress), "wide").into_string();
    assert!(!html.contains("value=") && !html.contains("max="), "{html}");
}

#[test]
fn a_bar_with_a_total_shows_its_share() {
    let progress = Progress {
        phase: Phase::DataCapture,
        bytes_done: ByteCount::from_mib(5),
        bytes_total: Some(ByteCount::from_mib(20)),
        rate_bytes_per_s: Some(ByteCount::from_mib(1)),
    };
    let operation = operation(progress);
    let html = bar(&operation, "wide").into_string();
    assert!(html.contains(r#"max="20971520" value="5242880""#), "{html}");
    let figures = text(&figures(&operation, NOW));
    for part in [
        "Phase: Data capture",
        "5.00 MiB of 20.0 MiB",
        "25 %",
        "1.00 MiB/s",
        "Elapsed 1:15",
        "About 15.0 s left",
    ] {
        assert!(figures.contains(part), "{part}: {figures}");
    }
}

#[test]
fn figures_leave_out_what_is_unknown() {
    let figures = text(&figures(&operation(Progress::start(Phase::Waiting)), NOW));
    assert_eq!(figures, "Phase: WaitingElapsed 1:15");
}

#[test]
fn what_people_typed_is_escaped() {
    let fields = Fields::default().with("name", "\"><script>alert(1)</script>");
    let html = text_field("name", "Name", &fields, None)
        .render()
        .into_string();
    assert!(!html.contains("<script>"), "{html}");
}

#[test]
fn a_wrong_field_says_so_beside_itself() {
    let refusal = Refusal::new(ProblemCode::NameTaken, "Taken.").at("/name");
    let html = text_field("name", "Name", &Fields::default(), Some(&refusal))
        .render()
        .into_string();
    assert!(
        html.contains(r#"aria-invalid="true" aria-describedby="field-name-note""#),
        "{html}"
    );
    assert!(html.contains("Taken."), "{html}");
}
