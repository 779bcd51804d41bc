//! Access control lists (ACLs): the operations that a principal may perform.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use kafka_protocol::protocol::StrBytes;
use sosohappy_bus::{Acl, Operation, Pattern, ResourceKind};
use tokio::time::Instant;

use crate::{Admin, AdminError, refusal};

/// The version of all three requests: the newest that Kafka 2.0 supports.
const VERSION: i16 = 1;

/// `ANY` of Kafka's `AclOperation`, `ResourceType`, `PatternType` and `AclPermissionType`.
const ANY: i8 = 1;
/// `ALLOW` of Kafka's `AclPermissionType`.
const ALLOW: i8 = 3;
/// The time limit for new ACLs to reach the broker.
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two checks of new ACLs.
const PROPAGATION_POLL: Duration = Duration::from_millis(20);
const ANY_HOST: &str = "*";

const fn resource_code(kind: ResourceKind) -> i8 {
    match kind {
        ResourceKind::Topic => 2,
        ResourceKind::Group => 3,
    }
}

const fn pattern_code(pattern: Pattern) -> i8 {
    match pattern {
        Pattern::Literal => 3,
        Pattern::Prefixed => 4,
    }
}

const fn operation_code(operation: Operation) -> i8 {
    match operation {
        Operation::Read => 3,
        Operation::Write => 4,
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An ACL of a principal on a broker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrokerAcl {
    /// An ACL of the form that the fleet declares.
    Known(Acl),
    /// A description of any other ACL: another operation, host or resource, or a denial.
    Other(String),
}

impl Admin {
    /// Returns the ACLs of a principal, `User:feed`.
    pub async fn acls_of(&mut self, principal: &str) -> Result<Vec<BrokerAcl>, AdminError> {
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(ANY)
            // `None` matches any name and host. The default of both fields is the empty string, which matches none.
            .with_resource_name_filter(None)
            .with_host_filter(None)
            .with_pattern_type_filter(ANY)
            .with_principal_filter(Some(text(principal)))
            .with_operation(ANY)
            .with_permission_type(ANY);
        let response = self.connection.call(&request, VERSION).await?;
        if response.error_code != 0 {
            return Err(refusal(response.error_code, response.error_message.as_deref()));
        }
        // Codes that the fleet does not use have no Rust value: these ACLs are described by their codes.
        let mut found = Vec::new();
        for resource in response.resources {
            for acl in resource.acls {
                let kind = [ResourceKind::Topic, ResourceKind::Group]
                    .into_iter()
                    .find(|kind| resource_code(*kind) == resource.resource_type);
                let pattern = [Pattern::Literal, Pattern::Prefixed]
                    .into_iter()
                    .find(|pattern| pattern_code(*pattern) == resource.pattern_type);
                let operation = [Operation::Read, Operation::Write]
                    .into_iter()
                    .find(|operation| operation_code(*operation) == acl.operation);
                let allows_any_host = acl.permission_type == ALLOW && acl.host.as_str() == ANY_HOST;
                found.push(match (kind, pattern, operation) {
                    (Some(kind), Some(pattern), Some(operation)) if allows_any_host => BrokerAcl::Known(Acl {
                        principal: principal.to_owned(),
                        operation,
                        kind,
                        pattern,
                        name: resource.resource_name.to_string(),
                    }),
                    _ => BrokerAcl::Other(format!(
                        "{principal}: operation {} on resource {} {} (pattern {}) from {}, permission {}, by Kafka's codes",
                        acl.operation,
                        resource.resource_type,
                        resource.resource_name.as_str(),
                        resource.pattern_type,
                        acl.host.as_str(),
                        acl.permission_type
                    )),
                });
            }
        }
        found.sort();
        Ok(found)
    }

    /// Creates ACLs; existing ones stay unchanged. Returns once this broker enforces them.
    pub async fn create_acls(&mut self, acls: &[Acl]) -> Result<(), AdminError> {
        self.request_acls(acls).await?;
        // The controller responds before the brokers have replicated the new ACLs: polls this broker until it lists all of them.
        let deadline = Instant::now() + PROPAGATION_TIMEOUT;
        let mut missing: BTreeSet<_> = acls.iter().collect();
        loop {
            let principals: BTreeSet<_> = missing.iter().map(|acl| acl.principal.clone()).collect();
            for principal in principals {
                let found = self.acls_of(&principal).await?;
                missing.retain(|acl| !found.contains(&BrokerAcl::Known((*acl).clone())));
            }
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(AdminError::Unavailable(
                    "new ACLs did not reach the broker in time".to_owned(),
                ));
            }
            tokio::time::sleep(PROPAGATION_POLL).await;
        }
    }

    async fn request_acls(&mut self, acls: &[Acl]) -> Result<(), AdminError> {
        let creations = acls.iter().map(|acl| {
            AclCreation::default()
                .with_resource_type(resource_code(acl.kind))
                .with_resource_name(text(&acl.name))
                .with_resource_pattern_type(pattern_code(acl.pattern))
                .with_principal(text(&acl.principal))
                .with_host(StrBytes::from_static_str(ANY_HOST))
                .with_operation(operation_code(acl.operation))
                .with_permission_type(ALLOW)
        });
        let request = CreateAclsRequest::default().with_creations(creations.collect());
        let response = self.connection.call(&request, VERSION).await?;
        let refused = response.results.iter().find(|result| result.error_code != 0);
        refused.map_or(Ok(()), |result| {
            Err(refusal(result.error_code, result.error_message.as_deref()))
        })
    }

    /// Deletes ACLs. Does not fail for ACLs that do not exist.
    pub async fn delete_acls(&mut self, acls: &[Acl]) -> Result<(), AdminError> {
        let filters = acls.iter().map(|acl| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(resource_code(acl.kind))
                .with_resource_name_filter(Some(text(&acl.name)))
                .with_pattern_type_filter(pattern_code(acl.pattern))
                .with_principal_filter(Some(text(&acl.principal)))
                .with_host_filter(Some(StrBytes::from_static_str(ANY_HOST)))
                .with_operation(operation_code(acl.operation))
                .with_permission_type(ALLOW)
        });
        let request = DeleteAclsRequest::default().with_filters(filters.collect());
        let response = self.connection.call(&request, VERSION).await?;
        let refused = response.filter_results.iter().find(|result| result.error_code != 0);
        refused.map_or(Ok(()), |result| {
            Err(refusal(result.error_code, result.error_message.as_deref()))
        })
    }
}
