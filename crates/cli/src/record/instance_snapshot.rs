//! How instance snapshots are printed.

use stillpoint_wire::instance_snapshot::InstanceSnapshot;

use super::snapshot::source;
use super::{duration_ms, labels};
use crate::output::{Cell, Column, Record};

impl Record for InstanceSnapshot {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |s| Cell::text(&s.name)),
            Column::new("INSTANCE", |s| {
                source(&s.instance_name.to_string(), s.source_exists)
            }),
            Column::new("STATE", |s| Cell::text(&s.state)),
            Column::new("VOLUMES", |s| Cell::text(&s.volumes.len())),
            Column::new("SIZE", |s| Cell::Bytes(s.sizes.provisioned_bytes)),
            Column::new("CHANGED", |s| Cell::Bytes(s.sizes.changed_bytes)),
            Column::new("CONSISTENCY", |s| {
                Cell::maybe(s.consistency.as_ref().map(Cell::text))
            }),
            Column::new("CREATED", |s| Cell::Time(s.created_at)),
            Column::new("PROTECTED", |s| Cell::Flag(s.protected)),
            Column::wide("FLAVOR", |s| Cell::text(&s.flavor.name)),
            Column::wide("TRIGGER", |s| Cell::text(&s.trigger)),
            Column::wide("DURATION", |s| Cell::maybe(s.duration_ms.map(duration_ms))),
            Column::wide("DESCRIPTION", |s| Cell::text(&s.description)),
            Column::wide("LABELS", |s| labels(&s.labels)),
            Column::wide("FAILURE", |s| {
                Cell::maybe(s.failure.as_ref().map(Cell::text))
            }),
            Column::wide("INSTANCE ID", |s| Cell::text(&s.instance_id)),
            Column::wide("ID", |s| Cell::text(&s.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.to_string()
    }
}
