//! `notice`: any other notice, as the service that raised it wrote it, and the withdrawal of a like or of another notice.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError, correlation_of};
use sosohappy_events::types::NoticeRaised;
use sosohappy_events::{Envelope, EventId};

use crate::delivery::{Delivery, Raised, Withdrawal};
use crate::domain::{Content, Notice, like_id};
use crate::metrics::Outcome;
use crate::shows::Shows;
use crate::store::STORED_AT_ONCE;

/// At every replica.
pub struct Show(pub Shows);

#[async_trait]
impl Consumer<NoticeRaised> for Show {
    async fn handle(&self, raised: Envelope<NoticeRaised>) -> Result<(), HandleError> {
        if let Some(id) = withdrawn(&raised.event)? {
            self.0.delivery.note_withdrawal(id, raised.meta.occurred_at);
            return Ok(());
        }
        self.0.show(notice(raised)?);
        Ok(())
    }
}

/// At one replica.
pub struct Keep(pub Delivery);

#[async_trait]
impl Consumer<NoticeRaised> for Keep {
    const MOST_AT_ONCE: usize = STORED_AT_ONCE;

    async fn handle(&self, raised: Envelope<NoticeRaised>) -> Result<(), HandleError> {
        if let Some(id) = withdrawn(&raised.event)? {
            return self
                .0
                .withdraw(&raised.event.receiver, id, raised.meta.occurred_at)
                .await;
        }
        self.0.keep(notice(raised)?).await
    }

    /// Notices and withdrawals keep their order: those of one kind in a row are applied together.
    async fn handle_all(&self, events: Vec<Envelope<NoticeRaised>>) -> Result<(), HandleError> {
        let (mut notices, mut withdrawals) = (Vec::new(), Vec::new());
        let (mut kept, mut withdrawn_in_all) = (0, 0);
        for raised in events {
            if let Some(notice) = withdrawn(&raised.event)? {
                kept += self.0.keep_all(std::mem::take(&mut notices)).await?;
                withdrawn_in_all += 1;
                withdrawals.push(Withdrawal {
                    receiver: raised.event.receiver,
                    notice,
                    at: raised.meta.occurred_at,
                });
            } else {
                self.0.withdraw_all(&std::mem::take(&mut withdrawals)).await?;
                let cause = Some(correlation_of(&raised.meta));
                let notice = notice(raised)?;
                notices.push(Raised { notice, cause });
            }
        }
        self.0.withdraw_all(&withdrawals).await?;
        kept += self.0.keep_all(notices).await?;
        self.0.metrics.notices(Outcome::Withdrawn, withdrawn_in_all);
        self.0.metrics.notices(Outcome::Kept, kept);
        Ok(())
    }
}

/// Returns the id of the notice that this one withdraws.
fn withdrawn(raised: &NoticeRaised) -> Result<Option<EventId>, HandleError> {
    let like = raised.withdrawn_like();
    let withdrawn = like.and_then(|like| match like {
        Some(like) => Ok(Some(like_id(&raised.receiver, &like.liker, like.date))),
        None => raised.withdrawn_notice(),
    });
    withdrawn.map_err(|reason| HandleError::Rejected(reason.to_string()))
}

/// Bytes of a notice's data; a frame is a line of text, not a file.
const MOST_DATA: usize = 16 * 1024;

fn notice(Envelope { event, meta }: Envelope<NoticeRaised>) -> Result<Notice, HandleError> {
    if event.topic.len() + event.data.to_string().len() > MOST_DATA {
        return Err(HandleError::Rejected(format!(
            "the notice has more than {MOST_DATA} bytes"
        )));
    }
    Ok(Notice {
        event: meta.id,
        receiver: event.receiver,
        occurred_at: meta.occurred_at,
        authorized_at: meta.authorized_at,
        content: Content::Other {
            topic: event.topic,
            data: event.data,
            about: event.about,
        },
    })
}
