mod body;
pub mod decrypt;
pub mod encrypt;
pub mod key;
pub mod status;
