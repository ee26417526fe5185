//! Images in tables.

use stillpoint_wire::image::{Image, ImageOrigin};

use super::{duration_ms, labels};
use crate::output::{Cell, Column, Record};

impl Record for Image {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |i| Cell::text(&i.name)),
            Column::new("STATE", |i| Cell::text(&i.state)),
            Column::new("SIZE", |i| Cell::Bytes(i.size_bytes)),
            Column::new("USED", |i| Cell::Bytes(i.used_bytes)),
            Column::new("MADE FROM", |i| Cell::Text(origin(i))),
            Column::new("POOL", |i| Cell::text(&i.pool)),
            Column::new("CREATED", |i| Cell::Time(i.created_at)),
            Column::new("PROTECTED", |i| Cell::Flag(i.protected)),
            Column::wide("CONSISTENCY", |i| {
                Cell::maybe(i.consistency.as_ref().map(Cell::text))
            }),
            Column::wide("DURATION", |i| Cell::maybe(i.duration_ms.map(duration_ms))),
            Column::wide("REGION", |i| Cell::text(&i.region)),
            Column::wide("DESCRIPTION", |i| Cell::text(&i.description)),
            Column::wide("LABELS", |i| labels(&i.labels)),
            Column::wide("FAILURE", |i| {
                Cell::maybe(i.failure.as_ref().map(Cell::text))
            }),
            Column::wide("ID", |i| Cell::text(&i.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.to_string()
    }
}

fn origin(image: &Image) -> String {
    let noun = match image.origin {
        ImageOrigin::Snapshot(_) => "snapshot",
        ImageOrigin::Backup(_) => "backup",
        ImageOrigin::InstanceSnapshot(_) => "instance snapshot",
        ImageOrigin::Upload => "upload",
    };
    match &image.origin_name {
        Some(name) => format!("{noun} {name}"),
        None => noun.to_owned(),
    }
}
