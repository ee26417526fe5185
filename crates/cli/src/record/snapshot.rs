//! Snapshots in tables.

use stillpoint_wire::snapshot::Snapshot;

use super::{duration_ms, labels};
use crate::output::{Cell, Column, Record};

impl Record for Snapshot {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |s| Cell::text(&s.name)),
            Column::new("VOLUME", |s| {
                source(&s.volume_name.to_string(), s.source_exists)
            }),
            Column::new("STATE", |s| Cell::text(&s.state)),
            Column::new("SIZE", |s| Cell::Bytes(s.sizes.provisioned_bytes)),
            Column::new("CHANGED", |s| Cell::Bytes(s.sizes.changed_bytes)),
            Column::new("FREED IF DELETED", |s| {
                Cell::Bytes(s.sizes.freed_if_deleted_bytes)
            }),
            Column::new("CONSISTENCY", |s| {
                Cell::maybe(s.consistency.as_ref().map(Cell::text))
            }),
            Column::new("CREATED", |s| Cell::Time(s.created_at)),
            Column::new("PROTECTED", |s| Cell::Flag(s.protected)),
            Column::wide("TRIGGER", |s| Cell::text(&s.trigger)),
            Column::wide("USED", |s| Cell::Bytes(s.sizes.used_bytes)),
            Column::wide("STORED", |s| Cell::Bytes(s.sizes.stored_bytes)),
            Column::wide("DURATION", |s| Cell::maybe(s.duration_ms.map(duration_ms))),
            Column::wide("EXPIRES", |s| Cell::maybe(s.expires_at.map(Cell::Time))),
            Column::wide("DESCRIPTION", |s| Cell::text(&s.description)),
            Column::wide("LABELS", |s| labels(&s.labels)),
            Column::wide("FAILURE", |s| {
                Cell::maybe(s.failure.as_ref().map(Cell::text))
            }),
            Column::wide("VOLUME ID", |s| Cell::text(&s.volume_id)),
            Column::wide("ID", |s| Cell::text(&s.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.to_string()
    }
}

/// The volume's name, and whether it is still there.
pub fn source(volume_name: &str, exists: bool) -> Cell {
    Cell::Text(if exists {
        volume_name.into()
    } else {
        format!("{volume_name} (deleted)")
    })
}
