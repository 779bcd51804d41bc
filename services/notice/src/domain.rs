//! Notices, pushes and their texts, devices and preferences; no I/O.

pub mod account_at;
pub mod device;
pub mod ids;
pub mod notice;
pub mod preferences;
pub mod push;

pub use account_at::AccountAt;
pub use device::{Language, OwnDevice, Platform, PushDevice, Registration};
pub use ids::{follow_id, like_id, post_id};
pub use notice::{ABOUT_POSTS, Content, LIKE, Notice, OWN_DOING, is_follow, muted_post, post_of, stored_like};
pub use preferences::{
    AdvertisingConsent, Gate, InvalidHours, Kind, Mute, Preferences, QuietHours, UnknownZone, ZoneName,
};
pub use push::{
    Banner, HANDLED, PushContent, PushGroup, PushMessage, PushText, RoomFrame, Target, Thread, WaitingPush, Wording,
};
