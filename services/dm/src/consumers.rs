//! The events dm listens to, one file each.

pub mod device_token;
pub mod follow;
pub mod message_change;
pub mod message_request;
pub mod moderated;
pub mod resigned;
pub mod room_message;
pub mod sent;
pub mod socket_frame;
