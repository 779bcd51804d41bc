//! Requests: while `messages.requests` is on, the first messages between two people who do not follow each other wait until the receiver
//! accepts them. Their sender sees them as stored; the receiver has them in `findRequest` only, without a push.
//!
//! Whether two people follow each other is in the directory, which the state topic `relation` feeds: with all relations before the service
//! is ready, and with the newest event of a pair in force in whatever order they come. The event `follow` says when two people become friends:
//! it accepts their pending request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context};
use sosohappy_events::types::{MessageRequestChanged, NoticeRaised, RequestChange};
use sosohappy_events::{Envelope, Mixed, Outgoing};
use sosohappy_realtime::SocketId;
use sosohappy_store::{Directory, StoreError};

use crate::domain::{
    Admission, ConversationId, Decision, MOST_HELD, MessageIds, NewMessage, Party, Request, RequestState, Standing,
    Verdict, standing,
};
use crate::events;
use crate::refusal::{NotTaken, Refusal};
use crate::settings::Settings;
use crate::store::{Range, Store, Unfinished};

/// How often what a crash left half done is completed.
const EVERY: Duration = Duration::from_secs(5);
/// Requests are completing for this long: a message that another replica stored as one that waits, while the request was accepted, is
/// released as well.
const COMPLETING: SignedDuration = SignedDuration::from_mins(1);
/// Events of a decision are stored again for this long. Published ones are deleted later than that.
const REPEATED: SignedDuration = SignedDuration::from_hours(7 * 24);
const AT_ONCE: u32 = 50;
/// How often, and how many times, the release of a message is tried again whose first event is not published yet, while a caller waits. A
/// round does not wait: the next one tries again.
const WAIT: Duration = Duration::from_millis(50);
const RETRIES: u32 = 40;
/// No message waits after so many rounds that found no request since requests were switched off: another replica reads the setting a little
/// later.
const IDLE_ROUNDS: u32 = 2;
/// How often a message is looked at again because its request changed meanwhile.
const ATTEMPTS: u32 = 5;

#[derive(Debug, Clone)]
pub struct Requests {
    pub settings: Live<Settings>,
    pub context: Context,
    pub ids: MessageIds,
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub mixed: Mixed,
    pub relay: RelayHandle,
    /// How many rounds in a row have found no request, since requests were switched off.
    pub idle_rounds: Arc<AtomicU32>,
}

impl Requests {
    /// Never beside a Spring dm: it shows every message of the collection that both write, also one that waits.
    fn are_enabled(&self) -> bool {
        self.settings.get().messages.requests && !self.mixed.stores_object_ids()
    }

    /// Decides whether a message is delivered, and makes or accepts the request of its conversation. `authorized_at`: when the sender's access
    /// token was issued.
    pub async fn admit(
        &self,
        sender: &Party,
        receiver: &Party,
        authorized_at: Timestamp,
    ) -> Result<Admission, NotTaken> {
        if sender.account == receiver.account {
            return Ok(Admission::Delivered);
        }
        let conversation = ConversationId::between(&sender.account, &receiver.account);
        if !self.are_enabled() {
            return self.admit_switched_off(&conversation).await;
        }
        self.idle_rounds.store(0, Ordering::Relaxed);
        for _ in 0..ATTEMPTS {
            match self.standing(&conversation, &sender.account, &receiver.account).await? {
                (Standing::Open, request) => {
                    // Messages that wait come before this one.
                    if let Some(request) = request.filter(|request| request.is_completing)
                        && !self.release(&request, RETRIES).await?
                    {
                        return Err(Refusal::Unavailable.into());
                    }
                    return Ok(Admission::Delivered);
                }
                (Standing::Accept(verdict), Some(request)) => {
                    // The next attempt finds it accepted, and releases its messages, or refused meanwhile.
                    self.store_decision(&request, verdict, Some(authorized_at)).await?;
                }
                (Standing::Waits, _) => {
                    let held = self.store.held(&conversation, MOST_HELD).await?;
                    if held.len() >= usize::try_from(MOST_HELD).unwrap_or(usize::MAX) {
                        return Err(Refusal::RequestPending.into());
                    }
                    return Ok(Admission::Held);
                }
                (Standing::Refused, _) => return Err(Refusal::Blocked.into()),
                (Standing::Unknown, _) => {
                    tracing::warn!("message request of a later release; message not taken");
                    return Err(Refusal::Unavailable.into());
                }
                (Standing::Asks | Standing::Accept(_), _) => {
                    if self.store.ask(&self.request(sender, receiver)).await? {
                        return Ok(Admission::Held);
                    }
                }
            }
        }
        Err(Refusal::Unavailable.into())
    }

    /// Delivers the message, after those that have waited since before requests were switched off.
    async fn admit_switched_off(&self, conversation: &ConversationId) -> Result<Admission, NotTaken> {
        if self.idle_rounds.load(Ordering::Relaxed) >= IDLE_ROUNDS {
            return Ok(Admission::Delivered);
        }
        let mut request = self.store.request(conversation).await?;
        if let Some(pending) = request
            .as_ref()
            .filter(|request| request.state == RequestState::Pending)
        {
            self.store_decision(pending, Verdict::AcceptPending, None).await?;
            // It may have been refused first.
            request = self.store.request(conversation).await?;
        }
        let accepted = request.filter(|request| request.is_completing && request.state == RequestState::Accepted);
        if let Some(request) = accepted
            && !self.release(&request, RETRIES).await?
        {
            return Err(Refusal::Unavailable.into());
        }
        Ok(Admission::Delivered)
    }

    /// Returns whether a message of the sender would be delivered without a request of the sender. Only then the sender may add the other
    /// person to a room.
    pub async fn may_write(&self, sender: &Account, receiver: &Account) -> Result<bool, StoreError> {
        if sender == receiver || !self.are_enabled() {
            return Ok(true);
        }
        let conversation = ConversationId::between(sender, receiver);
        let (standing, _) = self.standing(&conversation, sender, receiver).await?;
        Ok(matches!(standing, Standing::Open | Standing::Accept(_)))
    }

    /// Returns what the conversation says about a new message of the sender, and its request.
    async fn standing(
        &self,
        conversation: &ConversationId,
        sender: &Account,
        receiver: &Account,
    ) -> Result<(Standing, Option<Request>), StoreError> {
        let (request, are_friends) = futures::try_join!(
            self.store.request(conversation),
            self.directory.friends(sender, receiver)
        )?;
        let has_messages = request.is_some() || self.has_messages(conversation, sender).await?;
        Ok((standing(request.as_ref(), sender, are_friends, has_messages), request))
    }

    async fn has_messages(&self, conversation: &ConversationId, sender: &Account) -> Result<bool, StoreError> {
        let any = Range::default();
        let found = self.store.newest_within(conversation, sender, &any, 1).await?;
        Ok(!found.is_empty())
    }

    fn request(&self, sender: &Party, receiver: &Party) -> Request {
        Request {
            id: self.ids.next().to_string(),
            asker: sender.clone(),
            receiver: receiver.clone(),
            introduction: None,
            state: RequestState::Pending,
            asked_at: self.context.clock.now(),
            decided_at: None,
            is_completing: false,
        }
    }

    /// Releases the messages that wait in a conversation whose request is accepted. Returns false if messages still wait: a later round of
    /// [`Requests::spawn`] releases them.
    pub async fn release_accepted(&self, conversation: &ConversationId) -> Result<bool, StoreError> {
        match self.store.request(conversation).await? {
            Some(request) if request.state == RequestState::Accepted => self.release(&request, RETRIES).await,
            _ => Ok(true),
        }
    }

    /// Accepts or refuses a request as its receiver; false if it was decided so before. Messages that cannot be released yet are released by a
    /// later round of [`Requests::spawn`].
    /// `authorized_at`: when the receiver's access token was issued.
    pub async fn decide(
        &self,
        request: &Request,
        accepted: bool,
        authorized_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let verdict = if accepted { Verdict::Accept } else { Verdict::Refuse };
        let decided = self.store_decision(request, verdict, Some(authorized_at)).await?;
        if accepted {
            self.release(request, RETRIES).await?;
        }
        Ok(decided)
    }

    /// Accepts the pending request between two people who became friends at that moment, and delivers its messages. About a request that was
    /// made later the directory decides: the friendship may have ended before.
    pub async fn befriended(&self, one: &Account, other: &Account, at: Timestamp) -> Result<(), StoreError> {
        let request = self.store.request(&ConversationId::between(one, other)).await?;
        let Some(request) = request.filter(|request| request.state == RequestState::Pending) else {
            return Ok(());
        };
        let are_friends = request.asked_at <= at || self.directory.friends(one, other).await?;
        // A block ends a friendship, and may be known before it.
        if are_friends && !self.directory.blocked(one, other).await? {
            self.accept_pending(&request).await?;
        }
        Ok(())
    }

    async fn store_decision(
        &self,
        request: &Request,
        verdict: Verdict,
        authorized_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        let earliest = request
            .decided_at
            .map_or(Timestamp::MIN, |decided| decided + SignedDuration::from_millis(1));
        let decision = Decision {
            conversation: request.conversation(),
            verdict,
            // Not before the request, and after its last decision, whatever the clocks of two replicas say: events of a decision are distinguished from
            // those of another by its millisecond.
            at: self.context.clock.now().max(request.asked_at).max(earliest),
        };
        let events = self.events(request, verdict.state() == RequestState::Accepted, authorized_at);
        let decided = self.store.decide(&decision, &events).await?;
        if decided {
            self.relay.wake();
        }
        Ok(decided)
    }

    /// Returns the event of a message that waits: it is shown on the sender's other devices.
    pub async fn asked(&self, message: &NewMessage, socket: Option<SocketId>) -> Result<Outgoing, StoreError> {
        let request = self.store.request(&message.message.conversation()).await?;
        let asked = MessageRequestChanged {
            request: request.map(|request| request.id).unwrap_or_default(),
            change: RequestChange::Asked,
            asker: message.message.sender.account.clone(),
            receiver: message.message.receiver.account.clone(),
            message: Some(message.message.id.to_string()),
            socket: socket.map(|socket| socket.0),
        };
        let mut asked = Envelope::new(asked, &self.context);
        asked.meta.occurred_at = message.stored_at;
        Ok(asked.to_outgoing())
    }

    fn events(&self, request: &Request, accepted: bool, authorized_at: Option<Timestamp>) -> Vec<Outgoing> {
        let change = if accepted {
            RequestChange::Accepted
        } else {
            RequestChange::Refused
        };
        let (asker, receiver) = (&request.asker, &request.receiver);
        let changed = MessageRequestChanged {
            request: request.id.clone(),
            change,
            asker: asker.account.clone(),
            receiver: receiver.account.clone(),
            message: None,
            socket: None,
        };
        let text = if accepted {
            format!("{}님이 대화 신청을 수락했습니다", receiver.nickname)
        } else {
            format!("{}님이 대화 신청을 거절했습니다", receiver.nickname)
        };
        let notice = NoticeRaised {
            receiver: asker.account.clone(),
            topic: "request".to_owned(),
            data: json!({
                "requestId": request.id,
                "state": if accepted { "accepted" } else { "refused" },
                "nickname": receiver.nickname,
                "text": text,
            }),
            about: Some(receiver.account.clone()),
        };
        let mut notice = Envelope::new(notice, &self.context);
        notice.meta.authorized_at = authorized_at;
        vec![
            Envelope::new(changed, &self.context).to_outgoing(),
            notice.to_outgoing(),
        ]
    }

    /// Delivers the messages of an accepted request that wait, in their order. Any replica may do it at any time, also at once. Those that
    /// cannot be decoded are left out. Returns false if messages still wait: the first event of one of them is not published, also after so
    /// many retries, and a later call continues.
    async fn release(&self, request: &Request, retries: u32) -> Result<bool, StoreError> {
        let conversation = request.conversation();
        let mut attempt = 0;
        loop {
            let held = self.store.held(&conversation, AT_ONCE).await?;
            if held.is_empty() {
                return Ok(true);
            }
            let mut is_delayed = false;
            // As of a message that was just sent.
            let is_pushed_later = self.mixed.pushes_by_spring_notice();
            for message in &held {
                let now = self.context.clock.now();
                let timeout = self.settings.get().messages.delivery_timeout;
                let push_due = is_pushed_later.then(|| now + timeout);
                let released = events::sent(&message.message, now, is_pushed_later, None, &self.context);
                // With a token of before it was stored.
                let mut released = released.authorized(message.stored_at);
                released.event.released = true;
                let released = released.to_outgoing();
                if !self.store.release(message, push_due, &released, now).await? {
                    is_delayed = true;
                    break;
                }
            }
            self.relay.wake();
            self.store.settle(&conversation).await?;
            if is_delayed {
                if attempt == retries {
                    return Ok(false);
                }
                attempt += 1;
                tokio::time::sleep(WAIT).await;
            }
        }
    }

    /// Completes decisions, at every replica.
    pub fn spawn(&self) {
        let (requests, mut rounds) = (self.clone(), self.context.lifecycle.rounds(EVERY));
        self.context.lifecycle.spawn("message-requests", async move {
            while rounds.next().await {
                // A drain ends a round between two of its steps, which any replica can repeat.
                match rounds.interruptible(requests.complete_all()).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "completing message requests failed; retrying"
                    ),
                    None => break,
                }
            }
            Ok(())
        });
    }

    async fn complete_all(&self) -> Result<(), StoreError> {
        let completing = self.work_on(Unfinished::Completing).await?;
        if self.are_enabled() {
            self.idle_rounds.store(0, Ordering::Relaxed);
            return Ok(());
        }
        let pending = self.work_on(Unfinished::Pending).await?;
        if completing + pending == 0 {
            self.idle_rounds.fetch_add(1, Ordering::Relaxed);
        } else {
            self.idle_rounds.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Completes or accepts all requests of a kind, page by page, and returns their number. One that cannot be completed, because the broker
    /// is unavailable, delays no other.
    async fn work_on(&self, kind: Unfinished) -> Result<usize, StoreError> {
        let (mut found, mut after) = (0, String::new());
        loop {
            let page = self.store.unfinished_requests(kind, &after, AT_ONCE).await?;
            found += page.content.len();
            for request in &page.content {
                let done = match kind {
                    Unfinished::Completing => self.complete(request).await,
                    Unfinished::Pending => self.accept_pending(request).await,
                };
                if let Err(error) = done {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        request = request.id,
                        "completing message request failed; retrying"
                    );
                }
            }
            let Some(next) = page.next else { return Ok(found) };
            after = next;
        }
    }

    /// Accepts a request by a friendship, or because requests are switched off. Messages that cannot be released at once are released by a later round.
    async fn accept_pending(&self, request: &Request) -> Result<(), StoreError> {
        if self.store_decision(request, Verdict::AcceptPending, None).await? {
            self.release(request, 0).await?;
        }
        Ok(())
    }

    async fn complete(&self, request: &Request) -> Result<(), StoreError> {
        let accepted = request.state == RequestState::Accepted;
        let age = request
            .decided_at
            .map(|decided| self.context.clock.now().duration_since(decided));
        if age.is_none_or(|age| age <= REPEATED) {
            self.store
                .repeat_events(request, &self.events(request, accepted, None))
                .await?;
        }
        if accepted && !self.release(request, 0).await? {
            // It stays completing until its messages are released, however long their events are unpublished.
            return Ok(());
        }
        if age.is_none_or(|age| age > COMPLETING) {
            self.store.completed(request).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_bus::relay::{Hints, spawn_relay};
    use sosohappy_events::types::Relation;
    use sosohappy_testkit::{Bed, on_both_engines};

    use super::*;
    use crate::store::{self, Opened};
    use crate::{DEFAULTS, SERVICE};

    on_both_engines!(
        a_decision_is_later_than_the_one_before,
        a_friendship_accepts_the_request_that_waits,
        rounds_without_requests_are_counted_until_requests_are_on_or_found,
    );

    async fn a_decision_is_later_than_the_one_before(bed: Bed) {
        let [_, on] = off_and_on(&bed).await;
        let request = on.request(&party("kim"), &party("lee"));
        assert!(on.store.ask(&request).await.unwrap());
        assert!(on.store_decision(&request, Verdict::Refuse, None).await.unwrap());
        let found = async || {
            on.store
                .request(&request.conversation())
                .await
                .unwrap()
                .expect("a request")
        };
        let mut refused = found().await;
        // The clock of the replica that refused it is ahead.
        refused.decided_at = refused.decided_at.map(|at| at + SignedDuration::from_hours(1));
        assert!(on.store_decision(&refused, Verdict::Accept, None).await.unwrap());
        assert!(found().await.decided_at > refused.decided_at);
    }

    async fn a_friendship_accepts_the_request_that_waits(bed: Bed) {
        let [_, on] = off_and_on(&bed).await;
        let (kim, lee, park) = (party("kim"), party("lee"), party("park"));
        let (to_lee, to_park) = (on.request(&kim, &lee), on.request(&kim, &park));
        for request in [&to_lee, &to_park] {
            assert!(on.store.ask(request).await.unwrap());
        }
        let befriended = async |request: &Request, at: Timestamp| {
            let (asker, receiver) = (&request.asker.account, &request.receiver.account);
            on.befriended(receiver, asker, at).await.unwrap();
            let found = on.store.request(&request.conversation()).await.unwrap();
            found.expect("a request").state
        };
        let relate = async |relation, account: &Party, other: &Party, at| {
            let related = on
                .directory
                .set_relation(relation, &account.account, &other.account, at);
            related.await.unwrap();
        };
        let (asked, earlier) = (to_lee.asked_at, to_lee.asked_at - SignedDuration::from_secs(1));
        let later = |seconds| asked + SignedDuration::from_secs(seconds);
        // A friendship that had ended.
        assert_eq!(befriended(&to_lee, earlier).await, RequestState::Pending);
        relate(Relation::Block, &lee, &kim, later(1)).await;
        assert_eq!(befriended(&to_lee, later(0)).await, RequestState::Pending);
        relate(Relation::Unblock, &lee, &kim, later(2)).await;
        for _ in 0..2 {
            assert_eq!(befriended(&to_lee, later(0)).await, RequestState::Accepted);
        }
        // The request was made while the friendship was not known here.
        relate(Relation::Follow, &kim, &park, earlier).await;
        assert_eq!(befriended(&to_park, earlier).await, RequestState::Pending);
        relate(Relation::Follow, &park, &kim, earlier).await;
        assert_eq!(befriended(&to_park, earlier).await, RequestState::Accepted);
        // The receiver's refusal stands.
        let choi = party("choi");
        let to_choi = on.request(&kim, &choi);
        assert!(on.store.ask(&to_choi).await.unwrap());
        assert!(on.decide(&to_choi, false, later(0)).await.unwrap());
        assert_eq!(befriended(&to_choi, later(60)).await, RequestState::Refused);
    }

    fn party(name: &str) -> Party {
        Party {
            account: format!("{name}@example.com+kakao").parse().unwrap(),
            nickname: name.to_owned(),
        }
    }

    /// Requests that are switched off, and the same switched on.
    async fn off_and_on(bed: &Bed) -> [Requests; 2] {
        let setting = |value| [("messages.requests", value)];
        let settings = bed.settings::<Settings>("dm", DEFAULTS, &setting("false")).await;
        let switched_on = bed.settings::<Settings>("dm", DEFAULTS, &setting("true")).await;
        let (context, mixed) = (bed.context(SERVICE), Mixed::none());
        let Opened {
            store,
            outbox,
            directory,
        } = store::open(&settings.get(), &mixed, &context).await.unwrap();
        let off = Requests {
            settings,
            ids: MessageIds::new(&context),
            store,
            directory,
            mixed,
            relay: spawn_relay(&context, bed.bus.clone(), outbox, Hints::off()),
            idle_rounds: Arc::default(),
            context,
        };
        let on = Requests {
            settings: switched_on,
            ..off.clone()
        };
        [off, on]
    }

    async fn rounds_without_requests_are_counted_until_requests_are_on_or_found(bed: Bed) {
        let [off, on] = off_and_on(&bed).await;
        let idle = || off.idle_rounds.load(Ordering::Relaxed);
        let (kim, lee, park) = (party("kim"), party("lee"), party("park"));
        let (to_lee, to_park) = (off.request(&kim, &lee), off.request(&kim, &park));

        off.complete_all().await.unwrap();
        assert_eq!(idle(), 1);
        // A request that another replica made is accepted, and the rounds are counted anew after its completing.
        assert!(off.store.ask(&to_lee).await.unwrap());
        for _ in 0..2 {
            off.complete_all().await.unwrap();
            assert_eq!(idle(), 0);
        }
        let state = async |request: &Request| {
            let found = off.store.request(&request.conversation()).await.unwrap();
            found.map(|found| found.state)
        };
        let complete = async |request: &Request| {
            let found = off.store.request(&request.conversation()).await.unwrap();
            off.store.completed(&found.expect("a request")).await.unwrap();
        };
        assert_eq!(state(&to_lee).await, Some(RequestState::Accepted));
        complete(&to_lee).await;

        // Until then every message looks for a request.
        off.complete_all().await.unwrap();
        assert_eq!(idle(), 1);
        assert!(off.store.ask(&to_park).await.unwrap());
        assert_eq!(
            off.admit(&kim, &park, off.context.clock.now()).await,
            Ok(Admission::Delivered)
        );
        assert_eq!(state(&to_park).await, Some(RequestState::Accepted));
        complete(&to_park).await;
        off.complete_all().await.unwrap();
        assert_eq!(idle(), IDLE_ROUNDS);

        // A replica that still has requests on counts none.
        on.complete_all().await.unwrap();
        assert_eq!(idle(), 0);
        off.complete_all().await.unwrap();
        assert_eq!(idle(), 1);
        assert_eq!(on.admit(&lee, &park, on.context.clock.now()).await, Ok(Admission::Held));
        assert_eq!(idle(), 0);
    }
}
