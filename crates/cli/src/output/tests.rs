use super::*;

#[derive(Serialize)]
struct Thing {
    name: &'static str,
    size: u64,
    note: &'static str,
}

impl Record for Thing {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("NAME", |t| Cell::text(&t.name)),
            Column::new("SIZE", |t| Cell::Bytes(ByteCount::new(t.size))),
            Column::new("CREATED", |_| {
                Cell::Time(Timestamp::from_micros(1_795_000_000_123_456))
            }),
            Column::wide("LONG NOTE", |t| Cell::text(&t.note)),
            Column::wide("ID", |_| Cell::Nothing),
        ]
    }

    fn reference(&self) -> String {
        self.name.into()
    }
}

const THINGS: [Thing; 2] = [
    Thing {
        name: "db",
        size: 10 << 30,
        note: "two\nlines",
    },
    Thing {
        name: "数据库-wide",
        size: 512,
        note: "a\u{1b}[2J",
    },
];

#[test]
fn a_table_is_narrow_and_numbers_are_at_the_right() {
    insta::assert_snapshot!(table::rows(&THINGS, false), @r"
    NAME             SIZE  CREATED
    db           10.0 GiB  2026-11-18 11:06:40Z
    数据库-wide     512 B  2026-11-18 11:06:40Z
    ");
}

#[test]
fn a_wide_table_shows_every_column_and_obeys_no_escape_code() {
    insta::assert_snapshot!(table::rows(&THINGS, true), @r"
    NAME             SIZE  CREATED               LONG NOTE   ID
    db           10.0 GiB  2026-11-18 11:06:40Z  two lines   -
    数据库-wide     512 B  2026-11-18 11:06:40Z  a\u{1b}[2J  -
    ");
}

#[test]
fn one_thing_is_shown_as_fields() {
    insta::assert_snapshot!(table::fields(&THINGS[0]), @r"
    Name:       db
    Size:       10.0 GiB
    Created:    2026-11-18 11:06:40Z
    Long note:  two
                lines
    ID:         -
    ");
}

#[test]
fn csv_is_exact() {
    insta::assert_snapshot!(csv::document(&THINGS).replace("\r\n", "\n"), @r#"
    name,size,created,long_note,id
    db,10737418240,2026-11-18T11:06:40.123456Z,"two
    lines",
    数据库-wide,512,2026-11-18T11:06:40.123456Z,a[2J,
    "#);
}
