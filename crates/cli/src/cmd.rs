//! One module per noun; its verbs, and what they print.

pub mod admin;
pub mod api;
pub mod auth;
pub mod backup;
pub mod completion;
pub mod flavor;
pub mod image;
pub mod instance;
pub mod operation;
pub mod pool;
pub mod restore;
pub mod snapshot;
pub mod vault;
pub mod volume;

mod change;
mod disk;
mod item;
mod long_work;
