//! Instances and flavors in tables.

use stillpoint_model::ByteCount;
use stillpoint_model::operation::OperationKind;
use stillpoint_wire::instance::{Flavor, Instance, InstanceVolume};

use crate::output::{Cell, Column, Record};

impl Record for Instance {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |i| Cell::text(&i.name)),
            Column::new("STATE", |i| Cell::text(&i.state)),
            Column::new("POWER", |i| Cell::text(&i.power)),
            Column::new("READY", |i| Cell::Flag(i.ready)),
            Column::new("FLAVOR", |i| Cell::text(&i.flavor.name)),
            Column::new("VCPUS", |i| Cell::text(&i.flavor.vcpus)),
            Column::new("MEMORY", |i| Cell::Bytes(i.flavor.memory_bytes)),
            Column::new("LOAD", |i| Cell::maybe(i.load_percent.map(percent))),
            Column::new("VOLUMES", |i| Cell::Text(volumes(&i.volumes))),
            Column::new("NOW", |i| Cell::Text(now(i))),
            Column::wide("GPU", |i| {
                Cell::maybe(i.flavor.gpu.as_ref().map(Cell::text))
            }),
            Column::wide("STORAGE", |i| Cell::Bytes(storage(&i.volumes))),
            Column::wide("POOL", |i| Cell::text(&i.pool)),
            Column::wide("NODE", |i| Cell::text(&i.node)),
            Column::wide("REGION", |i| Cell::text(&i.region)),
            Column::wide("FAILURE", |i| {
                Cell::maybe(i.failure.as_ref().map(Cell::text))
            }),
            Column::wide("STARTED", |i| Cell::maybe(i.started_at.map(Cell::Time))),
            Column::wide("CREATED", |i| Cell::Time(i.created_at)),
            Column::wide("ID", |i| Cell::text(&i.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.to_string()
    }
}

fn percent(percent: u8) -> Cell {
    Cell::Text(format!("{percent} %"))
}

fn volumes(volumes: &[InstanceVolume]) -> String {
    let names: Vec<_> = volumes.iter().map(|v| v.name.as_str()).collect();
    names.join(", ")
}

fn storage(volumes: &[InstanceVolume]) -> ByteCount {
    let sizes = volumes.iter().map(|v| v.size_bytes.get());
    ByteCount::new(sizes.fold(0, u64::saturating_add))
}

/// What it is busy with.
fn now(instance: &Instance) -> String {
    instance
        .active_operation
        .as_ref()
        .map_or_else(String::new, |active| {
            let kind = OperationKind::from(active.kind).word();
            format!("{kind}: {}", active.progress.phase)
        })
}

impl Record for Flavor {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |f| Cell::text(&f.name)),
            Column::new("VCPUS", |f| Cell::text(&f.vcpus)),
            Column::new("MEMORY", |f| Cell::Bytes(f.memory_bytes)),
            Column::new("GPU", |f| Cell::maybe(f.gpu.as_ref().map(Cell::text))),
        ]
    }

    fn reference(&self) -> String {
        self.name.to_string()
    }
}
