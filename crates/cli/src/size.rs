//! Sizes as people type them: `10GiB`, `10G`, `512M`, `1.5 TiB`, or plain bytes.
//!
//! `G` and `GiB` are both 2^30 bytes; `GB` is 10^9, as its definition says.

use stillpoint_model::ByteCount;

const UNITS: [(&str, u64); 16] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("p", 1 << 50),
    ("pib", 1 << 50),
];

/// The text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a size as 10GiB, 512MiB, 1.5TiB or a number of bytes")]
pub struct InvalidSize;

/// Reads a size. A fraction is allowed when it is a whole number of bytes.
pub fn parse(text: &str) -> Result<ByteCount, InvalidSize> {
    let text = text.trim();
    let number_ends = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let unit = unit.trim().to_ascii_lowercase();
    let (_, scale) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(InvalidSize)?;

    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| InvalidSize)?;
    let bytes = whole.checked_mul(*scale).ok_or(InvalidSize)?;
    let rest = if fraction.is_empty() {
        0
    } else {
        fraction_of(fraction, *scale)?
    };
    if number.ends_with('.') {
        return Err(InvalidSize);
    }
    bytes
        .checked_add(rest)
        .map(ByteCount::new)
        .ok_or(InvalidSize)
}

/// `0.fraction * scale`, when that is a whole number.
fn fraction_of(digits: &str, scale: u64) -> Result<u64, InvalidSize> {
    let places = u32::try_from(digits.len())
        .ok()
        .filter(|n| *n <= 9)
        .ok_or(InvalidSize)?;
    let numerator: u128 = digits.parse().map_err(|_| InvalidSize)?;
    let product = numerator * u128::from(scale);
    let denominator = 10u128.pow(places);
    if !product.is_multiple_of(denominator) {
        return Err(InvalidSize);
    }
    u64::try_from(product / denominator).map_err(|_| InvalidSize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512M", 512 << 20),
            ("10G", 10 << 30),
            ("10GiB", 10 << 30),
            ("10 gib", 10 << 30),
            ("1.5TiB", (1 << 40) + (1 << 39)),
            ("20GB", 20_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(ByteCount::new(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in [
            "",
            "G",
            "ten",
            "-1G",
            "1.G",
            "1.2.3G",
            "10 GiBs",
            "0.3k",
            "99999999999P",
        ] {
            assert_eq!(parse(text), Err(InvalidSize), "{text}");
        }
    }
}
