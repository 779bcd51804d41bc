//! Messages and their rules; no I/O.

mod change;
mod date;
mod id;
mod message;
mod receipt;
mod request;
mod room;
mod scheduled;
mod text;
mod words;

pub use change::{Change, ChangeKind, Changed, MOST_CHANGES, MessageState, NewChange, Reaction};
pub use date::{Boundary, MessageDate};
pub use id::{MessageId, MessageIds, Position};
pub use message::{
    Claim, ClientKey, ConversationId, Erasure, Message, NewMessage, Party, RepeatKey, Shown, Stored, Unclaimed,
    Undelivered,
};
pub use receipt::{MOST_MISSED, Marks, Progress, Receipt, ShownMessage};
pub use request::{Admission, Decision, MOST_HELD, Request, RequestState, Standing, Verdict, standing};
#[cfg(any(test, doc))]
pub use room::MOST_UNREAD;
pub use room::{Joining, MOST_MEMBERS, MOST_ROOMS, Member, NewRoomMessage, Room, RoomMessage, RoomName};
pub use scheduled::{FARTHEST, MOST_SCHEDULED, Scheduled};
pub use text::{InvalidText, MessageText, is_portable, largest_frame};
pub use words::Words;
