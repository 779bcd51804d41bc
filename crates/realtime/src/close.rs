//! Why a socket is closed, and whether its client shall come back.

use axum::extract::ws::{CloseFrame, Utf8Bytes};

/// RFC 6455 section 7.4.1, and the private range where no code fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    /// 1012: the replica leaves; reconnect now.
    Restart,
    /// 1013: the client could not keep up, or the replica is full; reconnect later and read the history.
    TooSlow,
    /// 4409: the account has opened more sockets than it may, and this was its oldest: do not reconnect, the newer ones go on.
    Replaced,
    /// 4429: the client keeps sending frames over its rate limit: wait a minute, then reconnect.
    RateLimited,
    /// 1013: neither a frame nor a pong for too long; reconnect.
    Idle,
    /// 1002: not WebSocket, for example a frame without a mask.
    Protocol,
    /// 1007: no nickname, or a frame that is not what the protocol says.
    BadFrame,
    /// 1008: the nickname is another person's, the session was closed, the account resigned: do not come back with this token.
    Policy,
    /// 4403: the access token's life ended; re-issue, then reconnect.
    TokenExpired,
    /// 1009: a frame over the limit.
    TooLarge,
    /// 1000: the client said good-bye.
    Normal,
}

impl Close {
    pub(crate) const ALL: [Self; 11] = [
        Self::Restart,
        Self::TooSlow,
        Self::Replaced,
        Self::RateLimited,
        Self::Idle,
        Self::Protocol,
        Self::BadFrame,
        Self::Policy,
        Self::TokenExpired,
        Self::TooLarge,
        Self::Normal,
    ];

    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::BadFrame => 1007,
            Self::Policy => 1008,
            Self::TooLarge => 1009,
            Self::Restart => 1012,
            Self::TooSlow | Self::Idle => 1013,
            Self::TokenExpired => 4403,
            Self::Replaced => 4409,
            Self::RateLimited => 4429,
        }
    }

    /// The value of the metrics' `reason` label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Protocol => "protocol",
            Self::BadFrame => "bad-frame",
            Self::Policy => "policy",
            Self::TooLarge => "too-large",
            Self::Restart => "restart",
            Self::TooSlow => "too-slow",
            Self::Idle => "idle",
            Self::TokenExpired => "token-expired",
            Self::Replaced => "replaced",
            Self::RateLimited => "rate-limited",
        }
    }

    /// Returns the reason of the close frame; at most 123 bytes.
    const fn text(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::Protocol => "not the WebSocket protocol",
            Self::BadFrame => "not a frame of this socket",
            Self::Policy => "not allowed",
            Self::TooLarge => "the frame is too large",
            Self::Restart => "reconnect now",
            Self::TooSlow => "cannot keep up, reconnect later",
            Self::Idle => "nothing heard, reconnect",
            Self::TokenExpired => "the access token ended, re-issue it and reconnect",
            Self::Replaced => "replaced by a newer connection",
            Self::RateLimited => "too many frames, reconnect in a minute",
        }
    }

    pub(crate) fn frame(self) -> CloseFrame {
        CloseFrame {
            code: self.code(),
            reason: Utf8Bytes::from_static(self.text()),
        }
    }

    /// Returns from and below how many milliseconds from now on the client reconnects; `None` if it does not, or need not wait.
    const fn reconnect_after(self) -> Option<(u64, u64)> {
        match self {
            Self::Restart | Self::Idle | Self::TokenExpired => Some((0, 2_000)),
            Self::TooSlow => Some((1_000, 10_000)),
            Self::RateLimited => Some((60_000, 75_000)),
            Self::Normal | Self::Protocol | Self::BadFrame | Self::Policy | Self::TooLarge | Self::Replaced => None,
        }
    }

    /// Returns the closing of a version 2 socket: where the client shall reconnect, the reason is `reconnect-after=<milliseconds>`,
    /// drawn by `random`, so that clients that were closed at once do not come back at once.
    pub(crate) fn frame_with_hint(self, random: u64) -> CloseFrame {
        match self.reconnect_after() {
            Some((from, below)) => CloseFrame {
                code: self.code(),
                reason: format!("reconnect-after={}", from + random % (below - from)).into(),
            },
            None => self.frame(),
        }
    }

    /// Whether the client did nothing wrong: queued frames are still written, and frames that it has sent until it learns of
    /// the closing is still handled, so that a restart loses no frame in either direction.
    pub(crate) const fn is_gentle(self) -> bool {
        matches!(self, Self::Restart)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The column of `docs/sockets.md` for a closing.
    fn documented(close: Close) -> String {
        match close.reconnect_after() {
            Some((0, below)) => format!("within {} s", below / 1_000),
            Some((from, below)) => format!("after {} to {} s", from / 1_000, below / 1_000),
            None if close == Close::Normal => "as the client likes".to_owned(),
            None => "no: ".to_owned(),
        }
    }

    #[test]
    fn the_document_has_every_code_and_whether_to_reconnect() {
        let document = include_str!("../../../docs/sockets.md");
        let (_, closing) = document.split_once("\n## Closing\n").expect("the section");
        let mut rows = BTreeMap::new();
        for line in closing.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            if let Ok(code) = cells[1].parse::<u16>() {
                assert!(rows.insert(code, cells[3]).is_none(), "{code} twice");
            }
        }
        let codes: BTreeSet<u16> = Close::ALL.map(Close::code).into();
        assert_eq!(rows.keys().copied().collect::<BTreeSet<_>>(), codes);
        for close in Close::ALL {
            let (reconnect, expected) = (rows[&close.code()], documented(close));
            assert!(
                reconnect.contains(&expected),
                "{close:?}: {expected:?} is not in {reconnect:?}"
            );
            // Only a code from which a client comes back has a time.
            let comes_back = Close::ALL
                .iter()
                .any(|other| other.code() == close.code() && other.reconnect_after().is_some());
            let has_time = reconnect.chars().any(|letter| letter.is_ascii_digit());
            assert_eq!(has_time, comes_back, "{close:?}: {reconnect:?}");
        }
    }

    #[test]
    fn hints_are_within_their_range() {
        for close in Close::ALL {
            let hinted = |random| close.frame_with_hint(random).reason.as_str().to_owned();
            let Some((from, below)) = close.reconnect_after() else {
                assert_eq!(hinted(7), close.text());
                continue;
            };
            for random in [0, 1, below - from - 1, below - from, u64::MAX] {
                let hint = hinted(random);
                let millis = hint.strip_prefix("reconnect-after=").expect("a hint");
                assert!(
                    (from..below).contains(&millis.parse().expect("milliseconds")),
                    "{close:?}: {hint}"
                );
            }
        }
    }
}
