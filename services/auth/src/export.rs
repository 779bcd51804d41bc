//! Accounts as the legacy Spring auth has them, for `fleet export spring`.

use jiff::Timestamp;
use secrecy::SecretString;
use sosohappy_common::Account;
use sosohappy_store::{StoreError, retrying};

use crate::domain::person::{LinkedIdentity, Person};
use crate::domain::provider::Provider;
use crate::import::{Importer, LegacyUser};
use crate::store::Transaction;
use crate::store::imports::{ImportedAccount, NameOf};

/// Columns of the legacy table `user` for an account.
#[derive(Debug)]
pub struct ExportedAccount {
    pub account: Account,
    pub provider: String,
    pub subject: Option<String>,
    pub nickname: String,
    pub introduction: String,
    pub photo: Option<bytes::Bytes>,
    /// Whether moderation hides introduction and photo, or the account is suspended: both are left out.
    pub is_hidden: bool,
    /// Whether the account is as it was imported or exported: the legacy row has the photo as it was uploaded there.
    pub is_unchanged: bool,
    /// The push token that was set last.
    pub device_token: Option<String>,
    pub apple_refresh_token: Option<SecretString>,
    /// The row it was imported from, or exported to before.
    pub legacy_id: Option<i64>,
}

impl Importer {
    /// Returns accounts after this one, in order.
    pub async fn accounts_after(&self, after: &str, limit: u32) -> anyhow::Result<Vec<ExportedAccount>> {
        let accounts = self.store.accounts_after(after, limit).await?;
        let mut exported = Vec::with_capacity(accounts.len());
        for account in accounts {
            let mut tx = self.store.begin().await?;
            let Some(person) = tx.person(&account).await? else {
                continue;
            };
            let devices = tx.devices_of(&account).await?.devices;
            let imported = tx
                .imported_as(&account)
                .await?
                .filter(|imported| imported.account.is_some());
            let sealed = tx.provider_token(&account).await?;
            let provider = Provider::of_account(&account);
            let subject = own_subject(&person, tx.identities_of(&account).await?, provider);
            drop(tx);
            let is_unchanged = imported
                .as_ref()
                .is_some_and(|imported| imported.written == crate::import::written(&person));
            let is_hidden = crate::import::is_hidden(&person);
            let photo = match person.image.filter(|_| !is_hidden) {
                Some(image) => self.images.get(image).await?.map(|picture| picture.bytes),
                None => None,
            };
            exported.push(ExportedAccount {
                provider: provider.map_or_else(String::new, |provider| provider.as_str().to_owned()),
                subject,
                nickname: person.nickname.as_str().to_owned(),
                introduction: if is_hidden {
                    String::new()
                } else {
                    person.introduction.as_str().to_owned()
                },
                photo,
                is_hidden,
                is_unchanged,
                device_token: devices.last().map(|device| device.token.clone()),
                apple_refresh_token: sealed.and_then(|sealed| self.provider_tokens.open(account.as_str(), &sealed)),
                legacy_id: imported.map(|imported| imported.legacy_id),
                account,
            });
        }
        Ok(exported)
    }

    /// Returns the legacy rows whose accounts resigned here, each with the fingerprint of the account.
    pub async fn resigned(&self) -> Result<Vec<(i64, String)>, StoreError> {
        self.store.resigned_imports().await
    }

    /// Remembers legacy rows as they were written: the next import finds them unchanged.
    pub async fn exported(&self, users: &[LegacyUser], at: Timestamp) -> Result<(), StoreError> {
        let at = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
        retrying(|| async {
            let mut tx = self.store.begin().await?;
            for user in users {
                remember(tx.as_mut(), user, at).await?;
            }
            tx.commit().await
        })
        .await
    }
}

/// Returns the subject at the provider that the account is named after: the legacy row has no place for another.
fn own_subject(person: &Person, linked: Vec<LinkedIdentity>, provider: Option<Provider>) -> Option<String> {
    let mut all = LinkedIdentity::all_of(person, linked).into_iter();
    let own = all.find(|linked| Provider::of_issuer(&linked.identity.issuer) == provider);
    own.and_then(|own| own.identity.subject)
}

async fn remember(tx: &mut dyn Transaction, user: &LegacyUser, at: Timestamp) -> Result<(), StoreError> {
    let Ok(account) = user.account() else { return Ok(()) };
    let Some(person) = tx.person(&account).await? else {
        return Ok(());
    };
    let before = tx.imported_as(&account).await?;
    if let Some(nickname) = user.nickname.as_deref() {
        tx.renamed(&account).await?;
        tx.remember_name(nickname, &account, NameOf::TheAccount).await?;
    }
    tx.set_imported(&ImportedAccount {
        legacy_id: user.id,
        person: account.fingerprint(),
        account: Some(account),
        session: before.as_ref().and_then(|before| before.session),
        source: user.source(),
        photo: user.photo_fingerprint(),
        written: crate::import::exported(&person),
        imported_at: before.map_or(at, |before| before.imported_at),
    })
    .await
}
