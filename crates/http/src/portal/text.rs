//! Numbers, times and states in words that people read.

use std::time::Duration;

use stillpoint_model::Timestamp;
use stillpoint_model::operation::{Operation, OperationKind, Phase};

/// `2026-11-21 02:40`, in UTC.
pub(super) fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute}"),
        _ => text,
    }
}

/// `2026-11-21 02:40 UTC`.
pub(super) fn utc(at: Timestamp) -> String {
    format!("{} UTC", minute(at))
}

/// How long ago something was: `just now`, `5 min ago`, `3 h ago`, `2 days ago`.
pub(super) fn ago(now: Timestamp, at: Timestamp) -> String {
    match now.duration_since(at).as_secs() {
        0..60 => "just now".into(),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds @ 86_400..172_800 => format!("{} day ago", seconds / 86_400),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// A clock that runs: `0:07`, `4:05`, `1:02:03`. `portal.js` prints the same.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{rest:02}")
    } else {
        format!("{minutes}:{rest:02}")
    }
}

/// How long something took or will take: `340 ms`, `4.2 s`, `3 min 12 s`, `2 h 5 min`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        60..3600 => match seconds % 60 {
            0 => format!("{} min", seconds / 60),
            rest => format!("{} min {rest} s", seconds / 60),
        },
        3600..172_800 => match seconds / 60 % 60 {
            0 => format!("{} h", seconds / 3600),
            rest => format!("{} h {rest} min", seconds / 3600),
        },
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long something took, from the milliseconds that an item records.
pub(super) fn took(duration_ms: Option<i64>) -> Option<String> {
    let millis = u64::try_from(duration_ms?).ok()?;
    Some(span(Duration::from_millis(millis)))
}

/// What an operation is, as the start of `... in progress`.
pub(super) const fn operation(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::VolumeCreate => "Volume creation",
        OperationKind::VolumeImport => "Import",
        OperationKind::VolumeClone => "Clone",
        OperationKind::VolumeResize => "Resize",
        OperationKind::VolumeDelete => "Volume deletion",
        OperationKind::SnapshotCreate => "Snapshot",
        OperationKind::SnapshotDelete => "Snapshot deletion",
        OperationKind::BackupCreate => "Backup",
        OperationKind::BackupDelete => "Backup deletion",
        OperationKind::BackupVerify => "Backup verification",
        OperationKind::RestoreNew => "Restore to a new volume",
        OperationKind::RestoreInPlace => "Roll back",
        OperationKind::InstanceCreate => "Instance creation",
        OperationKind::InstanceStart => "Start",
        OperationKind::InstanceStop => "Stop",
        OperationKind::InstancePause => "Pause",
        OperationKind::InstanceResume => "Resume",
        OperationKind::InstanceDelete => "Instance deletion",
        OperationKind::VolumeAttach => "Attachment",
        OperationKind::VolumeDetach => "Detachment",
        OperationKind::InstanceSnapshotCreate => "Instance snapshot",
        OperationKind::InstanceSnapshotDelete => "Instance snapshot deletion",
        OperationKind::InstanceRebuild => "Rebuild",
        OperationKind::ImageCreate => "Image",
        OperationKind::ImageDelete => "Image deletion",
    }
}

/// What an operation is, with the name of what it is about.
pub(super) fn operation_of(about: &Operation) -> String {
    let noun = operation(about.kind);
    let volume = about.volume_name.as_ref();
    let name = volume.or(about.instance_name.as_ref());
    match name.or(about.image_name.as_ref()) {
        Some(name) => format!("{noun} of {name}"),
        None => noun.to_owned(),
    }
}

/// A phase, as the start of a sentence.
pub(super) fn phase(phase: Phase) -> String {
    capitalized(phase.as_str())
}

/// A word of the model as the start of a sentence: `in-use` is `In use`.
pub(super) fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    let rest: String = chars.map(|c| if c == '_' { ' ' } else { c }).collect();
    first.unwrap_or_default() + &rest
}

/// The start of a long text.
pub(super) fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 90;
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && line.chars().count() <= MAX_CHARS {
        return line.to_owned();
    }
    let start: String = line.chars().take(MAX_CHARS).collect();
    format!("{}…", start.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_grows_hours_only_when_it_needs_them() {
        for (seconds, text) in [(0, "0:00"), (7, "0:07"), (245, "4:05"), (3723, "1:02:03")] {
            assert_eq!(clock(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_span_keeps_two_units() {
        for (millis, text) in [
            (0, "0 ms"),
            (340, "340 ms"),
            (4_260, "4.2 s"),
            (192_000, "3 min 12 s"),
            (7_500_000, "2 h 5 min"),
            (86_400_000, "24 h"),
            (259_200_000, "3 days"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_time_is_printed_to_the_minute_with_its_zone() {
        let at = "2026-11-21T02:40:59.5Z".parse().unwrap();
        assert_eq!(utc(at), "2026-11-21 02:40 UTC");
    }
}
