//! Nodes, pools, backup targets and the health of vaults in tables.

use stillpoint_wire::admin::{BadObject, Copies, Node, Pool, Target, VaultHealth};

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
            Column::new("FOR", |t| Cell::text(&t.role)),
            Column::new("REGION", |t| Cell::text(&t.region)),
            Column::wide("LOCKS", |t| {
                Cell::maybe(t.object_lock.as_ref().map(Cell::text))
            }),
            Column::new("ID", |t| Cell::text(&t.id)),
        ]
    }

    fn reference(&self) -> String {
        self.name.clone()
    }
}

impl Record for VaultHealth {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("ACCOUNT", |v| Cell::text(&v.account)),
            Column::new("BACKUPS", |v| Cell::text(&v.backups)),
            Column::new("FREED", |v| Cell::Bytes(v.freed)),
            Column::new("COLLECTION", |v| {
                let last = v.collection.as_ref();
                Cell::maybe(last.map(|last| Cell::text(&last.state)))
            }),
            Column::new("WAITS UNTIL", |v| {
                let until = v.collection.as_ref().and_then(|last| last.until);
                Cell::maybe(until.map(Cell::Time))
            }),
            Column::new("TO CONFIRM", |v| {
                let asked = v.collection.as_ref().and_then(|last| last.would_free);
                Cell::maybe(asked.map(Cell::Bytes))
            }),
            Column::new("VERIFIED", |v| {
                let at = v.verification.as_ref().and_then(|last| last.at);
                Cell::maybe(at.map(Cell::Time))
            }),
            Column::new("DAMAGED", |v| Cell::text(&v.damage.len())),
            Column::new("MENDED", |v| {
                let last = v.mending.as_ref();
                Cell::maybe(last.map(|last| Cell::text(&last.mended.len())))
            }),
            Column::new("COPIED", |v| {
                let of = |c: &Copies| format!("{} of {}", c.copied, c.copied + c.waiting);
                Cell::maybe(v.copies.as_ref().map(|c| Cell::Text(of(c))))
            }),
            Column::new("BEHIND", |v| {
                Cell::maybe(v.copies.as_ref().map(|c| Cell::text(&c.behind)))
            }),
            Column::new("LAST COPIED", |v| {
                let at = v.copies.as_ref().and_then(|copies| copies.passed_at);
                Cell::maybe(at.map(Cell::Time))
            }),
            Column::new("WHY", |v| {
                let refused = v.collection.as_ref().and_then(|last| last.reason.as_ref());
                let copying = v.copies.as_ref().and_then(|copies| copies.failure.as_ref());
                let why = v.failure.as_ref().or(refused).or(copying);
                Cell::maybe(why.map(Cell::text))
            }),
            Column::new("VAULT ID", |v| Cell::text(&v.vault_id)),
        ]
    }

    fn reference(&self) -> String {
        self.vault_id.to_string()
    }
}

impl Record for BadObject {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("BAD OBJECT", |b| Cell::text(&b.object)),
            Column::new("WHAT", |b| Cell::text(&b.what)),
            Column::new("BACKUPS THAT NEED IT", |b| {
                let ids: Vec<String> = b.affected.iter().map(ToString::to_string).collect();
                Cell::Text(ids.join(" "))
            }),
        ]
    }

    fn reference(&self) -> String {
        self.object.clone()
    }
}
