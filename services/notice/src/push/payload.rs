//! The bound of a push's payload, which both providers have.

use serde_json::Value;

use crate::domain::PushMessage;

/// Bytes of one payload: FCM's "4096 bytes for most messages", APNs' "4 KB (4096 bytes)".
const MOST_BYTES: usize = 4096;
/// Headers and names of the provider's message may count as so many bytes.
const MARGIN: usize = 256;

/// Renders the push in the form of a provider, its text cut as far as the payload's bound asks for.
pub fn bounded(message: &PushMessage, render: impl Fn(&PushMessage) -> Value) -> String {
    let whole = render(message).to_string();
    let PushMessage::Alert(text) = message else {
        // Its number of ids is limited so that it fits.
        return whole;
    };
    if whole.len() <= MOST_BYTES - MARGIN {
        return whole;
    }
    let mut bytes = MOST_BYTES / 2;
    loop {
        let cut = render(&PushMessage::Alert(text.cut_to(bytes))).to_string();
        if cut.len() <= MOST_BYTES - MARGIN || bytes == 0 {
            return cut;
        }
        bytes /= 2;
    }
}
