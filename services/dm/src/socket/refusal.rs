//! Errors that the socket survives.

/// The reason why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    ReceiverUnknown,
    Blocked,
    InvalidDate,
    EmptyText,
    TextTooLong,
    Unavailable,
    /// The frame is over the rate limit of its account.
    RateLimited,
    /// It took so long that it was given up, stored or not.
    Overdue,
}

impl Refusal {
    pub const ALL: [Self; 7] = [
        Self::ReceiverUnknown,
        Self::Blocked,
        Self::InvalidDate,
        Self::EmptyText,
        Self::TextTooLong,
        Self::Unavailable,
        Self::RateLimited,
    ];

    /// Stable; a client may match on it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ReceiverUnknown => "receiver-unknown",
            Self::Blocked => "blocked",
            Self::InvalidDate => "invalid-date",
            Self::EmptyText => "empty-text",
            Self::TextTooLong => "text-too-long",
            Self::RateLimited => "rate-limited",
            Self::Unavailable | Self::Overdue => "unavailable",
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Self::ReceiverUnknown => "nobody has this nickname",
            Self::Blocked => "messages between the two are not possible",
            Self::InvalidDate => "a date has 16 digits, yyyyMMddHHmmssSS, and a day, an hour and a minute that exist",
            Self::EmptyText => "the text has no visible character",
            Self::TextTooLong => "the text is too long",
            Self::Unavailable => "the message was not stored, try again later",
            Self::RateLimited => "too many messages: the message was not stored, try again later",
            Self::Overdue => "it took too long: look at the history before trying again",
        }
    }

    pub fn frame(self) -> String {
        serde_json::json!({ "error": { "code": self.code(), "detail": self.detail() } }).to_string()
    }
}
