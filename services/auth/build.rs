//! Migrations are embedded when the crate is compiled: a new file has to be noticed.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
