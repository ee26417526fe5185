//! Backups in tables.

use stillpoint_wire::backup::Backup;

use super::snapshot::source;
use super::{duration_ms, labels};
use crate::output::{Cell, Column, Record};

impl Record for Backup {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |b| Cell::text(&b.name)),
            Column::new("VOLUME", |b| {
                source(&b.volume_name.to_string(), b.source_exists)
            }),
            Column::new("STATE", |b| Cell::text(&b.state)),
            Column::new("SIZE", |b| Cell::Bytes(b.sizes.provisioned_bytes)),
            Column::new("CHANGED", |b| Cell::Bytes(b.sizes.changed_bytes)),
            Column::new("STORED", |b| Cell::Bytes(b.sizes.stored_bytes)),
            Column::new("VERIFIED", |b| Cell::maybe(b.verified_at.map(Cell::Time))),
            Column::new("CREATED", |b| Cell::Time(b.created_at)),
            Column::new("PROTECTED", |b| Cell::Flag(b.protected)),
            Column::wide("LOCKED UNTIL", |b| {
                Cell::maybe(b.keep_until.map(Cell::Time))
            }),
            Column::wide("CONSISTENCY", |b| {
                Cell::maybe(b.consistency.as_ref().map(Cell::text))
            }),
            Column::wide("TRIGGER", |b| Cell::text(&b.trigger)),
            Column::wide("USED", |b| Cell::Bytes(b.sizes.used_bytes)),
            Column::wide("FREED IF DELETED", |b| {
                Cell::Bytes(b.sizes.freed_if_deleted_bytes)
            }),
            Column::wide("READ", |b| Cell::Bytes(b.bytes_read)),
            Column::wide("DURATION", |b| Cell::maybe(b.duration_ms.map(duration_ms))),
            Column::wide("DESCRIPTION", |b| Cell::text(&b.description)),
            Column::wide("LABELS", |b| labels(&b.labels)),
            Column::wide("FAILURE", |b| {
                Cell::maybe(b.failure.as_ref().map(Cell::text))
            }),
            Column::wide("CONTENT HASH", |b| {
                Cell::maybe(b.content_hash.as_ref().map(Cell::text))
            }),
            Column::wide("TARGET", |b| Cell::text(&b.target)),
            Column::wide("VOLUME ID", |b| Cell::text(&b.volume_id)),
            Column::wide("ID", |b| Cell::text(&b.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.to_string()
    }
}
