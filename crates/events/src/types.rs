//! The events, one file each. `../../docs/events.md` describes them.

mod access_token;
mod account_state;
mod config_bus;
mod config_canary;
mod device_token;
pub(crate) mod direct_message;
mod email_and_nickname;
mod erased;
mod expired;
mod follow;
mod heartbeat;
mod notice;
mod notice_like;
mod parse;
mod post;
mod relation;
mod resign;
mod socket_message;

pub use access_token::{AccessTokenIssued, Role, SessionId, TokenDigest};
pub use account_state::{AccountStateChanged, State};
pub use config_bus::{BusMessage, SettingsReport};
pub use config_canary::{CanaryUpdate, CanaryUpdated};
pub use device_token::{Device, DeviceTokenSet};
pub use direct_message::{DirectMessageSent, Recipient};
pub use email_and_nickname::NicknameSet;
pub use erased::AccountErased;
pub use expired::SessionExpired;
pub use follow::FollowChanged;
pub use heartbeat::RelayHeartbeat;
pub use notice::{NoticeRaised, WithdrawnLike};
pub use notice_like::PostLiked;
pub use post::{PostChange, PostChanged};
pub use relation::{Relation, RelationChanged};
pub use resign::AccountResigned;
pub use socket_message::SocketMessageSent;
