//! Messages as the legacy Spring dm has them, for `fleet export spring`.

use sha2::{Digest as _, Sha256};
use sosohappy_store::StoreError;

use crate::domain::MessageId;
use crate::import::Importer;

/// A message that was written here, or taken over.
#[derive(Debug, Clone)]
pub struct ExportedMessage {
    pub id: String,
    /// The nicknames of the moment it was written.
    pub sender: String,
    pub receiver: String,
    pub date: i64,
    /// Empty if it was retracted, or is hidden.
    pub text: String,
}

impl ExportedMessage {
    /// Returns the bytes of an `ObjectId` that follows from the message's own id: the second it was written in, then a digest. None for a message
    /// that came from the legacy dm.
    #[must_use]
    pub fn legacy_id(&self) -> Option<[u8; 12]> {
        let event = MessageId::stored(self.id.clone()).event()?;
        let (seconds, _) = event.0.get_timestamp()?.to_unix();
        let mut id = [0; 12];
        id[..4].copy_from_slice(&u32::try_from(seconds).ok()?.to_be_bytes());
        id[4..].copy_from_slice(&Sha256::digest(&self.id)[..8]);
        Some(id)
    }
}

impl Importer {
    /// Returns messages with ids after this one, in order.
    pub async fn messages_after(&self, after: &str, limit: u32) -> Result<Vec<ExportedMessage>, StoreError> {
        let page = self.store.page(&MessageId::stored(after.to_owned()), limit).await?;
        let exported = page.into_iter().map(|message| ExportedMessage {
            id: message.id.as_str().to_owned(),
            sender: message.sender.nickname,
            receiver: message.receiver.nickname,
            date: message.date.into(),
            text: message.text.into_string(),
        });
        Ok(exported.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legacy_id_follows_from_the_id() {
        let message = |id: &str| ExportedMessage {
            id: id.to_owned(),
            sender: "kim".to_owned(),
            receiver: "lee".to_owned(),
            date: 2_023_090_513_248_392,
            text: "hi".to_owned(),
        };
        let id = message("018c2f2a-5b00-7000-8000-000000000001").legacy_id().unwrap();
        assert_eq!(id, message("018c2f2a-5b00-7000-8000-000000000001").legacy_id().unwrap());
        assert_ne!(id, message("018c2f2a-5b00-7000-8000-000000000002").legacy_id().unwrap());
        assert_eq!(u32::from_be_bytes([id[0], id[1], id[2], id[3]]), 1_701_598_354);
        assert_eq!(message("64f7a1b2c3d4e5f601234567").legacy_id(), None);
    }
}
