//! What commands print on stdout, in the format that was asked for.
//!
//! A noun says once what its columns are ([`Record`]); the formats are the same for every noun.
//! People's formats (`table`, `wide`) round sizes and times; the others are exact: `csv` has plain
//! bytes and RFC 3339 times, `json` and `yaml` are what the API answered, field for field.
//!
//! **Invariant:** stdout carries the answer alone. Progress, questions and advice go to stderr.

mod csv;
mod table;
mod yaml;

use anstream::eprintln;
use clap::ValueEnum;
use serde::Serialize;
use stillpoint_model::{ByteCount, Timestamp};

use crate::failure::{Exit, Failure, Result, print};
use crate::style::printable;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns for people.
    Wide,
    /// What the API answered; a list is an array.
    Json,
    /// The same as YAML.
    Yaml,
    /// Every column, exact, with a header line.
    Csv,
    /// Names alone (ids of what has no name), one per line.
    Name,
}

/// One value of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A size.
    Bytes(ByteCount),
    /// A point in time.
    Time(Timestamp),
    /// Yes or no.
    Flag(bool),
    /// Not known, or not there.
    Nothing,
}

impl Cell {
    /// Words.
    pub fn text(text: &impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// The cell, or nothing.
    pub fn maybe(cell: Option<Self>) -> Self {
        cell.unwrap_or(Self::Nothing)
    }

    /// For people: rounded, without control characters.
    fn human(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "-".into(),
            Self::Text(text) => printable(text).into_owned(),
            Self::Bytes(bytes) => bytes.to_string(),
            Self::Time(time) => human_time(*time),
            Self::Flag(true) => "yes".into(),
            Self::Flag(false) => "no".into(),
            Self::Nothing => "-".into(),
        }
    }

    /// For programs: exact.
    fn exact(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => bytes.get().to_string(),
            Self::Time(time) => time.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Nothing => String::new(),
        }
    }

    /// Whether it is a number, which people compare by its right end.
    const fn is_number(&self) -> bool {
        matches!(self, Self::Bytes(_))
    }
}

/// To the second, UTC: `2026-11-21 09:30:00Z`.
pub fn human_time(time: Timestamp) -> String {
    let text = time.to_string();
    let seconds = text
        .split_once('.')
        .map_or(text.as_str(), |(seconds, _)| seconds);
    format!("{}Z", seconds.trim_end_matches('Z').replace('T', " "))
}

/// One column of a noun's table.
pub struct Column<T: ?Sized> {
    /// Its heading, in capitals.
    pub title: &'static str,
    /// Whether `table` leaves it out.
    pub wide: bool,
    /// What it holds for one record.
    pub cell: fn(&T) -> Cell,
}

impl<T> Column<T> {
    /// A column of every table.
    pub const fn new(title: &'static str, cell: fn(&T) -> Cell) -> Self {
        Self {
            title,
            wide: false,
            cell,
        }
    }

    /// A column that `table` leaves out.
    pub const fn wide(title: &'static str, cell: fn(&T) -> Cell) -> Self {
        Self {
            title,
            wide: true,
            cell,
        }
    }
}

/// Something that can be printed in every format.
pub trait Record: Serialize + Sized {
    /// Its columns, from left to right.
    fn columns() -> Vec<Column<Self>>;

    /// What `-o name` prints: something that other commands take.
    fn reference(&self) -> String;
}

/// Prints a list. `empty` is the advice on stderr when people would see an empty table.
pub fn list<T: Record>(format: Format, items: &[T], empty: &str) -> Result<()> {
    match format {
        Format::Table | Format::Wide if items.is_empty() => {
            eprintln!("{empty}");
            Ok(())
        }
        Format::Table | Format::Wide => print(table::rows(items, format == Format::Wide)),
        Format::Csv => print(csv::document(items)),
        Format::Json | Format::Yaml => value(format, &items),
        Format::Name => items.iter().try_for_each(|item| print(item.reference())),
    }
}

/// Prints one thing: for people, one line per field.
pub fn one<T: Record>(format: Format, item: &T) -> Result<()> {
    match format {
        Format::Table | Format::Wide => print(table::fields(item)),
        Format::Csv => print(csv::document(std::slice::from_ref(item))),
        Format::Json | Format::Yaml => value(format, item),
        Format::Name => print(item.reference()),
    }
}

/// Prints something that has no columns: YAML for people too.
pub fn value<T: Serialize + ?Sized>(format: Format, value: &T) -> Result<()> {
    let text = match format {
        // Straight from the type, so that the fields keep their order.
        Format::Json => serde_json::to_string_pretty(value),
        _ => serde_json::to_value(value).map(|value| yaml::document(&value)),
    };
    print(text.map_err(|error| {
        Failure::new(
            Exit::Other,
            "internal",
            format!("cannot print the answer: {error}"),
        )
    })?)
}

#[cfg(test)]
mod tests;
