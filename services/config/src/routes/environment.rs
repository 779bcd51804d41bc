pub mod file;
pub mod flat;
pub mod show;
