//! The access control lists that follow from the table of topics: a service writes what it produces, reads what it consumes, writes
//! dead letters of both, and joins consumer groups under its own name.

use std::collections::BTreeSet;
use std::fmt;

use sosohappy_common::settings::Events;
use sosohappy_events::Topic;
use sosohappy_events::topic::Service;

use crate::BusError;
use crate::names::{Channel, Names};

/// One right of one principal, from any host. Everything that no ACL allows is denied.
///
/// `READ` and `WRITE` bring `DESCRIBE` with them, and `WRITE` the `IDEMPOTENT_WRITE` of the cluster (KIP-679).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// `User:feed`.
    pub principal: String,
    pub kind: ResourceKind,
    /// A name on the wire, or what it begins with.
    pub name: String,
    pub pattern: Pattern,
    pub operation: Operation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    Topic,
    Group,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    Literal,
    Prefixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Read,
    Write,
}

/// `User:feed may WRITE topic noticeLike`
impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Read => "READ ",
            Operation::Write => "WRITE",
        };
        let kind = match self.kind {
            ResourceKind::Topic => "topic",
            ResourceKind::Group => "group",
        };
        let any = match self.pattern {
            Pattern::Literal => "",
            Pattern::Prefixed => "*",
        };
        write!(f, "{} may {operation} {kind} {}{any}", self.principal, self.name)
    }
}

/// Returns the ACLs of a service under the names that the settings give to topics.
pub fn acls_of(service: Service, principal: &str, settings: &Events) -> Result<Vec<Acl>, BusError> {
    let names = Names::new(settings)?;
    let topic = |channel: Channel, operation: Operation| Acl {
        principal: principal.to_owned(),
        kind: ResourceKind::Topic,
        name: names.wire(channel),
        pattern: Pattern::Literal,
        operation,
    };
    let mut acls = BTreeSet::from([Acl {
        principal: principal.to_owned(),
        kind: ResourceKind::Group,
        // The dot belongs to it: a service whose name begins with this one's is another one.
        name: names.group(&format!("{}.", service.name())),
        pattern: Pattern::Prefixed,
        operation: Operation::Read,
    }]);
    for declared in Topic::ALL {
        let (produces, consumes) = (
            declared.producers().contains(&service),
            declared.consumers().contains(&service),
        );
        if produces {
            acls.insert(topic(Channel::live(declared), Operation::Write));
        }
        if consumes {
            acls.insert(topic(Channel::live(declared), Operation::Read));
        }
        // A consumer puts there what it cannot apply, a relay what the broker refuses.
        if produces || consumes {
            acls.insert(topic(Channel::dead(declared), Operation::Write));
        }
    }
    Ok(acls.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writers(topic: &str) -> Vec<&'static str> {
        let may_write = |service: &Service| {
            let acls = acls_of(*service, "User:x", &Events::new("kafka:x:1", "")).unwrap();
            acls.iter()
                .any(|acl| acl.name == topic && acl.operation == Operation::Write)
        };
        let writers = Service::ALL.into_iter().filter(may_write);
        writers.map(Service::name).collect()
    }

    #[test]
    fn only_auth_writes_the_topics_of_tokens_and_accounts() {
        for topic in [
            "accessToken",
            "expired",
            "resign",
            "emailAndNickname",
            "deviceToken",
            "relation",
            "follow",
            "accountState",
            "heartbeat",
        ] {
            assert_eq!(writers(topic), ["auth-service"], "{topic}");
        }
        assert_eq!(writers("directMessage"), ["dm-service"]);
        assert_eq!(writers("noticeLike"), ["feed-service"]);
        assert_eq!(writers("configBus").len(), Service::ALL.len());
    }

    #[test]
    fn names_follow_the_settings() {
        let settings = Events {
            topics: [("configBus".to_owned(), "springCloudBus".to_owned())].into(),
            ..Events::new("kafka:x:1", "t1-")
        };
        let acls = acls_of(Service::Config, "User:config", &settings).unwrap();
        let lines: Vec<_> = acls.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "User:config may READ  topic t1-configCanary",
                "User:config may WRITE topic t1-configCanary",
                "User:config may WRITE topic t1-configCanary.dlt",
                "User:config may READ  topic t1-springCloudBus",
                "User:config may WRITE topic t1-springCloudBus",
                "User:config may WRITE topic t1-springCloudBus.dlt",
                "User:config may READ  group t1-config-service.*",
            ]
        );
    }
}
