//! The rules one by one, and the protocol that they make as a whole.

mod model;
mod rules;
