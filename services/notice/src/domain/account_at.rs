//! What a resignation erases is decided by the moment.

use jiff::Timestamp;
use sosohappy_common::Account;

/// An account, and the moment with which its resignation is compared: one from then or later erases the notice, push or message. Of what the account
/// did it is when its access token was issued, where that is known: other services take a token for some seconds after the resignation, and their
/// clocks may be behind auth's.
pub type AccountAt<'a> = (&'a Account, Timestamp);
