//! The command line as its users meet it: what is printed where, and the exit codes.
//!
//! The server is a stub that answers what a test tells it to, so that each test asks one
//! question of the CLI alone. The real server is met in `server.rs`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod auth;
mod change;
mod completion;
mod failure;
mod help;
mod image;
mod instance;
mod instance_snapshot;
mod output;
mod pool;
mod rescue;
mod run;
mod sample;
mod server;
mod stub;
