//! `follow`: messages that wait in a request between two people are delivered when they become friends.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::FollowChanged;

use crate::requests::Requests;

#[derive(Debug)]
pub struct Friendships(pub Requests);

#[async_trait]
impl Consumer<FollowChanged> for Friendships {
    async fn handle(&self, Envelope { event, meta }: Envelope<FollowChanged>) -> Result<(), HandleError> {
        if event.friends {
            let since = meta.occurred_at;
            self.0.befriended(&event.follower, &event.followed, since).await?;
        }
        Ok(())
    }
}
