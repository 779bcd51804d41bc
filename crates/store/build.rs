//! A new migration is no change of a source file: says that the folder counts.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
