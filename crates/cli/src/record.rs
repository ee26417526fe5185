//! The columns of each noun: what of the API's answer people see in a table.

mod account;
mod backup;
mod image;
mod instance;
mod instance_snapshot;
mod operation;
pub mod rescue;
mod snapshot;
mod storage;
mod volume;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::output::Cell;

/// `a=1, b=2`.
fn labels(labels: &BTreeMap<String, String>) -> Cell {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    Cell::Text(pairs.join(", "))
}

/// Milliseconds as `0.4 s` or `2 min 5 s`.
fn duration_ms(millis: i64) -> Cell {
    let duration = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    Cell::Text(human_duration(duration))
}

/// `31 ms`, `1.4 s`, `7 s`, `12 s`, `2 min 5 s`, `3 h 20 min`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.subsec_nanos() > 0 => format!("{} ms", duration.as_millis().max(1)),
        0..10 if duration.subsec_nanos() > 0 => {
            format!("{seconds}.{} s", duration.subsec_millis() / 100)
        }
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests;
