//! A flowgraph built in code and run on two threads of this program.

use millpond::{Catalog, Flowgraph, Result};

fn main() -> Result<()> {
    let catalog = Catalog::builtin();
    let flowgraph = Flowgraph::builder("built")
        .block("zeros", "null-source", &[("count", 10_000.into()), ("items", 1024.into())])
        .block("louder", "gain", &[("k", 2.0.into())])
        .block("nothing", "null-sink", &[])
        .connect("zeros -> louder -> nothing")
        .build(&catalog)?;
    flowgraph.run_here(&catalog, 2)?;
    println!("10000 buffers went through");
    Ok(())
}
