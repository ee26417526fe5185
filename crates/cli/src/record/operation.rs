//! Operations in tables.

use std::time::Duration;

use stillpoint_wire::operation::Operation;

use super::human_duration;
use crate::output::{Cell, Column, Record};

impl Record for Operation {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("ID", |o| Cell::text(&o.id)),
            Column::new("KIND", |o| Cell::text(&o.kind)),
            Column::new("VOLUME", |o| {
                Cell::maybe(o.volume_name.as_ref().map(Cell::text))
            }),
            Column::new("INSTANCE", |o| {
                Cell::maybe(o.instance_name.as_ref().map(Cell::text))
            }),
            Column::new("IMAGE", |o| {
                Cell::maybe(o.image_name.as_ref().map(Cell::text))
            }),
            Column::new("STATE", |o| Cell::text(&o.state)),
            Column::new("PHASE", |o| Cell::text(&o.progress.phase)),
            Column::new("PROGRESS", |o| Cell::maybe(o.progress.percent.map(percent))),
            Column::new("LEFT", |o| Cell::maybe(o.progress.eta_s.map(left))),
            Column::new("CREATED", |o| Cell::Time(o.created_at)),
            Column::wide("DONE", |o| Cell::Bytes(o.progress.bytes_done)),
            Column::wide("TOTAL", |o| {
                Cell::maybe(o.progress.bytes_total.map(Cell::Bytes))
            }),
            Column::wide("RATE PER SECOND", |o| {
                Cell::maybe(o.progress.rate.map(Cell::Bytes))
            }),
            Column::wide("STARTED", |o| Cell::maybe(o.started_at.map(Cell::Time))),
            Column::wide("FINISHED", |o| Cell::maybe(o.finished_at.map(Cell::Time))),
            Column::wide("FAILURE", |o| {
                Cell::maybe(o.failure.as_ref().map(|f| Cell::text(&f.detail)))
            }),
            Column::wide("VOLUME ID", |o| {
                Cell::maybe(o.volume_id.as_ref().map(Cell::text))
            }),
            Column::wide("INSTANCE ID", |o| {
                Cell::maybe(o.instance_id.as_ref().map(Cell::text))
            }),
            Column::wide("IMAGE ID", |o| {
                Cell::maybe(o.image_id.as_ref().map(Cell::text))
            }),
            Column::wide("SNAPSHOT ID", |o| {
                Cell::maybe(o.snapshot_id.as_ref().map(Cell::text))
            }),
            Column::wide("BACKUP ID", |o| {
                Cell::maybe(o.backup_id.as_ref().map(Cell::text))
            }),
        ]
    }

    fn reference(&self) -> String {
        self.id.to_string()
    }
}

fn percent(percent: u8) -> Cell {
    Cell::Text(format!("{percent} %"))
}

fn left(seconds: u64) -> Cell {
    Cell::Text(human_duration(Duration::from_secs(seconds)))
}
