pub mod resign;
