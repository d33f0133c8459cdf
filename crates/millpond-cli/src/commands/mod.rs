//! One command a file. Each has `Args`, which clap fills, and `run`, which does it.

pub mod align;
pub mod bench;
pub mod block;
pub mod blocks;
pub mod check;
pub mod clean;
pub mod completions;
pub mod graph;
pub mod inspect;
pub mod logs;
pub mod ps;
pub mod run;
pub mod top;
pub mod worker;

mod pond_tables;
