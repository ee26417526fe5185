//! Volumes in tables.

use stillpoint_model::operation::OperationKind;
use stillpoint_wire::volume::{Volume, VolumeOrigin};

use crate::output::{Cell, Column, Record};

impl Record for Volume {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |v| Cell::text(&v.name)),
            Column::new("STATE", |v| Cell::text(&v.state)),
            Column::new("SIZE", |v| Cell::Bytes(v.size_bytes)),
            Column::new("USED", |v| Cell::Bytes(v.used_bytes)),
            Column::new("ROLE", |v| Cell::text(&v.role)),
            Column::new("SNAPSHOTS", |v| of_cap(v.snapshots, v.caps.max_snapshots)),
            Column::new("BACKUPS", |v| of_cap(v.backups, v.caps.max_backups)),
            Column::new("ATTACHED TO", |v| {
                Cell::maybe(v.attachment.as_ref().map(attachment))
            }),
            Column::new("NOW", |v| Cell::Text(now(v))),
            Column::wide("POOL", |v| Cell::text(&v.pool)),
            Column::wide("REGION", |v| Cell::text(&v.region)),
            Column::wide("PLAN", |v| Cell::text(&v.plan)),
            Column::wide("COMPRESSION", |v| Cell::text(&v.compression_level)),
            Column::wide("MADE FROM", |v| Cell::maybe(v.origin.map(origin))),
            Column::wide("FAILURE", |v| {
                Cell::maybe(v.failure.as_ref().map(Cell::text))
            }),
            Column::wide("CREATED", |v| Cell::Time(v.created_at)),
            Column::wide("ID", |v| Cell::text(&v.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.to_string()
    }
}

fn of_cap(count: u32, cap: u32) -> Cell {
    Cell::Text(format!("{count} of {cap}"))
}

fn attachment(attachment: &stillpoint_wire::volume::Attachment) -> Cell {
    Cell::Text(format!("{} ({})", attachment.instance, attachment.state))
}

fn origin(origin: VolumeOrigin) -> Cell {
    Cell::Text(match origin {
        VolumeOrigin::Snapshot(id) => format!("snapshot {id}"),
        VolumeOrigin::Backup(id) => format!("backup {id}"),
        VolumeOrigin::Volume(id) => format!("volume {id}"),
        VolumeOrigin::Upload => "upload".into(),
        VolumeOrigin::Image(id) => format!("image {id}"),
    })
}

/// What it is busy with, or how long it rests.
fn now(volume: &Volume) -> String {
    if let Some(active) = &volume.active_operation {
        let percent = active
            .progress
            .percent
            .map(|p| format!(" {p} %"))
            .unwrap_or_default();
        let kind = OperationKind::from(active.kind).word();
        return format!("{kind}: {}{percent}", active.progress.phase);
    }
    if let Some(filling) = &volume.filling {
        let percent = filling.progress.as_ref().and_then(|p| p.percent);
        let percent = percent.map(|p| format!(" {p} %")).unwrap_or_default();
        return match &filling.failure {
            Some(failure) => format!("filling: {failure}"),
            None => format!("filling{percent}"),
        };
    }
    match volume.cooldown_remaining_s {
        0 => String::new(),
        seconds => format!("cooldown {seconds} s"),
    }
}
