//! One command a file. Each has `Args`, which clap fills, and `run`, which does it.

pub mod align;
pub mod bench;
pub mod block;
pub mod blocks;
pub mod call;
pub mod check;
pub mod clean;
pub mod completions;
pub mod connect;
pub mod disconnect;
pub mod get;
pub mod graph;
pub mod init;
pub mod inspect;
pub mod logs;
pub mod ps;
pub mod publish;
pub mod remove;
pub mod resample;
pub mod run;
pub mod set;
pub mod stop;
pub mod subscribe;
pub mod top;
pub mod torture;
pub mod worker;

mod ending;
mod ends;
mod joining;
mod pond_tables;
mod processes;
