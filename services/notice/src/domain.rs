//! Notices, pushes and their texts, devices and preferences; no I/O.

pub mod device;
pub mod notice;
pub mod preferences;
pub mod push;

pub use device::{Language, OwnDevice, Platform, PushDevice, Registration};
pub use notice::{
    ABOUT_POSTS, Content, LIKE, Notice, follow_id, is_follow, like_id, muted_post, post_id, post_of, stored_like,
};
pub use preferences::{
    AdvertisingConsent, Gate, InvalidHours, Kind, Mute, Preferences, QuietHours, UnknownZone, ZoneName,
};
pub use push::{
    Banner, HANDLED, PushContent, PushGroup, PushMessage, PushText, RoomFrame, Target, Thread, WaitingPush, Wording,
};
