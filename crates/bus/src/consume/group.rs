//! The loop of a group's member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Fuse};
use sosohappy_common::Context;
use sosohappy_common::lifecycle::{Gate, Stage};
use tokio_util::sync::CancellationToken;

use super::handling::{Handling, Outcome, Spans, backoff, pause};
use super::{Consumer, HandleError};
use crate::port::MOST_BYTES;
use crate::{Bus, BusError, Member};
use sosohappy_events::{Event, Header, Record};

/// The consumer group of a service is `<service>.consumers`.
const GROUP: &str = "consumers";

/// A member that holds one record for this long, while its database is unavailable, leaves its partitions to other replicas until it
/// has applied the record.
const LONGEST_HOLD: Duration = Duration::from_mins(1);

/// How long the records in hand may still take once consumers drain: less than their stage has of the default `server.drain-budget`, 4 s where
/// requests and sockets use up theirs. The member must leave its group before the budget is spent.
const GRACE: Duration = Duration::from_secs(3);

/// Why [`consume`] ended.
enum Ended {
    Draining,
    Held(Record),
}

pub(super) async fn run<E: Event, C: Consumer<E>>(
    context: Context,
    bus: Arc<dyn Bus>,
    mut gate: Option<Gate>,
    handling: Handling<E, C>,
) -> anyhow::Result<()> {
    let (topic, draining) = (E::TOPIC.default_name(), context.lifecycle.draining_at(Stage::Consuming));
    let group = format!("{}.{GROUP}", context.service);
    // There from the start, at nothing.
    handling.metrics.dead_letters.with_label_values(&[topic]);
    let mut delays = backoff();
    loop {
        let joined = tokio::select! {
            () = draining.cancelled() => return Ok(()),
            joined = bus.join(&group, &[E::TOPIC]) => joined,
        };
        let error = match joined {
            Ok(mut member) => {
                member.observe(handling.metrics.lag.with_label_values(&[topic]));
                delays = backoff();
                let ended = consume(&context, &handling, &mut *member, &mut gate).await;
                member.leave().await;
                match ended {
                    Ok(Ended::Draining) => return Ok(()),
                    Ok(Ended::Held(record)) => {
                        tracing::warn!(
                            topic,
                            "record not applied for a minute; partitions left to other replicas"
                        );
                        // Comes again after the member has joined again, and is recognised then.
                        handling.handle(&record).await;
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Err(BusError::Settings(error)) => anyhow::bail!(error),
            Err(error) => error,
        };
        tracing::warn!(%error, topic, "consumer failed; rejoining group");
        if !pause(&mut delays, &draining).await {
            return Ok(());
        }
    }
}

/// Handles records until the service drains, one cannot be applied for [`LONGEST_HOLD`], or the member is of no use any more.
async fn consume<E: Event, C: Consumer<E>>(
    context: &Context,
    handling: &Handling<E, C>,
    member: &mut dyn Member,
    gate: &mut Option<Gate>,
) -> Result<Ended, BusError> {
    let draining = context.lifecycle.draining_at(Stage::Consuming);
    let mut catching_up = caught_up(member, gate.as_ref());
    loop {
        let first = tokio::select! {
            biased;
            () = draining.cancelled() => return Ok(Ended::Draining),
            // Before the next record, which may always be there.
            outcome = &mut catching_up => {
                outcome?;
                if let Some(gate) = gate.take() {
                    gate.open();
                }
                continue;
            }
            record = member.next() => record?,
        };
        let records = with_waiting(member, first, C::MOST_AT_ONCE)?;
        if let Some(ended) = apply(context, handling, member, &records).await? {
            return Ok(ended);
        }
    }
}

/// Returns the record and at most so many of those that wait behind it.
fn with_waiting(member: &mut dyn Member, first: Record, most: usize) -> Result<Vec<Record>, BusError> {
    let mut bytes = first.size();
    let mut records = vec![first];
    while records.len() < most && bytes < MOST_BYTES {
        let Some(record) = member.read_ahead() else { break };
        let record = record?;
        bytes += record.size();
        records.push(record);
    }
    Ok(records)
}

/// Applies records in their order, and marks them as done. Those that could not be applied together are applied in smaller parts, so that an
/// error is the error of one record:
///
/// | the part failed because | parts that follow |
/// | --- | --- |
/// | a dependency is unavailable, or all together take too long | the first record, which waits for it; the halves of the rest |
/// | of anything else: one of the records | its halves |
async fn apply<E: Event, C: Consumer<E>>(
    context: &Context,
    handling: &Handling<E, C>,
    member: &mut dyn Member,
    records: &[Record],
) -> Result<Option<Ended>, BusError> {
    let draining = context.lifecycle.draining_at(Stage::Consuming);
    // The last part is the next.
    let mut parts = vec![records];
    while let Some(part) = parts.pop() {
        if draining.is_cancelled() {
            return Ok(Some(Ended::Draining));
        }
        if let [record] = part {
            if let Some(ended) = apply_one(context, handling, member, record).await? {
                return Ok(Some(ended));
            }
            continue;
        }
        let Some(attempt) = in_grace(&draining, handling.handle_together(part, Spans::Each)).await else {
            return Ok(Some(Ended::Draining));
        };
        let Err(error) = attempt else {
            let last_of_partitions: BTreeMap<i32, &Record> =
                part.iter().map(|record| (record.partition, record)).collect();
            for record in last_of_partitions.into_values() {
                member.done(record).await?;
            }
            continue;
        };
        let (topic, records) = (E::TOPIC.default_name(), part.len());
        tracing::debug!(%error, topic, records, "records not applied together; applying smaller parts");
        let (first, rest) = match error {
            HandleError::Unavailable(_) => part.split_at(1),
            HandleError::Corrupt(_) | HandleError::Rejected(_) => (&part[..0], part),
        };
        let (head, tail) = rest.split_at(rest.len() / 2);
        parts.extend([tail, head, first].into_iter().filter(|part| !part.is_empty()));
    }
    Ok(None)
}

/// Applies one record, or sends it to the dead letters.
async fn apply_one<E: Event, C: Consumer<E>>(
    context: &Context,
    handling: &Handling<E, C>,
    member: &mut dyn Member,
    record: &Record,
) -> Result<Option<Ended>, BusError> {
    let draining = context.lifecycle.draining_at(Stage::Consuming);
    // An attempt may be dropped at any await.
    let attempts = tokio::time::timeout(LONGEST_HOLD, handling.handle(record));
    let Some(attempts) = in_grace(&draining, attempts).await else {
        return Ok(Some(Ended::Draining));
    };
    let Ok(outcome) = attempts else {
        return Ok(Some(Ended::Held(record.clone())));
    };
    match outcome {
        Outcome::Applied => {}
        Outcome::Rejected(reason) => {
            if !send_dead_letter(context, handling, member, record, &reason).await {
                return Ok(Some(Ended::Draining));
            }
        }
        Outcome::Interrupted => return Ok(Some(Ended::Draining)),
    }
    member.done(record).await?;
    Ok(None)
}

/// Runs work on records. Returns `None` when it has not ended [`GRACE`] after the beginning of the drain: it is dropped, and the next owner of
/// the partitions reads its records again.
async fn in_grace<T>(draining: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    let grace = async {
        draining.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = grace => {
            tracing::warn!("records in hand not applied in time; left to the next owner of their partitions");
            None
        }
    }
}

/// Resolves when the gate may be opened; never if there is none.
fn caught_up(member: &dyn Member, gate: Option<&Gate>) -> Fuse<BoxFuture<'static, Result<(), BusError>>> {
    match gate {
        Some(_) => member.group_caught_up().fuse(),
        None => Fuse::terminated(),
    }
}

/// False when the service drains before the bus has taken the dead letter. One that the bus refuses is made smaller and, if it is refused
/// all the same, given up: no record stops its partition.
async fn send_dead_letter<E: Event, C: Consumer<E>>(
    context: &Context,
    handling: &Handling<E, C>,
    member: &mut dyn Member,
    record: &Record,
    reason: &str,
) -> bool {
    let (topic, draining) = (E::TOPIC.default_name(), context.lifecycle.draining_at(Stage::Consuming));
    tracing::error!(
        topic,
        partition = record.partition,
        offset = record.offset,
        reason,
        "record rejected; sending dead letter"
    );
    let mut delays = backoff();
    let mut cut = None;
    loop {
        let letter = cut.as_ref().unwrap_or(record);
        let sent = tokio::select! {
            () = draining.cancelled() => return false,
            sent = member.dead_letter(letter, reason) => sent,
        };
        match sent {
            Ok(()) => {
                handling.metrics.dead_letters.with_label_values(&[topic]).inc();
                return true;
            }
            Err(BusError::Refused(why)) if cut.is_none() => {
                tracing::warn!(why, topic, "dead letter refused; sending it truncated");
                cut = Some(truncated(record));
                continue;
            }
            Err(BusError::Refused(why)) => {
                tracing::error!(
                    why,
                    topic,
                    partition = record.partition,
                    offset = record.offset,
                    "dead letter refused; record lost"
                );
                handling.metrics.lost.with_label_values(&[topic]).inc();
                return true;
            }
            Err(error) => tracing::warn!(%error, topic, "dead letter not sent; retrying"),
        }
        if !pause(&mut delays, &draining).await {
            return false;
        }
    }
}

/// Cuts a record to a size that every bus accepts: enough to recognize it.
fn truncated(record: &Record) -> Record {
    const KEY: usize = 1024;
    const VALUE: usize = 16 * 1024;
    const HEADERS: usize = 4 * 1024;
    let mut room = HEADERS;
    let mut remains = record.clone();
    let headers = record.headers.iter().filter(|(name, value)| {
        let fits = room.checked_sub(name.len() + value.len());
        room = fits.unwrap_or(room);
        fits.is_some()
    });
    remains.headers = headers.collect();
    if let Some(value) = &mut remains.value
        && value.len() > VALUE
    {
        let whole = value.len().to_string();
        value.truncate(VALUE);
        remains.headers.push(Header::DLT_VALUE_BYTES, whole.as_bytes());
    }
    if let Some(key) = &mut remains.key {
        key.truncate(KEY);
    }
    remains
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use prometheus::IntGauge;

    use super::*;
    use sosohappy_events::testing::record_of;
    use sosohappy_events::types::AccountResigned;
    use sosohappy_events::{Envelope, Outgoing};

    struct Unused;

    #[async_trait]
    impl Consumer<AccountResigned> for Unused {
        async fn handle(&self, _: Envelope<AccountResigned>) -> Result<(), HandleError> {
            Ok(())
        }
    }

    /// Takes dead letters whose value is not larger than it says.
    struct Takes(usize, Mutex<Vec<Record>>);

    #[async_trait]
    impl Member for Takes {
        async fn next(&mut self) -> Result<Record, BusError> {
            std::future::pending().await
        }

        async fn done(&mut self, _: &Record) -> Result<(), BusError> {
            Ok(())
        }

        async fn dead_letter(&mut self, record: &Record, _: &str) -> Result<(), BusError> {
            if record.value.as_ref().map_or(0, bytes::Bytes::len) > self.0 {
                return Err(BusError::Refused("too large".to_owned()));
            }
            self.1.lock().push(record.clone());
            Ok(())
        }

        fn observe(&mut self, _: IntGauge) {}

        fn group_caught_up(&self) -> BoxFuture<'static, Result<(), BusError>> {
            Box::pin(std::future::pending())
        }

        async fn leave(self: Box<Self>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_dead_letter_is_truncated_and_then_dropped() {
        let context = Context::system("test-service", 0);
        let handling = Handling::<AccountResigned, _>::new(&context, Unused, "consumer");
        let mut record = record_of(&Outgoing {
            topic: "resign".into(),
            key: Some("k".repeat(5000)),
            value: Some(vec![b'x'; 100_000]),
            headers: vec![("kept".into(), "yes".into()), ("huge".into(), "h".repeat(100_000))],
        });
        record.partition = 2;
        for (takes, letters, lost) in [(200_000, 1, 0), (16 * 1024, 1, 0), (1, 0, 1)] {
            let mut member = Takes(takes, Mutex::default());
            let before = handling.metrics.lost.with_label_values(&["resign"]).get();
            let sent_in_time = send_dead_letter(&context, &handling, &mut member, &record, "no reason");
            let sent_in_time = tokio::time::timeout(Duration::from_secs(5), sent_in_time).await;
            assert_eq!(sent_in_time, Ok(true), "the partition continues");
            let sent = member.1.into_inner();
            assert_eq!(sent.len(), letters);
            assert_eq!(
                handling.metrics.lost.with_label_values(&["resign"]).get() - before,
                lost
            );
            if takes == 16 * 1024 {
                let names: Vec<_> = sent[0].headers.iter().map(|(name, _)| name).collect();
                assert_eq!(names, ["kept", Header::DLT_VALUE_BYTES]);
                assert_eq!(sent[0].header(Header::DLT_VALUE_BYTES), Some("100000"));
                assert_eq!(sent[0].key.as_ref().map(bytes::Bytes::len), Some(1024));
            }
        }
    }

    /// Cannot reach its database.
    struct Unavailable;

    #[async_trait]
    impl Consumer<AccountResigned> for Unavailable {
        async fn handle(&self, _: Envelope<AccountResigned>) -> Result<(), HandleError> {
            Err(HandleError::Unavailable(anyhow::anyhow!("the database is unavailable")))
        }
    }

    /// Brings the same record again until it is done.
    struct Brings(Record);

    #[async_trait]
    impl Member for Brings {
        async fn next(&mut self) -> Result<Record, BusError> {
            Ok(self.0.clone())
        }

        async fn done(&mut self, _: &Record) -> Result<(), BusError> {
            Err(BusError::Unavailable("done".to_owned()))
        }

        async fn dead_letter(&mut self, _: &Record, reason: &str) -> Result<(), BusError> {
            panic!("{reason}")
        }

        fn observe(&mut self, _: IntGauge) {}

        fn group_caught_up(&self) -> BoxFuture<'static, Result<(), BusError>> {
            Box::pin(std::future::pending())
        }

        async fn leave(self: Box<Self>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_cannot_apply_a_record_gives_up_its_partitions() {
        let context = Context::system("test-service", 0);
        let event = AccountResigned {
            account: "kim@example.com+kakao".parse().unwrap(),
            nickname: "kim".into(),
        };
        let mut member = Brings(record_of(&Envelope::new(event, &context).to_outgoing()));

        let handling = Handling::<AccountResigned, _>::new(&context, Unavailable, "consumer");
        let began = tokio::time::Instant::now();
        let ended = consume(&context, &handling, &mut member, &mut None).await;
        assert!(matches!(ended, Ok(Ended::Held(_))));
        assert_eq!(began.elapsed().as_secs(), LONGEST_HOLD.as_secs());

        let handling = Handling::<AccountResigned, _>::new(&context, Unused, "consumer");
        let ended = consume(&context, &handling, &mut member, &mut None).await;
        assert!(
            ended.is_err_and(|error| error.to_string().contains("done")),
            "what is applied is done"
        );
    }

    /// Applies records together. Those whose nickname is `bad` are invalid, the first attempt at `late` finds no database, and `slow` ones are
    /// not applied in time if there are more than two of them.
    #[derive(Default)]
    struct Together {
        /// The nicknames of each call; with one, also of [`Consumer::handle`].
        calls: Mutex<Vec<Vec<String>>>,
        was_late: Mutex<bool>,
    }

    impl Together {
        fn check(&self, nicknames: Vec<String>) -> Result<(), HandleError> {
            let (is_bad, is_late) = (has(&nicknames, "bad"), has(&nicknames, "late"));
            let is_slow = has(&nicknames, "slow") && nicknames.len() > 2;
            self.calls.lock().push(nicknames);
            if is_bad {
                return Err(HandleError::Rejected("it makes no sense".to_owned()));
            }
            if is_late && !std::mem::replace(&mut *self.was_late.lock(), true) {
                return Err(HandleError::Unavailable(anyhow::anyhow!("the database is unavailable")));
            }
            if is_slow {
                return Err(HandleError::Unavailable(anyhow::anyhow!("no end after 30 s")));
            }
            Ok(())
        }
    }

    fn has(nicknames: &[String], nickname: &str) -> bool {
        nicknames.iter().any(|other| other == nickname)
    }

    #[async_trait]
    impl Consumer<AccountResigned> for Together {
        const MOST_AT_ONCE: usize = 8;

        async fn handle(&self, event: Envelope<AccountResigned>) -> Result<(), HandleError> {
            self.check(vec![event.event.nickname])
        }

        async fn handle_all(&self, events: Vec<Envelope<AccountResigned>>) -> Result<(), HandleError> {
            self.check(events.into_iter().map(|event| event.event.nickname).collect())
        }
    }

    /// Brings records one after the other and keeps what became of them.
    #[derive(Default)]
    struct Queued {
        waiting: VecDeque<Record>,
        done: Vec<i64>,
        letters: Vec<i64>,
    }

    #[async_trait]
    impl Member for Queued {
        async fn next(&mut self) -> Result<Record, BusError> {
            match self.waiting.pop_front() {
                Some(record) => Ok(record),
                None => std::future::pending().await,
            }
        }

        async fn done(&mut self, record: &Record) -> Result<(), BusError> {
            self.done.push(record.offset);
            Ok(())
        }

        async fn dead_letter(&mut self, record: &Record, _: &str) -> Result<(), BusError> {
            self.letters.push(record.offset);
            Ok(())
        }

        fn observe(&mut self, _: IntGauge) {}

        fn group_caught_up(&self) -> BoxFuture<'static, Result<(), BusError>> {
            Box::pin(std::future::pending())
        }

        async fn leave(self: Box<Self>) {}
    }

    /// Returns the nicknames of each call, the offsets that were done and those of dead letters.
    async fn applied(nicknames: &[&str]) -> (Vec<String>, Vec<i64>, Vec<i64>) {
        let context = Context::system("test-service", 0);
        let record = |(offset, nickname): (i64, &&str)| {
            let event = AccountResigned {
                account: "kim@example.com+kakao".parse().unwrap(),
                nickname: (*nickname).to_owned(),
            };
            Record {
                offset,
                ..record_of(&Envelope::new(event, &context).to_outgoing())
            }
        };
        let mut member = Queued {
            waiting: (0..).zip(nicknames).map(record).collect(),
            ..Queued::default()
        };
        let handling = Handling::<AccountResigned, _>::new(&context, Together::default(), "consumer");
        // Ends only here: nothing more comes.
        let ended = tokio::time::timeout(
            Duration::from_secs(30),
            consume(&context, &handling, &mut member, &mut None),
        )
        .await;
        assert!(ended.is_err(), "the member ended");
        let calls = handling.consumer.calls.lock();
        let calls = calls.iter().map(|nicknames| nicknames.join(" ")).collect();
        (calls, member.done, member.letters)
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_wait_are_applied_together() {
        let (calls, done, letters) = applied(&["1", "2", "3", "4", "5", "6", "7", "8", "9"]).await;
        assert_eq!(calls, ["1 2 3 4 5 6 7 8", "9"]);
        assert_eq!((done, letters), (vec![7, 8], vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_record_among_others_is_the_only_dead_letter() {
        let (calls, done, letters) = applied(&["1", "2", "3", "bad", "5", "6", "7", "8"]).await;
        let expected = ["1 2 3 bad 5 6 7 8", "1 2 3 bad", "1 2", "3 bad", "3", "bad", "5 6 7 8"];
        assert_eq!(calls, expected);
        assert_eq!((done, letters), (vec![1, 2, 3, 7], vec![3]));
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_met_an_outage_are_applied_together_after_the_first() {
        let (calls, done, letters) = applied(&["1", "late", "3", "4"]).await;
        assert_eq!(calls, ["1 late 3 4", "1", "late", "3 4"]);
        assert_eq!((done, letters), (vec![0, 1, 3], vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_take_too_long_together_are_applied_in_ever_smaller_parts() {
        let (calls, done, letters) = applied(&["slow"; 8]).await;
        let sizes: Vec<usize> = calls.iter().map(|call| call.split(' ').count()).collect();
        assert_eq!(sizes, [8, 1, 3, 1, 1, 1, 4, 1, 1, 2]);
        assert_eq!((done, letters), (vec![0, 1, 2, 3, 4, 5, 7], vec![]));
    }

    /// Takes so long for each call.
    struct Slow(Duration);

    #[async_trait]
    impl Consumer<AccountResigned> for Slow {
        const MOST_AT_ONCE: usize = 8;

        async fn handle(&self, _: Envelope<AccountResigned>) -> Result<(), HandleError> {
            tokio::time::sleep(self.0).await;
            Ok(())
        }

        async fn handle_all(&self, _: Vec<Envelope<AccountResigned>>) -> Result<(), HandleError> {
            tokio::time::sleep(self.0).await;
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_lets_the_records_in_hand_end_but_not_for_long() {
        for (records, takes, done) in [
            (1, GRACE, vec![0]),
            (8, GRACE, vec![7]),
            (1, GRACE * 2, vec![]),
            (8, GRACE * 2, vec![]),
        ] {
            let context = Context::system("test-service", 0);
            let event = AccountResigned {
                account: "kim@example.com+kakao".parse().unwrap(),
                nickname: "kim".into(),
            };
            let record = record_of(&Envelope::new(event, &context).to_outgoing());
            let waiting = (0..records).map(|offset| Record {
                offset,
                ..record.clone()
            });
            let mut member = Queued {
                waiting: waiting.collect(),
                ..Queued::default()
            };
            let handling = Handling::<AccountResigned, _>::new(&context, Slow(takes), "consumer");
            let drain = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                context.lifecycle.shutdown(Duration::from_secs(20)).await;
                tokio::time::Instant::now()
            };
            let mut no_gate = None;
            let (ended, drained) = tokio::join!(consume(&context, &handling, &mut member, &mut no_gate), drain);
            assert!(matches!(ended, Ok(Ended::Draining)));
            assert!(
                drained.elapsed() < GRACE + Duration::from_secs(1),
                "{records} records of {takes:?}"
            );
            assert_eq!(member.done, done, "{records} records of {takes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_records_are_not_collected() {
        let context = Context::system("test-service", 0);
        let event = AccountResigned {
            account: "kim@example.com+kakao".parse().unwrap(),
            nickname: "k".repeat(MOST_BYTES / 2),
        };
        let record = record_of(&Envelope::new(event, &context).to_outgoing());
        let mut member = Queued {
            waiting: vec![record.clone(); 5].into(),
            ..Queued::default()
        };
        let records = with_waiting(&mut member, record, 8).unwrap();
        assert_eq!(records.len(), 2);
    }
}
