//! Comma-separated values as RFC 4180 has them, without the header's ambiguity: there is always
//! one.

use super::Record;

/// A header line and one line per item, without the last line's end.
pub fn document<T: Record>(items: &[T]) -> String {
    let columns = T::columns();
    let mut lines = vec![join(
        columns
            .iter()
            .map(|c| c.title.to_lowercase().replace(' ', "_")),
    )];
    lines.extend(
        items
            .iter()
            .map(|item| join(columns.iter().map(|c| (c.cell)(item).exact()))),
    );
    lines.join("\r\n")
}

fn join(fields: impl Iterator<Item = String>) -> String {
    fields
        .map(|field| quoted(&field))
        .collect::<Vec<_>>()
        .join(",")
}

fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_would_break_a_line() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("say \"hi\"\n"), "\"say \"\"hi\"\"\n\"");
    }
}
