//! Gives up clients that do not recover from an outage by themselves.
//!
//! librdkafka reconnects and rejoins by itself. In a cluster, after the only broker had got another address, the client of one group did not for
//! minutes, while the other clients of its process did. A broker that has just started names topics and no brokers in its answer, not
//! even itself; librdkafka then forgets every broker, and the new bootstrap that should follow may be cancelled at the end of the same answer,
//! for good (its issue 5301, pull requests 5303 and 5606; no setting prevents it). So a client that lacks a broker, or its group, is compared with
//! a new one: once that is answered, the old one has a bounded time left, and then is replaced.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::client::Settings;
use super::connection::{Connection, Missing};

/// How long a client may lack a broker, or the coordinator of its group, while a broker answers. The next client of the group gets twice the
/// time, up to [`REJOIN`]: on a busy machine a client that was about to connect would be replaced by one that begins anew, again and again.
const RECONNECT: Duration = Duration::from_secs(10);

/// How long a client may be without its group while its coordinator is connected: a rebalance waits for members that have crashed, or are
/// slow. Statistics that do not come for so long say that the client hangs.
const REJOIN: Duration = Duration::from_mins(1);

/// Interval of the checks, for which a look at the cluster is shared by the clients of a process: each look is made by a client of its own.
const LOOK: Duration = Duration::from_secs(1);

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It publishes, or reads without a group.
    Independent,
    Member,
}

/// Why a client is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stuck {
    #[error("it does not report its statistics")]
    Silent,
    #[error("it is connected to no broker")]
    Disconnected,
    #[error("it is not connected to the coordinator of its group")]
    WithoutCoordinator,
    #[error("it is not in its group")]
    WithoutGroup,
}

/// Resolves when a client has not recovered in time, while others are answered. Never resolves for one that has ended.
pub(super) async fn stuck(settings: Arc<Settings>, connection: Weak<Connection>, role: Role) -> Stuck {
    let missing = || connection.upgrade().map(|connection| connection.missing());
    // Since when brokers answer others, without a break.
    let mut reachable_since = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(before) = missing() else { break };
        if !is_suspect(before, role) || settings.look_at_cluster(LOOK).await.is_none() {
            reachable_since = None;
            continue;
        }
        let reachable = reachable_since.get_or_insert_with(Instant::now).elapsed();
        // Statistics may have come during the look.
        let Some(after) = missing() else { break };
        if let Some(stuck) = judge(after, role, reachable) {
            return stuck;
        }
    }
    std::future::pending().await
}

/// Returns whether a broker is to be asked about a client. Joining takes a moment, also when all is well.
fn is_suspect(missing: Missing, role: Role) -> bool {
    let is_outside = missing.coordinator > Duration::ZERO || missing.group > RECONNECT;
    let is_away = missing.overdue() > Duration::ZERO || missing.broker > Duration::ZERO;
    is_away || (role == Role::Member && is_outside)
}

/// Returns why a client is to be replaced, if it is. `reachable` is the time for which brokers have answered others.
///
/// The last statistics say what was missing then: it may have come since.
fn judge(missing: Missing, role: Role, reachable: Duration) -> Option<Stuck> {
    let lacked = |time: Duration, bound: Duration| time.min(reachable).saturating_sub(missing.age) >= bound;
    let reconnect = RECONNECT
        .saturating_mul(2_u32.saturating_pow(missing.failed))
        .min(REJOIN);
    let is_member = role == Role::Member;
    if missing.overdue().min(reachable) >= REJOIN {
        Some(Stuck::Silent)
    } else if lacked(missing.broker, reconnect) {
        Some(Stuck::Disconnected)
    } else if is_member && lacked(missing.coordinator, reconnect) {
        Some(Stuck::WithoutCoordinator)
    } else if is_member && lacked(missing.group, REJOIN) {
        Some(Stuck::WithoutGroup)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Missing = Missing {
        age: Duration::ZERO,
        broker: Duration::ZERO,
        coordinator: Duration::ZERO,
        group: Duration::ZERO,
        failed: 0,
    };

    /// What a client lacks, and the reason for which it is given up in its role once brokers are reachable for as long.
    #[test]
    fn a_client_is_given_up_for_what_its_role_needs() {
        let cases = [
            (NOTHING, None, None),
            (
                Missing {
                    age: 2 * REJOIN,
                    ..NOTHING
                },
                Some(Stuck::Silent),
                Some(Stuck::Silent),
            ),
            (
                Missing {
                    broker: RECONNECT,
                    coordinator: RECONNECT,
                    ..NOTHING
                },
                Some(Stuck::Disconnected),
                Some(Stuck::Disconnected),
            ),
            (
                Missing {
                    coordinator: RECONNECT,
                    group: RECONNECT,
                    ..NOTHING
                },
                None,
                Some(Stuck::WithoutCoordinator),
            ),
            // A rebalance.
            (
                Missing {
                    group: RECONNECT,
                    ..NOTHING
                },
                None,
                None,
            ),
            (
                Missing {
                    group: REJOIN,
                    ..NOTHING
                },
                None,
                Some(Stuck::WithoutGroup),
            ),
        ];
        for (missing, independent, member) in cases {
            assert_eq!(judge(missing, Role::Independent, REJOIN), independent, "{missing:?}");
            assert_eq!(judge(missing, Role::Member, REJOIN), member, "{missing:?}");
        }
    }

    #[test]
    fn an_outage_of_the_broker_gives_no_client_up() {
        let outage = Missing {
            broker: 10 * REJOIN,
            coordinator: 10 * REJOIN,
            group: 10 * REJOIN,
            ..NOTHING
        };
        let almost = RECONNECT.saturating_sub(Duration::from_millis(1));
        for reachable in [Duration::ZERO, almost] {
            assert_eq!(judge(outage, Role::Member, reachable), None, "{reachable:?}");
        }
        assert_eq!(judge(outage, Role::Member, RECONNECT), Some(Stuck::Disconnected));
    }

    #[test]
    fn each_client_of_a_group_gets_twice_the_time_of_the_one_before() {
        for (failed, bound) in [
            (0, RECONNECT),
            (1, 2 * RECONNECT),
            (2, 4 * RECONNECT),
            (3, REJOIN),
            (u32::MAX, REJOIN),
        ] {
            let missing = Missing {
                coordinator: 10 * REJOIN,
                failed,
                ..NOTHING
            };
            let almost = bound.saturating_sub(Duration::from_millis(1));
            assert_eq!(judge(missing, Role::Member, almost), None, "{failed}");
            assert_eq!(
                judge(missing, Role::Member, bound),
                Some(Stuck::WithoutCoordinator),
                "{failed}"
            );
        }
    }

    /// Statistics come late on a busy machine.
    #[test]
    fn a_client_is_given_up_for_what_it_lacked_when_it_said_so() {
        let age = Duration::from_secs(4);
        let missing = Missing {
            age,
            broker: RECONNECT,
            coordinator: RECONNECT,
            ..NOTHING
        };
        assert_eq!(judge(missing, Role::Member, REJOIN), None);
        let missing = Missing {
            broker: RECONNECT + age,
            ..missing
        };
        assert_eq!(
            judge(missing, Role::Member, RECONNECT),
            None,
            "a broker is not reachable for so long"
        );
        assert_eq!(judge(missing, Role::Member, RECONNECT + age), Some(Stuck::Disconnected));
    }
}
