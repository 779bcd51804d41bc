//! Partitions of the members of consumer groups, in memory: the members are tasks of this process.
//!
//! The partitions of a topic are shared out among its members in the order they joined. A member claims the partitions it should have and
//! no other holds; it releases the ones another should have when it asks for its next record. So no two members ever work on one
//! partition.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::watch;

use super::{Group, PARTITIONS, Part};

#[derive(Debug, Default)]
pub(super) struct Groups {
    by_name: Mutex<HashMap<Group, Members>>,
    /// Incremented whenever a member joins, leaves or releases a partition.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Members {
    by_id: BTreeMap<u64, Membership>,
    claims: BTreeMap<Part, u64>,
    last_id: u64,
}

#[derive(Debug)]
struct Membership {
    topics: Vec<i64>,
    lag: Option<IntGauge>,
}

/// A member, and the group it is in.
#[derive(Debug, Clone)]
pub(super) struct MemberId {
    pub group: Group,
    id: u64,
}

impl Groups {
    pub fn join(&self, group: Group, topics: Vec<i64>) -> (MemberId, watch::Receiver<u64>) {
        let mut by_name = self.by_name.lock();
        let members = by_name.entry(group.clone()).or_default();
        members.last_id += 1;
        let id = members.last_id;
        members.by_id.insert(id, Membership { topics, lag: None });
        self.raise();
        (MemberId { group, id }, self.changed.subscribe())
    }

    /// Removes a member from its group, releases its partitions, and sets its lag to 0. Does nothing for one that has left.
    pub fn leave(&self, MemberId { group, id }: &MemberId) {
        let mut by_name = self.by_name.lock();
        let Some(members) = by_name.get_mut(group) else { return };
        let Some(gone) = members.by_id.remove(id) else { return };
        members.claims.retain(|_, holder| holder != id);
        if let Some(lag) = gone.lag {
            lag.set(0);
        }
        self.raise();
    }

    /// Claims and releases the member's partitions by the present members of its group. Returns its partitions.
    ///
    /// | the partition should be | it is claimed by | |
    /// | --- | --- | --- |
    /// | the member's | no member | claimed |
    /// | another member's | the member | released, and the others share again |
    /// | the member's | another member | left: that member releases it at its next record |
    /// | another member's | another one or no member | left |
    pub fn share(&self, MemberId { group, id }: &MemberId) -> BTreeSet<Part> {
        let mut by_name = self.by_name.lock();
        let Some(Members { by_id, claims, .. }) = by_name.get_mut(group) else {
            return BTreeSet::new();
        };
        let topics = by_id.get(id).map_or_else(Vec::new, |member| member.topics.clone());
        let mut has_released = false;
        for topic in topics {
            let members = by_id.iter().filter(|(_, member)| member.topics.contains(&topic));
            let members: Vec<u64> = members.map(|(id, _)| *id).collect();
            // Round robin in the order in which the members joined.
            for (part, heir) in (0..PARTITIONS).zip(members.iter().cycle()) {
                match claims.entry((topic, part)) {
                    Entry::Vacant(free) if heir == id => _ = free.insert(*id),
                    Entry::Occupied(held) if held.get() == id && heir != id => {
                        held.remove();
                        has_released = true;
                    }
                    Entry::Vacant(_) | Entry::Occupied(_) => {}
                }
            }
        }
        if has_released {
            self.raise();
        }
        let own = claims.iter().filter(|(_, holder)| *holder == id);
        own.map(|(part, _)| *part).collect()
    }

    /// Returns the groups that have a member for a topic.
    pub fn of_topic(&self, topic: i64) -> Vec<Group> {
        let by_name = self.by_name.lock();
        let groups = by_name
            .iter()
            .filter(|(_, members)| members.by_id.values().any(|member| member.topics.contains(&topic)));
        groups.map(|(group, _)| group.clone()).collect()
    }

    pub fn observe(&self, MemberId { group, id }: &MemberId, lag: IntGauge) {
        let mut by_name = self.by_name.lock();
        if let Some(member) = by_name.get_mut(group).and_then(|members| members.by_id.get_mut(id)) {
            member.lag = Some(lag);
        }
    }

    /// Returns the partitions of every member whose lag is observed.
    pub fn observed(&self) -> Vec<(MemberId, Vec<Part>)> {
        let by_name = self.by_name.lock();
        let members = by_name.iter().flat_map(|(group, members)| {
            let observed = members.by_id.iter().filter(|(_, member)| member.lag.is_some());
            observed.map(move |(id, _)| {
                let claims = members.claims.iter().filter(|(_, holder)| *holder == id);
                let group = group.clone();
                (MemberId { group, id: *id }, claims.map(|(part, _)| *part).collect())
            })
        });
        members.collect()
    }

    /// Sets the lag of a member that has not left meanwhile.
    pub fn set_lag(&self, MemberId { group, id }: &MemberId, lag: i64) {
        let by_name = self.by_name.lock();
        let member = by_name.get(group).and_then(|members| members.by_id.get(id));
        if let Some(gauge) = member.and_then(|member| member.lag.as_ref()) {
            gauge.set(lag);
        }
    }

    fn raise(&self) {
        self.changed.send_modify(|generation| *generation += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: i64 = 7;

    fn parts(range: impl IntoIterator<Item = i64>) -> BTreeSet<Part> {
        range.into_iter().map(|part| (TOPIC, part)).collect()
    }

    #[test]
    fn a_partition_has_one_holder_while_members_join_and_leave() {
        let groups = Groups::default();
        let (first, _) = groups.join("group".into(), vec![TOPIC]);
        assert_eq!(groups.share(&first), parts(0..4));
        let (second, mut changed) = groups.join("group".into(), vec![TOPIC]);
        assert_eq!(groups.share(&second), parts([]), "the first has not given anything up");
        changed.mark_unchanged();
        assert_eq!(groups.share(&first), parts([0, 2]));
        assert!(changed.has_changed().unwrap(), "the second looks again");
        assert_eq!(groups.share(&second), parts([1, 3]));
        groups.leave(&first);
        assert_eq!(groups.share(&first), parts([]));
        assert_eq!(groups.share(&second), parts(0..4));
    }

    #[test]
    fn a_change_settles() {
        let groups = Groups::default();
        let (first, changed) = groups.join("group".into(), vec![TOPIC]);
        let (second, _) = groups.join("group".into(), vec![TOPIC]);
        for member in [&first, &second, &first, &second] {
            groups.share(member);
        }
        let settled = *changed.borrow();
        for member in [&first, &second] {
            groups.share(member);
        }
        assert_eq!(*changed.borrow(), settled);
    }

    #[test]
    fn groups_are_apart() {
        let groups = Groups::default();
        let (one, _) = groups.join("one".into(), vec![TOPIC]);
        let (other, _) = groups.join("other".into(), vec![TOPIC]);
        assert_eq!(groups.share(&one), parts(0..4));
        assert_eq!(groups.share(&other), parts(0..4));
    }

    #[test]
    fn a_member_that_left_has_no_lag() {
        let groups = Groups::default();
        let (member, _) = groups.join("group".into(), vec![TOPIC]);
        groups.share(&member);
        let lag = IntGauge::new("lag", "Lag.").unwrap();
        groups.observe(&member, lag.clone());
        let observed = groups.observed();
        assert_eq!(observed[0].1.len(), 4);
        groups.set_lag(&observed[0].0, 5);
        assert_eq!(lag.get(), 5);
        groups.leave(&member);
        assert_eq!(lag.get(), 0);
        groups.set_lag(&observed[0].0, 5);
        assert_eq!(lag.get(), 0);
    }
}
