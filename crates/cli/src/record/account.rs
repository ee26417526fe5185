//! Who acts, and tokens, in tables.

use stillpoint_wire::session::WhoAmI;
use stillpoint_wire::token::Token;

use crate::output::{Cell, Column, Record};

impl Record for WhoAmI {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("LOGIN", |w| Cell::text(&w.login)),
            Column::new("ROLE", |w| Cell::text(&w.role)),
            Column::new("ACCOUNT ID", |w| Cell::text(&w.account_id)),
            Column::wide("PROJECT ID", |w| Cell::text(&w.project_id)),
            Column::wide("USER ID", |w| Cell::text(&w.user_id)),
        ]
    }

    fn reference(&self) -> String {
        self.login.clone()
    }
}

impl Record for Token {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |t| Cell::text(&t.name)),
            Column::new("STARTS WITH", |t| Cell::text(&t.prefix)),
            Column::new("CREATED", |t| Cell::Time(t.created_at)),
            Column::new("EXPIRES", |t| Cell::maybe(t.expires_at.map(Cell::Time))),
            Column::new("LAST USED", |t| Cell::maybe(t.last_used_at.map(Cell::Time))),
            Column::new("ID", |t| Cell::text(&t.id)),
        ]
    }

    fn reference(&self) -> String {
        self.id.to_string()
    }
}
