//! `moderation`: content is hidden or restored, and copies of reported content are kept for the decision.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_access::acknowledge_order;
use sosohappy_bus::Bus;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::{Account, Context};
use sosohappy_events::Envelope;
use sosohappy_events::types::{ContentModerated, ModeratedContent, ModerationAction, ModerationOutcome};
use sosohappy_media::Images;

use crate::copies::{self, Renewed};
use crate::domain::PostDate;
use crate::error::Error;
use crate::housekeeping::{GarbageHandle, RenewalHandle};
use crate::metrics::FeedMetrics;
use crate::store::{Content, Decision, HiddenPost, Store};

#[derive(Debug)]
pub struct Moderated {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub images: Images,
    pub context: Context,
    pub relay: RelayHandle,
    pub garbage: GarbageHandle,
    pub renewals: RenewalHandle,
    pub metrics: FeedMetrics,
}

#[async_trait]
impl Consumer<ContentModerated> for Moderated {
    async fn handle(&self, Envelope { event, meta }: Envelope<ContentModerated>) -> Result<(), HandleError> {
        let (author, at) = (&event.author, meta.occurred_at);
        let content = match &event.content {
            ModeratedContent::Post { date } => {
                let date = PostDate::try_from(*date).map_err(|_| HandleError::Rejected("no date of a post".into()))?;
                Content::Post(date.day())
            }
            ModeratedContent::Comment { comment } => Content::Comment(*comment),
            // dm holds messages.
            ModeratedContent::Message { .. } => return Ok(()),
        };
        match (event.action, event.report) {
            (ModerationAction::Reported, Some(report)) => {
                let is_kept = self
                    .store
                    .keep_reported(report, author, content, event.reporter.as_ref(), at)
                    .await?;
                if !is_kept {
                    tracing::info!(
                        report,
                        "no copy of reported content: not there or not the reporter's to see"
                    );
                }
            }
            (ModerationAction::Closed, Some(report)) => self.store.close_reported(report, at).await?,
            (ModerationAction::Reported | ModerationAction::Closed, None) => {
                return Err(HandleError::Rejected("the number of the report is missing".into()));
            }
            (ModerationAction::Hidden | ModerationAction::Restored, _) => {
                let hidden = event.action == ModerationAction::Hidden;
                let now = self.context.clock.now();
                let decision = Decision {
                    hidden,
                    at,
                    reporter: event.reporter.as_ref(),
                };
                let (outcome, post) = self.store.moderate(author, content, decision, now).await?;
                self.relay.wake();
                if let Some(post) = post {
                    self.renew_images(author, post).await?;
                }
                if outcome != ModerationOutcome::Applied {
                    tracing::info!(outcome = outcome.as_str(), "moderation order not applied");
                }
                acknowledge_order(&*self.bus, &self.context, author, meta.id, outcome).await?;
            }
        }
        Ok(())
    }
}

impl Moderated {
    /// Gives the pictures of a hidden post new, unknown ids. After a crash the event is delivered again. A post that is written to at each try does
    /// not block the partition: the task that renews pictures tries it again.
    async fn renew_images(&self, author: &Account, post: HiddenPost) -> Result<(), HandleError> {
        let clock = self.context.clock.as_ref();
        let renewed = copies::renew(self.store.as_ref(), &self.images, clock, author, post).await;
        self.garbage.wake();
        let renewed = renewed.map_err(|error| match error {
            Error::Store(error) => error.into(),
            error => HandleError::Unavailable(error.into()),
        })?;
        if renewed == Renewed::Contended {
            self.metrics.renewals_contended.inc();
            self.store.request_renewal(author, clock.now()).await?;
            self.renewals.wake();
        }
        Ok(())
    }
}
