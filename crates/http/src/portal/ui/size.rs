//! Sizes in forms: a number and its unit.

use maud::{Markup, html};
use stillpoint_model::ByteCount;
use stillpoint_model::refusal::{ProblemCode, Refusal};

use super::{Fields, field_error};
use crate::portal::icon::Icon;

/// The field that holds the unit of the size in `name`.
fn unit_of(name: &str) -> String {
    format!("{name}-unit")
}

/// A size in GiB, MiB or TiB.
pub(in crate::portal) fn size_field(
    name: &str,
    label: &str,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let (id, wrong) = (format!("field-{name}"), field_error(error, name));
    let (note, unit_name) = (format!("{id}-note"), unit_of(name));
    let unit = fields.get(&unit_name);
    html! {
        div.field {
            label for=(id) { (label) }
            div.with-unit {
                input #(id) type="text" inputmode="decimal" name=(name) value=(fields.raw(name)) autocomplete="off"
                    aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong.map(|_| &note)];
                select name=(unit_name) aria-label={ "Unit of " (label) } {
                    @for (value, text) in [("gib", "GiB"), ("mib", "MiB"), ("tib", "TiB")] {
                        option value=(value) selected[unit == value] { (text) }
                    }
                }
            }
            @if let Some(text) = wrong { p #(note) .error { (Icon::Alert) (text) } }
        }
    }
}

/// Reads a size as it is written in the field: a number with at most three decimals.
pub(in crate::portal) fn read_size(fields: &Fields, name: &str) -> Result<ByteCount, Refusal> {
    let wrong = || {
        let text = "Enter a size such as 20 or 1.5.";
        Refusal::new(ProblemCode::InvalidRequest, text).at(format!("/{name}"))
    };
    let unit: u64 = match fields.get(&unit_of(name)) {
        "mib" => 1 << 20,
        "gib" | "" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let (whole, decimals) = fields
        .get(name)
        .split_once('.')
        .unwrap_or((fields.get(name), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let thousandths: u64 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
    let bytes = unit.checked_mul(whole).ok_or_else(wrong)?;
    let bytes = bytes
        .checked_add(unit * thousandths / 1000)
        .ok_or_else(wrong)?;
    Ok(ByteCount::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str, unit: &str) -> Option<u64> {
        let fields = Fields::default().with("size", text).with("size-unit", unit);
        read_size(&fields, "size").ok().map(ByteCount::get)
    }

    #[test]
    fn a_size_is_read_as_it_is_written() {
        assert_eq!(size("20", "gib"), Some(20 << 30));
        assert_eq!(size("1.5", "gib"), Some(3 << 29));
        assert_eq!(size("512", "mib"), Some(512 << 20));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "-1",
            "1e9",
            "1.",
            ".5",
            "1.2345",
            "99999999999999999999",
            "1 2",
        ] {
            assert_eq!(size(text, "gib"), None, "{text:?}");
        }
        assert_eq!(size("18446744073709551615", "tib"), None);
        assert_eq!(size("1", "kib"), None);
    }
}
