//! The use cases, end to end: through admission, the engine and the board, with a node that does
//! nothing but answer.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests stop the test"
)]

mod access;
mod audits;
mod care;
mod copies;
mod guards;
mod images;
mod instance_snapshots;
mod instances;
mod isolation;
mod items;
mod lab;
mod once;
mod pages;
mod races;
mod safety;
