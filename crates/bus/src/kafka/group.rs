//! The client that the members of a consumer group share in a process, with a queue for each partition, so that a slow consumer holds
//! up no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::Inner;
use super::client::Settings;
use super::connection::Membership;
use super::outage::pause_during_outages;
use super::queue::{self, Consumer, Owner, Queue, split};
use super::recovery::{Role, Stuck, stuck};
use crate::BusError;

/// Members that join within this time are one change of the subscription, and one rebalance.
const COLLECT: Duration = Duration::from_millis(50);

/// Interval of the check whether topics of former members are revoked.
const LOOK_FOR_REVOKED: Duration = Duration::from_millis(100);

/// Limit for the revocation of all partitions, and again for the end of the client.
const END: Duration = Duration::from_secs(5);

/// The same for a client that is replaced because it is stuck: its members wait for it before they rejoin, and it cannot commit.
const END_OF_STUCK: Duration = Duration::from_secs(1);

/// How long this process may be out of a group until health says so: rebalances and restarts of a broker take less.
const LONGEST_ABSENCE: Duration = Duration::from_secs(30);

/// A client in a group. A task of its own serves its events, however slow its members are: the broker never expires it, so that no
/// other member is assigned its partitions before they are revoked here (librdkafka's pull request 5604: wrong commits otherwise).
///
/// Locks: the clients of [`Groups`] before their memberships and before `reserved`; none is held across an await.
struct Group {
    name: String,
    consumer: Owner,
    /// The topics of its members.
    subscribed: watch::Sender<BTreeSet<String>>,
    /// These, and the topics of former members until their partitions are revoked: a new member would otherwise continue after
    /// records that the former one received and did not acknowledge.
    reserved: Arc<Mutex<Reserved>>,
    failed: CancellationToken,
    membership: Arc<Membership>,
    /// Dropped, it stops the server: also when the last owner is one that only looked for a free client.
    stop: DropGuard,
    serving: JoinHandle<()>,
    _pausing: AbortOnDropHandle<()>,
}

/// Topics by name.
type Reserved = BTreeMap<String, Reservation>;

/// A topic of a present or former member.
struct Reservation {
    /// Partitions with a split-off queue.
    partitions: Vec<i32>,
    has_member: bool,
}

/// The clients of a process: one for each group, and another for each further member of the same topic.
#[derive(Default)]
pub(super) struct Groups {
    clients: Mutex<Vec<Weak<Group>>>,
    /// Of the groups that have members, or are still to be joined, by name.
    memberships: Mutex<BTreeMap<String, Arc<Membership>>>,
}

/// Topics that one member has to itself on its client. Dropped, it unsubscribes from them, and the last one ends the client.
pub(super) struct Subscription {
    group: Option<Arc<Group>>,
    topics: Vec<String>,
    inner: Weak<Inner>,
}

impl Groups {
    /// Expects this process to be in a group from now on.
    pub(super) fn expect(&self, name: &str) -> Arc<Membership> {
        let mut memberships = self.memberships.lock();
        let membership = memberships.entry(name.to_owned());
        membership.or_insert_with(|| Arc::new(Membership::new())).clone()
    }

    /// Returns the groups that this process has been out of for too long, with the time.
    pub(super) fn missing(&self) -> Vec<(String, Duration)> {
        let memberships = self.memberships.lock();
        let missing = memberships
            .iter()
            .map(|(name, membership)| (name.clone(), membership.missing()));
        missing.filter(|(_, time)| *time > LONGEST_ABSENCE).collect()
    }

    /// Reserves topics on the first client of the group that has none of them.
    pub(super) fn reserve(
        &self,
        inner: &Arc<Inner>,
        name: &str,
        topics: Vec<String>,
    ) -> Result<Subscription, BusError> {
        let mut clients = self.clients.lock();
        clients.retain(|client| client.strong_count() > 0);
        let free = clients
            .iter()
            .filter_map(Weak::upgrade)
            .find(|client| client.name == name && !client.failed.is_cancelled() && client.reserve(&topics));
        let group = if let Some(group) = free {
            group
        } else {
            let group = Arc::new(Group::create(inner, name, self.expect(name))?);
            group.reserve(&topics);
            clients.push(Arc::downgrade(&group));
            group
        };
        Ok(Subscription {
            group: Some(group),
            topics,
            inner: Arc::downgrade(inner),
        })
    }

    /// Forgets a group that its last member has left.
    fn forget(&self, membership: &Arc<Membership>) {
        let is_left = |other: &Weak<Group>| {
            let other = other.upgrade();
            other.is_none_or(|other| !Arc::ptr_eq(&other.membership, membership))
        };
        if self.clients.lock().iter().all(is_left) {
            self.memberships
                .lock()
                .retain(|_, other| !Arc::ptr_eq(other, membership));
        }
    }
}

impl Group {
    fn create(inner: &Inner, name: &str, membership: Arc<Membership>) -> Result<Self, BusError> {
        let consumer: Consumer = inner
            .settings
            .member(name)
            .create_with_context(inner.settings.member_client(membership.clone()))
            .map_err(|error| BusError::Settings(error.to_string()))?;
        let consumer = Owner::new(consumer);
        let (subscribed, _) = watch::channel(BTreeSet::new());
        let reserved = Arc::new(Mutex::new(Reserved::new()));
        let (failed, stop) = (CancellationToken::new(), CancellationToken::new());
        let server = Server {
            name: name.to_owned(),
            consumer: consumer.clone(),
            reserved: reserved.clone(),
            failed: failed.clone(),
            settings: inner.settings.clone(),
            membership: membership.clone(),
        };
        let pausing = pause_during_outages(&consumer, &inner.settings);
        let serving = tokio::spawn(server.run(subscribed.subscribe(), stop.clone()));
        Ok(Self {
            name: name.to_owned(),
            consumer,
            subscribed,
            reserved,
            failed,
            membership,
            stop: stop.drop_guard(),
            serving,
            _pausing: pausing,
        })
    }

    /// Reserves all of the topics. Returns false, and reserves none, when one is reserved already.
    fn reserve(&self, topics: &[String]) -> bool {
        let mut reserved = self.reserved.lock();
        let is_free = topics.iter().all(|topic| !reserved.contains_key(topic));
        if is_free {
            let reservation = || Reservation {
                partitions: Vec::new(),
                has_member: true,
            };
            reserved.extend(topics.iter().map(|topic| (topic.clone(), reservation())));
        }
        is_free
    }

    /// Commits acknowledged records, leaves the group, and ends the client.
    async fn end(self) {
        let Self {
            name,
            consumer,
            stop,
            serving,
            ..
        } = self;
        drop((consumer, stop));
        if let Err(error) = serving.await {
            tracing::warn!(%error, group = name, "leaving consumer group failed");
        }
    }
}

/// Serves the events of a client and updates its subscription.
struct Server {
    name: String,
    consumer: Owner,
    reserved: Arc<Mutex<Reserved>>,
    failed: CancellationToken,
    settings: Arc<Settings>,
    membership: Arc<Membership>,
}

impl Server {
    async fn run(self, mut subscribed: watch::Receiver<BTreeSet<String>>, stop: CancellationToken) {
        // Set after each change of the subscription, until the topics of all former members are revoked.
        let mut is_revoking = false;
        // Without topics a client is in no group.
        let mut recovery: BoxFuture<'static, Stuck> = Box::pin(std::future::pending());
        let (mut is_silent, mut limit) = (false, END);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                reason = &mut recovery => {
                    tracing::warn!(%reason, group = self.name, "Kafka client does not recover; replacing it");
                    self.settings.count_replaced();
                    (is_silent, limit) = (reason == Stuck::Silent, END_OF_STUCK);
                    self.fail();
                    break;
                }
                Ok(()) = subscribed.changed() => {
                    tokio::time::sleep(COLLECT).await;
                    let topics = subscribed.borrow_and_update().clone();
                    if let Err(error) = self.subscribe(&topics) {
                        tracing::warn!(%error, group = self.name, "subscribing failed; members rejoin");
                        self.fail();
                        break;
                    }
                    is_revoking = true;
                    recovery = self.recovery(!topics.is_empty());
                }
                () = tokio::time::sleep(LOOK_FOR_REVOKED), if is_revoking => {
                    is_revoking = !self.release();
                }
                event = self.consumer.recv() => match event {
                    // The queues of all known partitions are split off: this one is new.
                    Ok(message) => {
                        let (topic, partition) = (rdkafka::Message::topic(&message), rdkafka::Message::partition(&message));
                        tracing::info!(topic, partition, group = self.name, "topic has a new partition; members rejoin");
                        self.fail();
                        break;
                    }
                    Err(error @ KafkaError::MessageConsumptionFatal(_)) => {
                        tracing::warn!(%error, group = self.name, "Kafka consumer failed; members rejoin");
                        self.fail();
                        break;
                    }
                    // librdkafka recovers by itself.
                    Err(error) => self.consumer.client().context().warn(&error, &self.name),
                },
            }
        }
        // A client that hangs would not return from its calls.
        if !is_silent {
            if tokio::time::timeout(limit, self.give_up()).await.is_err() {
                tracing::warn!(
                    group = self.name,
                    "partitions not revoked in time; ending Kafka consumer"
                );
            }
            // Records left in a split-off queue would block the end of the client.
            for (topic, reservation) in std::mem::take(&mut *self.reserved.lock()) {
                queue::discard(&self.consumer, &topic, reservation.partitions);
            }
        }
        let ended = self.consumer.end();
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::warn!(group = self.name, "Kafka consumer does not end");
        }
    }

    /// Makes the members rejoin on another client.
    fn fail(&self) {
        self.membership.lose();
        self.failed.cancel();
    }

    /// Resolves when this client is to be replaced.
    fn recovery(&self, has_topics: bool) -> BoxFuture<'static, Stuck> {
        if !has_topics {
            return Box::pin(std::future::pending());
        }
        let connection = self.consumer.client().context().connection();
        Box::pin(stuck(self.settings.clone(), connection, Role::Member))
    }

    /// Commits acknowledged records, and waits until no partition is assigned.
    async fn give_up(&self) {
        self.consumer.unsubscribe();
        while self
            .consumer
            .assignment()
            .is_ok_and(|assignment| assignment.count() > 0)
        {
            // Serves the rebalance.
            let _ = tokio::time::timeout(COLLECT, self.consumer.recv()).await;
        }
    }

    fn subscribe(&self, topics: &BTreeSet<String>) -> Result<(), KafkaError> {
        if topics.is_empty() {
            self.consumer.unsubscribe();
            return Ok(());
        }
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics)
    }

    /// Frees the topics of former members whose partitions are revoked. Returns true when no former member is left.
    fn release(&self) -> bool {
        let assignment = match self.consumer.assignment() {
            Ok(assignment) => assignment,
            Err(error) => {
                tracing::warn!(%error, group = self.name, "reading assignment failed");
                return false;
            }
        };
        let mut reserved = self.reserved.lock();
        reserved.retain(|topic, reservation| {
            let is_kept = reservation.has_member || !assignment.elements_for_topic(topic).is_empty();
            if !is_kept {
                queue::discard(&self.consumer, topic, std::mem::take(&mut reservation.partitions));
            }
            is_kept
        });
        reserved.values().all(|reservation| reservation.has_member)
    }
}

impl Subscription {
    fn group(&self) -> &Arc<Group> {
        self.group.as_ref().expect("it is taken only when the member leaves")
    }

    pub(super) fn name(&self) -> &str {
        &self.group().name
    }

    pub(super) fn topics(&self) -> &[String] {
        &self.topics
    }

    pub(super) fn consumer(&self) -> &Owner {
        &self.group().consumer
    }

    /// Splits the queues of a topic's partitions off. Done before [`Self::subscribe`].
    pub(super) fn split(&self, topic: &str, partitions: &[i32]) -> Result<Vec<Queue>, BusError> {
        let mut reserved = self.group().reserved.lock();
        if let Some(reservation) = reserved.get_mut(topic) {
            reservation.partitions.extend_from_slice(partitions);
        }
        let split_one = |partition: &i32| split(self.consumer(), topic, *partition);
        partitions.iter().map(split_one).collect()
    }

    /// Adds the topics to the client's subscription.
    pub(super) fn subscribe(&self) {
        let topics = self.topics.iter().cloned();
        self.group()
            .subscribed
            .send_modify(|subscribed| subscribed.extend(topics));
    }

    /// Resolves when the client has failed; its members rejoin on another one.
    pub(super) async fn failed(&self) {
        self.group().failed.cancelled().await;
    }

    /// Releases the topics to other members, and waits for the end of the client if this was its last member.
    pub(super) async fn end(mut self) {
        if let Some(group) = self.unsubscribe() {
            group.end().await;
        }
    }

    /// Returns the client if this was its last subscription.
    fn unsubscribe(&mut self) -> Option<Group> {
        let group = self.group.take()?;
        let has_joined = self
            .topics
            .iter()
            .any(|topic| group.subscribed.borrow().contains(topic));
        // Before the subscription changes: a check of the server in between would find no former member, and be the last one.
        for (topic, reservation) in group.reserved.lock().iter_mut() {
            reservation.has_member &= !self.topics.contains(topic);
        }
        group
            .subscribed
            .send_modify(|subscribed| subscribed.retain(|topic| !self.topics.contains(topic)));
        let (membership, is_failed) = (group.membership.clone(), group.failed.is_cancelled());
        let last = Arc::into_inner(group);
        // A member that could not join tries again, as the members of a client that has failed do.
        if last.is_some()
            && has_joined
            && !is_failed
            && let Some(inner) = self.inner.upgrade()
        {
            inner.groups.forget(&membership);
        }
        last
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The end runs in the background; outside of a runtime the client is only dropped.
        if let (Some(group), Ok(runtime)) = (self.unsubscribe(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(group.end());
        }
    }
}
