//! `follow`: the followed account gets a notice, which is withdrawn when the follow ends.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::FollowChanged;

use crate::delivery::Delivery;
use crate::domain::{Content, Notice, follow_id};
use crate::shows::Shows;

/// At every replica.
pub struct Show(pub Shows);

#[async_trait]
impl Consumer<FollowChanged> for Show {
    async fn handle(&self, changed: Envelope<FollowChanged>) -> Result<(), HandleError> {
        if changed.event.following {
            self.0.show(notice(changed));
        }
        Ok(())
    }
}

/// At one replica.
pub struct Keep(pub Delivery);

#[async_trait]
impl Consumer<FollowChanged> for Keep {
    async fn handle(&self, changed: Envelope<FollowChanged>) -> Result<(), HandleError> {
        let notice = notice(changed.clone());
        if changed.event.following {
            self.0.keep(notice).await
        } else {
            self.0
                .withdraw(&notice.receiver, notice.event, notice.occurred_at)
                .await
        }
    }
}

fn notice(Envelope { event, meta }: Envelope<FollowChanged>) -> Notice {
    Notice {
        event: follow_id(&event.followed, &event.follower),
        receiver: event.followed,
        occurred_at: meta.occurred_at,
        authorized_at: meta.authorized_at,
        content: Content::Follow {
            follower: event.follower,
            friends: event.friends,
        },
    }
}
