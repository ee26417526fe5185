//! Tables for people: no lines, two spaces between columns, numbers at the right.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{Cell, Record};

/// One row per item, under headings.
pub fn rows<T: Record>(items: &[T], wide: bool) -> String {
    let columns: Vec<_> = T::columns()
        .into_iter()
        .filter(|c| wide || !c.wide)
        .collect();
    let mut table = plain();
    table.set_header(columns.iter().map(|c| c.title));
    for item in items {
        table.add_row(columns.iter().map(|column| one_line(&(column.cell)(item))));
    }
    for (index, column) in columns.iter().enumerate() {
        let numbers = items.iter().any(|item| (column.cell)(item).is_number());
        if let Some(column) = table.column_mut(index).filter(|_| numbers) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    finish(&table)
}

/// One line per field, its name before it.
pub fn fields<T: Record>(item: &T) -> String {
    let mut table = plain();
    for column in T::columns() {
        let cell = (column.cell)(item);
        table.add_row([heading(column.title), cell.human()]);
    }
    finish(&table)
}

/// `FREED IF DELETED` as `Freed if deleted:`.
fn heading(title: &str) -> String {
    let mut chars = title.chars();
    let first = chars.next().map(String::from).unwrap_or_default();
    let rest = if title.len() <= 2 {
        chars.collect()
    } else {
        chars.as_str().to_lowercase()
    };
    format!("{first}{rest}:")
}

fn plain() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// A row is one line, whatever was written into it.
fn one_line(cell: &Cell) -> String {
    cell.human().replace('\n', " ")
}

/// Two spaces between columns, none at the start of a line, none at its end.
fn finish(table: &Table) -> String {
    let lines: Vec<String> = table
        .lines()
        .map(|line| {
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect();
    lines.join("\n")
}
