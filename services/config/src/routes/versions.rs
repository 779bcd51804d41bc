pub mod audit;
pub mod diff;
pub mod history;
pub mod status;
