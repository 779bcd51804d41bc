pub mod env;
pub mod refresh;
