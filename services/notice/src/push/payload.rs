//! The bound of a push's payload, which both providers have.

use serde_json::Value;

use crate::domain::PushText;

/// Bytes of one payload: FCM's "4096 bytes for most messages", APNs' "4 KB (4096 bytes)".
const MOST_BYTES: usize = 4096;
/// What headers and names inside the provider's message may count for.
const MARGIN: usize = 256;

/// Renders the push in the form of a provider, its text cut as far as the payload's bound asks for.
pub fn bounded(text: &PushText, render: impl Fn(&PushText) -> Value) -> String {
    let whole = render(text).to_string();
    if whole.len() <= MOST_BYTES - MARGIN {
        return whole;
    }
    let mut bytes = MOST_BYTES / 2;
    loop {
        let cut = render(&text.cut_to(bytes)).to_string();
        if cut.len() <= MOST_BYTES - MARGIN || bytes == 0 {
            return cut;
        }
        bytes /= 2;
    }
}
