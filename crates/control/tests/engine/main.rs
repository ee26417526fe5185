//! The engine as a whole: every operation under every trouble, and a seeded simulation.

mod ground;
mod lab;
mod matrix;
mod simulation;
