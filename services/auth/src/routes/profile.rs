//! What people show of themselves.

pub mod check_duplicate_nickname;
pub mod find_introduction;
pub mod find_profile_img;
pub mod set_profile;
