//! Nodes, pools and backup targets in tables.

use stillpoint_wire::admin::{Node, Pool, Target};

use crate::output::{Cell, Column, Record};

impl Record for Node {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |n| Cell::text(&n.name)),
            Column::new("REGION", |n| Cell::text(&n.region)),
            Column::new("ONLINE", |n| Cell::Flag(n.online)),
            Column::new("LAST SEEN", |n| Cell::maybe(n.last_seen_at.map(Cell::Time))),
            Column::new("ID", |n| Cell::text(&n.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.clone()
    }
}

impl Record for Pool {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |p| Cell::text(&p.name)),
            Column::new("DRIVER", |p| Cell::text(&p.driver)),
            Column::new("NODE ID", |p| Cell::text(&p.node_id)),
            Column::new("ID", |p| Cell::text(&p.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.clone()
    }
}

impl Record for Target {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |t| Cell::text(&t.name)),
            Column::new("DRIVER", |t| Cell::text(&t.driver)),
            Column::new("ID", |t| Cell::text(&t.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.clone()
    }
}
