//! The loader at the kernel. Needs root, and the programs that `cargo xtask build` makes.

mod attach;
mod node;
mod restart;
mod stages;
mod store;
mod sweep;
