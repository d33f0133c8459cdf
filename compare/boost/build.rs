//! Compiles the C++ side.

fn main() {
    println!("cargo::rerun-if-changed=src/queue.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .warnings(false)
        .file("src/queue.cpp")
        .compile("queue");
}
