//! The engine as a whole: every operation under every trouble, and a seeded simulation.

#[cfg(test)]
mod fills;
#[cfg(test)]
mod ground;
#[cfg(test)]
mod lab;
mod machines;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod packs;
#[cfg(test)]
mod simulation;
