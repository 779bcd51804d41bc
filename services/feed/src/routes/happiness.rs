//! What a person's happiness comes to.

pub mod analyse;
pub mod find_month;
pub mod find_year;
