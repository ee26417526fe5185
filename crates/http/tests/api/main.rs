//! The API as its users meet it: a real server on a port of its own over a temporary database,
//! with a node that does its work in an instant.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "nothing but tests"
)]

mod account_matrix;
mod events;
mod fake_node;
mod hostile;
mod images;
mod instances;
mod mutations;
mod openapi;
mod portal;
mod portal_images;
mod problems;
mod server;
mod uploads;
mod visitor;
