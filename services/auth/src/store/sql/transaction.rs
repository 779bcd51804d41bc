//! Everything that changes together with its events.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::{Account, Look, Nickname, NicknameKey, NicknameLooks};
use sosohappy_events::types::{Device, SessionId, TokenDigest};
use sosohappy_events::{EventId, Outgoing, Topic};
use sosohappy_media::ImageId;
use sosohappy_store::{PRIMARY, StoreError, Timer};
use sqlx::Row as _;

use super::{engine, identities, looks, people, rows};
use crate::domain::code::CodeId;
use crate::domain::muted_word::{MutedWord, Word};
use crate::domain::nickname_claim::NicknameClaim;
use crate::domain::person::{Identity, LinkedIdentity, Person};
use crate::domain::profile::Introduction;
use crate::domain::session::Session;
use crate::store::{AccessToken, Block, OpenDevices, Resignation, Transaction};

/// The rules that no two accounts bear one nickname, as written and in any spelling.
const NICKNAME: &str = "account_nickname";
const NICKNAME_KEY: &str = "account_nickname_key";

/// The rule that no two accounts differ only by letter case or blanks.
const ADDRESS_KEY: &str = "account_address_key";

pub struct SqlTransaction(pub engine::Tx);

type Query<'q> = sqlx::query::Query<'q, engine::Engine, <engine::Engine as sqlx::Database>::Arguments>;

impl SqlTransaction {
    /// How many rows it changed or found.
    pub(super) async fn run(&mut self, query: Query<'_>) -> Result<u64, StoreError> {
        Ok(query.execute(&mut *self.0).await?.rows_affected())
    }

    async fn insert_looks(&mut self, names: &[(String, Nickname)]) -> Result<(), StoreError> {
        let looks: Vec<(Look, &String)> = names
            .iter()
            .flat_map(|(account, nickname)| nickname.looks().own.into_iter().map(move |look| (look, account)))
            .collect();
        for looks in looks.chunks(LOOKS) {
            let rows = looks.iter().map(|(look, account)| (look, (*account).clone()));
            let mut insert = looks::insert("INSERT INTO nickname_look (look, account) ", rows);
            self.run(insert.build()).await?;
        }
        Ok(())
    }

    /// Returns false when the row violates one of the unique indexes that the caller expects to be taken.
    async fn write_unless_taken(&mut self, query: Query<'_>, expected: &[&str]) -> Result<bool, StoreError> {
        match self.run(query).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict(rule)) if expected.contains(&rule.as_str()) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Transaction for SqlTransaction {
    async fn use_code(&mut self, code: &CodeId, expires_at: Timestamp) -> Result<bool, StoreError> {
        let insert = sqlx::query("INSERT INTO used_code (code, expires_at) VALUES (?, ?)")
            .bind(code.as_slice())
            .bind(expires_at.as_millisecond());
        // The primary key decides between replicas: a second insert waits for the first transaction, then conflicts.
        self.write_unless_taken(insert, &[PRIMARY]).await
    }

    async fn person(&mut self, account: &Account) -> Result<Option<Person>, StoreError> {
        let row = sqlx::query(rows::lock(rows::PERSON, "account = ?"))
            .bind(account.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        rows::person(row.as_ref(), |person| person.account == *account)
    }

    async fn person_at(&mut self, account: &Account) -> Result<Option<Person>, StoreError> {
        if let Some(person) = self.person(account).await? {
            return Ok(Some(person));
        }
        let row = sqlx::query(rows::lock(rows::PERSON, "address_key = ?"))
            .bind(account.key().to_vec())
            .fetch_optional(&mut *self.0)
            .await?;
        rows::person(row.as_ref(), |_| true)
    }

    async fn person_keyed(&mut self, key: &NicknameKey) -> Result<Option<Person>, StoreError> {
        let row = sqlx::query(rows::lock(rows::PERSON, "nickname_key = ?"))
            .bind(key.as_bytes().to_vec())
            .fetch_optional(&mut *self.0)
            .await?;
        rows::person(row.as_ref(), |_| true)
    }

    async fn set_nickname_key(&mut self, person: &Person) -> Result<bool, StoreError> {
        let update = sqlx::query("UPDATE account SET nickname_key = ?, profile_set = ? WHERE account = ?")
            .bind(person.nickname.key().as_bytes().to_vec())
            .bind(person.profile_set)
            .bind(person.account.as_str());
        self.write_unless_taken(update, &[NICKNAME_KEY]).await
    }

    async fn set_address_key(&mut self, account: &Account, key: &[u8; 32]) -> Result<bool, StoreError> {
        let update = sqlx::query("UPDATE account SET address_key = ? WHERE account = ?")
            .bind(key.as_slice())
            .bind(account.as_str());
        self.write_unless_taken(update, &[ADDRESS_KEY]).await
    }

    async fn insert_person(&mut self, person: &Person) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO account (account, address_key, issuer, subject, nickname, nickname_key, look_nickname, looks_version,
            profile_set, introduction, image, role, created_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(person.account.as_str())
        .bind(person.account.key().to_vec())
        .bind(&person.identity.issuer)
        .bind(&person.identity.subject)
        .bind(person.nickname.as_str())
        .bind(person.nickname.key().as_bytes().to_vec())
        .bind(person.nickname.as_str())
        .bind(NicknameLooks::VERSION)
        .bind(person.profile_set)
        .bind(person.introduction.as_str())
        .bind(person.image.map(|image| image.0))
        .bind(person.role.as_str())
        .bind(person.created_at.as_millisecond())
        .bind(person.changed_at.as_millisecond());
        // There was no row to lock: another transaction may have inserted the account, or taken the nickname, since this one looked.
        self.run(insert)
            .await
            .map_err(|error| error.retry_if_taken(&[PRIMARY, NICKNAME, NICKNAME_KEY, ADDRESS_KEY]))?;
        self.insert_looks(&[(person.account.as_str().to_owned(), person.nickname.clone())])
            .await
    }

    async fn owner_of_linked_identity(&mut self, identity: &Identity) -> Result<Option<Account>, StoreError> {
        let found = identities::owners(identities::LINKED, identity)
            .fetch_all(&mut *self.0)
            .await?;
        identities::owner(&found, identity)
    }

    async fn owner_of_identity(&mut self, identity: &Identity) -> Result<Option<Account>, StoreError> {
        if let Some(owner) = self.owner_of_linked_identity(identity).await? {
            return Ok(Some(owner));
        }
        let found = identities::owners(identities::OWN, identity)
            .fetch_all(&mut *self.0)
            .await?;
        identities::owner(&found, identity)
    }

    async fn identities_of(&mut self, account: &Account) -> Result<Vec<LinkedIdentity>, StoreError> {
        let found = identities::of(account).fetch_all(&mut *self.0).await?;
        found.iter().map(identities::linked).collect()
    }

    async fn insert_identity(
        &mut self,
        account: &Account,
        identity: &Identity,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let insert = sqlx::query("INSERT INTO identity (issuer, subject, account, linked_at) VALUES (?, ?, ?, ?)")
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(account.as_str())
            .bind(at.as_millisecond());
        self.write_unless_taken(insert, &[PRIMARY]).await
    }

    async fn delete_identity(&mut self, account: &Account, identity: &Identity) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM identity WHERE issuer = ? AND subject = ? AND account = ?")
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(account.as_str());
        self.run(delete).await?;
        Ok(())
    }

    async fn link_person(&mut self, account: &Account, identity: &Identity) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE account SET issuer = ?, subject = ? WHERE account = ?")
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(account.as_str());
        self.run(update).await?;
        Ok(())
    }

    async fn stamp_person(&mut self, account: &Account, at: Timestamp) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE account SET changed_at = ? WHERE account = ?")
            .bind(at.as_millisecond())
            .bind(account.as_str());
        self.run(update).await?;
        Ok(())
    }

    async fn set_profile(
        &mut self,
        account: &Account,
        nickname: &Nickname,
        introduction: &Introduction,
        image: Option<ImageId>,
    ) -> Result<bool, StoreError> {
        let update = sqlx::query(
            "UPDATE account SET nickname = ?, nickname_key = ?, introduction = ?, image = ?, profile_set = ? WHERE account = ?",
        )
        .bind(nickname.as_str())
        .bind(nickname.key().as_bytes().to_vec())
        .bind(introduction.as_str())
        .bind(image.map(|image| image.0))
        .bind(true)
        .bind(account.as_str());
        self.write_unless_taken(update, &[NICKNAME, NICKNAME_KEY]).await
    }

    async fn set_looks(&mut self, account: &Account, nickname: &Nickname) -> Result<(), StoreError> {
        self.run(sqlx::query("DELETE FROM nickname_look WHERE account = ?").bind(account.as_str()))
            .await?;
        self.insert_looks(&[(account.as_str().to_owned(), nickname.clone())])
            .await?;
        let update = sqlx::query("UPDATE account SET look_nickname = ?, looks_version = ? WHERE account = ?")
            .bind(nickname.as_str())
            .bind(NicknameLooks::VERSION)
            .bind(account.as_str());
        self.run(update).await?;
        Ok(())
    }

    async fn make_looks(&mut self, limit: u32) -> Result<u32, StoreError> {
        let found = sqlx::query(rows::lock(
            "SELECT account, nickname FROM account",
            "made_looks < ? ORDER BY made_looks, account LIMIT ?",
        ))
        .bind(NicknameLooks::VERSION)
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        // As text: an account that does not decode does not stop the others.
        let names = found
            .iter()
            .map(|row| {
                Ok((
                    rows::text(row, "account")?,
                    Nickname::stored(rows::text(row, "nickname")?),
                ))
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        if names.is_empty() {
            return Ok(0);
        }
        let delete = looks::Query::new("DELETE FROM nickname_look WHERE account IN (");
        let mut update = looks::Query::new("UPDATE account SET look_nickname = nickname, looks_version = ");
        update.push_bind(NicknameLooks::VERSION);
        update.push(" WHERE account IN (");
        for mut query in [delete, update] {
            let mut accounts = query.separated(", ");
            for (account, _) in &names {
                accounts.push_bind(account.clone());
            }
            query.push(")");
            self.run(query.build()).await?;
        }
        self.insert_looks(&names).await?;
        Ok(u32::try_from(names.len()).unwrap_or(u32::MAX))
    }

    async fn is_nickname_kept(&mut self, claim: &NicknameClaim<'_>) -> Result<bool, StoreError> {
        // It waits for other transactions that have written or deleted one of the looks: of two that take names which look alike at the same
        // moment, one waits for the other, or both do, and one is rolled back and retried.
        looks::is_kept(&mut self.0, claim, engine::FOR_UPDATE).await
    }

    async fn delete_person(&mut self, account: &Account) -> Result<(), StoreError> {
        self.run(sqlx::query("DELETE FROM account WHERE account = ?").bind(account.as_str()))
            .await?;
        Ok(())
    }

    async fn owner_of(&mut self, session: SessionId) -> Result<Option<Account>, StoreError> {
        let row = sqlx::query("SELECT account FROM session WHERE session = ?")
            .bind(session.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        row.as_ref().map(|row| rows::account(row, "account")).transpose()
    }

    async fn session(&mut self, session: SessionId) -> Result<Option<Session>, StoreError> {
        let row = sqlx::query(rows::lock(rows::SESSION, "session = ?"))
            .bind(session.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        row.as_ref().map(rows::session).transpose()
    }

    async fn sessions_of(&mut self, account: &Account) -> Result<Vec<Session>, StoreError> {
        let found = sqlx::query(rows::lock(
            rows::SESSION,
            "account = ? ORDER BY refresh_issued_at, session",
        ))
        .bind(account.as_str())
        .fetch_all(&mut *self.0)
        .await?;
        found.iter().map(rows::session).collect()
    }

    async fn insert_session(&mut self, session: &Session) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO session (stamped_at, refresh_id, refresh_issued_at, refresh_expires_at, previous_refresh_id, rotated_at,
            opened_at, device, place, issuer, subject, account, session) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        );
        self.run(
            bind_session(insert, session)
                .bind(session.account.as_str())
                .bind(session.id.to_string()),
        )
        .await?;
        Ok(())
    }

    async fn update_session(&mut self, session: &Session) -> Result<(), StoreError> {
        let update = sqlx::query(
            "UPDATE session SET stamped_at = ?, refresh_id = ?, refresh_issued_at = ?, refresh_expires_at = ?,
            previous_refresh_id = ?, rotated_at = ?, opened_at = ?, device = ?, place = ?, issuer = ?, subject = ? WHERE session = ?",
        );
        self.run(bind_session(update, session).bind(session.id.to_string()))
            .await?;
        Ok(())
    }

    async fn insert_device(&mut self, device: &Device) -> Result<(), StoreError> {
        let insert = sqlx::query("INSERT INTO device (session, token, since) VALUES (?, ?, ?)")
            .bind(device.session.to_string())
            .bind(&device.token)
            .bind(device.since.as_millisecond());
        self.run(insert).await?;
        Ok(())
    }

    async fn devices_of(&mut self, account: &Account) -> Result<OpenDevices, StoreError> {
        let found = sqlx::query(
            "SELECT session.session, device.token, device.since FROM session
            LEFT JOIN device ON device.session = session.session
            WHERE session.account = ? ORDER BY device.since, session.session",
        )
        .bind(account.as_str())
        .fetch_all(&mut *self.0)
        .await?;
        let mut open = OpenDevices::default();
        for row in &found {
            open.sessions.push(rows::session_id(row)?);
            open.devices.extend(rows::device(row)?);
        }
        Ok(open)
    }

    async fn delete_session(&mut self, session: SessionId) -> Result<(), StoreError> {
        self.run(sqlx::query("DELETE FROM session WHERE session = ?").bind(session.to_string()))
            .await?;
        Ok(())
    }

    async fn insert_access_token(&mut self, digest: &TokenDigest, token: &AccessToken) -> Result<(), StoreError> {
        let insert =
            sqlx::query("INSERT INTO access_token (digest, session, issued_at, expires_at) VALUES (?, ?, ?, ?)")
                .bind(digest.0.as_slice())
                .bind(token.session.to_string())
                .bind(token.issued_at.as_millisecond())
                .bind(token.expires_at.as_millisecond());
        self.run(insert).await?;
        Ok(())
    }

    async fn access_token_of(
        &mut self,
        session: SessionId,
        issued_at: Timestamp,
    ) -> Result<Option<(TokenDigest, Timestamp)>, StoreError> {
        let row = sqlx::query("SELECT digest, expires_at FROM access_token WHERE session = ? AND issued_at = ?")
            .bind(session.to_string())
            .bind(issued_at.as_millisecond())
            .fetch_optional(&mut *self.0)
            .await?;
        let token = |row| {
            let digest: Vec<u8> = sqlx::Row::try_get_unchecked(row, "digest")?;
            let digest = digest.try_into().map_err(|_| rows::broken("digest"))?;
            Ok((TokenDigest(digest), rows::instant(row, "expires_at")?))
        };
        row.as_ref().map(token).transpose()
    }

    async fn trim_access_tokens(&mut self, session: SessionId, most: u32) -> Result<(), StoreError> {
        let session = session.to_string();
        let surplus: Option<i64> = sqlx::query_scalar(
            "SELECT issued_at FROM access_token WHERE session = ? ORDER BY issued_at DESC LIMIT 1 OFFSET ?",
        )
        .bind(&session)
        .bind(i64::from(most))
        .fetch_optional(&mut *self.0)
        .await?;
        if let Some(surplus) = surplus {
            let delete = sqlx::query("DELETE FROM access_token WHERE session = ? AND issued_at <= ?")
                .bind(&session)
                .bind(surplus);
            self.run(delete).await?;
        }
        Ok(())
    }

    async fn last_expiry(&mut self, session: SessionId) -> Result<Option<Timestamp>, StoreError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(expires_at) FROM access_token WHERE session = ?")
            .bind(session.to_string())
            .fetch_one(&mut *self.0)
            .await?;
        last.map(rows::from_millis).transpose()
    }

    async fn delete_access_tokens(&mut self, session: SessionId) -> Result<(), StoreError> {
        self.run(sqlx::query("DELETE FROM access_token WHERE session = ?").bind(session.to_string()))
            .await?;
        Ok(())
    }

    async fn insert_block(&mut self, account: &Account, other: &Account, since: Timestamp) -> Result<bool, StoreError> {
        let insert = sqlx::query("INSERT INTO block (account, other, since) VALUES (?, ?, ?)")
            .bind(account.as_str())
            .bind(other.as_str())
            .bind(since.as_millisecond());
        self.write_unless_taken(insert, &[PRIMARY]).await
    }

    async fn delete_block(&mut self, account: &Account, other: &Account) -> Result<bool, StoreError> {
        let delete = sqlx::query("DELETE FROM block WHERE account = ? AND other = ?")
            .bind(account.as_str())
            .bind(other.as_str());
        Ok(self.run(delete).await? > 0)
    }

    async fn blocks_around(&mut self, account: &Account) -> Result<Vec<Block>, StoreError> {
        let found = sqlx::query("SELECT account, other, since FROM block WHERE account = ? OR other = ?")
            .bind(account.as_str())
            .bind(account.as_str())
            .fetch_all(&mut *self.0)
            .await?;
        found
            .iter()
            .map(|row| {
                Ok(Block {
                    account: rows::account(row, "account")?,
                    other: rows::account(row, "other")?,
                    since: rows::instant(row, "since")?,
                })
            })
            .collect()
    }

    async fn is_blocked(&mut self, one: &Account, other: &Account) -> Result<bool, StoreError> {
        let found = people::blocks_between(one, other).fetch_optional(&mut *self.0).await?;
        Ok(found.is_some())
    }

    async fn insert_follow(
        &mut self,
        account: &Account,
        other: &Account,
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        let insert = sqlx::query("INSERT INTO follow (account, other, since) VALUES (?, ?, ?)")
            .bind(account.as_str())
            .bind(other.as_str())
            .bind(since.as_millisecond());
        self.write_unless_taken(insert, &[PRIMARY]).await
    }

    async fn delete_follow(&mut self, account: &Account, other: &Account) -> Result<bool, StoreError> {
        let delete = sqlx::query("DELETE FROM follow WHERE account = ? AND other = ?")
            .bind(account.as_str())
            .bind(other.as_str());
        Ok(self.run(delete).await? > 0)
    }

    async fn follows(&mut self, account: &Account, other: &Account) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM follow WHERE account = ? AND other = ?")
            .bind(account.as_str())
            .bind(other.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        Ok(found.is_some())
    }

    async fn follows_around(&mut self, account: &Account) -> Result<Vec<(Account, Account)>, StoreError> {
        let found = sqlx::query("SELECT account, other FROM follow WHERE account = ? OR other = ?")
            .bind(account.as_str())
            .bind(account.as_str())
            .fetch_all(&mut *self.0)
            .await?;
        found
            .iter()
            .map(|row| Ok((rows::account(row, "account")?, rows::account(row, "other")?)))
            .collect()
    }

    async fn muted_words(&mut self, account: &Account) -> Result<Vec<MutedWord>, StoreError> {
        let found = people::muted_words(account).fetch_all(&mut *self.0).await?;
        found.iter().map(people::muted_word).collect()
    }

    async fn insert_muted_word(&mut self, account: &Account, word: &MutedWord) -> Result<(), StoreError> {
        let insert = sqlx::query("INSERT INTO muted_word (account, word, expires_at) VALUES (?, ?, ?)")
            .bind(account.as_str())
            .bind(word.word.as_str())
            .bind(word.expires_at.map(Timestamp::as_millisecond));
        self.run(insert).await?;
        Ok(())
    }

    async fn delete_muted_word(&mut self, account: &Account, word: &Word) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM muted_word WHERE account = ? AND word = ?")
            .bind(account.as_str())
            .bind(word.as_str());
        self.run(delete).await?;
        Ok(())
    }

    async fn insert_resignation(
        &mut self,
        resignation: &Resignation,
        account_hash: &[u8; 32],
    ) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO resignation (resignation, account_hash, account, nickname, resigned_at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(resignation.id.to_string())
        .bind(account_hash.as_slice())
        .bind(resignation.account.as_str())
        .bind(&resignation.nickname)
        .bind(resignation.resigned_at.as_millisecond());
        self.run(insert).await?;
        Ok(())
    }

    async fn last_resignation(&mut self, account_hash: &[u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(resigned_at) FROM resignation WHERE account_hash = ?")
            .bind(account_hash.as_slice())
            .fetch_one(&mut *self.0)
            .await?;
        last.map(rows::from_millis).transpose()
    }

    async fn is_resignation(&mut self, id: EventId) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM resignation WHERE resignation = ?")
            .bind(id.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        Ok(found.is_some())
    }

    async fn unfinished_resignation(&mut self, id: EventId) -> Result<Option<Resignation>, StoreError> {
        let select = "SELECT account, nickname, resigned_at FROM resignation";
        let row = sqlx::query(rows::lock(select, "resignation = ? AND completed_at IS NULL"))
            .bind(id.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        let resignation = |row| {
            Ok(Resignation {
                id,
                account: rows::account(row, "account")?,
                nickname: rows::text(row, "nickname")?,
                resigned_at: rows::instant(row, "resigned_at")?,
            })
        };
        row.as_ref().map(resignation).transpose()
    }

    async fn insert_receipt(&mut self, id: EventId, service: &str, at: Timestamp) -> Result<(), StoreError> {
        let insert =
            sqlx::query("INSERT INTO resignation_receipt (resignation, service, received_at) VALUES (?, ?, ?)")
                .bind(id.to_string())
                .bind(service)
                .bind(at.as_millisecond());
        self.write_unless_taken(insert, &[PRIMARY]).await?;
        Ok(())
    }

    async fn receipts(&mut self, id: EventId) -> Result<Vec<String>, StoreError> {
        let found = sqlx::query("SELECT service FROM resignation_receipt WHERE resignation = ?")
            .bind(id.to_string())
            .fetch_all(&mut *self.0)
            .await?;
        found.iter().map(|row| Ok(row.try_get_unchecked(0)?)).collect()
    }

    async fn note_erasure(&mut self, now: Timestamp) -> Result<(), StoreError> {
        engine::note_erasure(&mut self.0, now).await
    }

    async fn complete_resignation(
        &mut self,
        id: EventId,
        at: Timestamp,
        not_awaited: &[String],
    ) -> Result<(), StoreError> {
        let not_awaited = Some(not_awaited.join(",")).filter(|names| !names.is_empty());
        let update = sqlx::query(
            "UPDATE resignation SET account = NULL, nickname = NULL, completed_at = ?, not_awaited = ? WHERE resignation = ?",
        )
        .bind(at.as_millisecond())
        .bind(not_awaited)
        .bind(id.to_string());
        self.run(update).await?;
        Ok(())
    }

    async fn reserve_nickname(
        &mut self,
        nickname: &Nickname,
        bearer: Option<&[u8; 32]>,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.release_nickname(nickname).await?;
        let insert =
            sqlx::query("INSERT INTO nickname_reservation (nickname_key, bearer, reserved_until) VALUES (?, ?, ?)")
                .bind(nickname.key().as_bytes().to_vec())
                .bind(bearer.map(<[u8; 32]>::as_slice))
                .bind(until.as_millisecond());
        self.run(insert).await?;
        let looks = nickname.looks().own;
        if !looks.is_empty() {
            let rows = looks.iter().map(|look| (look, nickname.key().as_bytes().to_vec()));
            let mut insert = looks::insert("INSERT INTO reserved_look (look, nickname_key) ", rows);
            self.run(insert.build()).await?;
        }
        Ok(())
    }

    async fn trim_reservations(&mut self, bearer: &[u8; 32], most: u32) -> Result<(), StoreError> {
        let surplus = sqlx::query(
            "SELECT nickname_key FROM nickname_reservation WHERE bearer = ?
            ORDER BY reserved_until DESC, nickname_key LIMIT ? OFFSET ?",
        )
        .bind(bearer.as_slice())
        .bind(SURPLUS)
        .bind(i64::from(most))
        .fetch_all(&mut *self.0)
        .await?;
        // One by one: several may end at the same moment.
        for row in &surplus {
            let key: Vec<u8> = row.try_get_unchecked("nickname_key")?;
            self.run(sqlx::query("DELETE FROM nickname_reservation WHERE nickname_key = ?").bind(key))
                .await?;
        }
        Ok(())
    }

    async fn release_nickname(&mut self, nickname: &Nickname) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM nickname_reservation WHERE nickname_key = ?")
            .bind(nickname.key().as_bytes().to_vec());
        self.run(delete).await?;
        Ok(())
    }

    async fn take_old_reservations(&mut self) -> Result<(), StoreError> {
        let old = sqlx::query("SELECT nickname, reserved_until FROM reserved_nickname")
            .fetch_all(&mut *self.0)
            .await?;
        for row in &old {
            let nickname = Nickname::stored(rows::text(row, "nickname")?);
            let until = rows::instant(row, "reserved_until")?;
            self.reserve_nickname(&nickname, None, until).await?;
            self.run(sqlx::query("DELETE FROM reserved_nickname WHERE nickname = ?").bind(nickname.as_str()))
                .await?;
        }
        Ok(())
    }

    async fn withhold_tombstone(&mut self, topic: Topic, account: &Account, at: Timestamp) -> Result<(), StoreError> {
        self.take_tombstone(topic, account).await?;
        let insert = sqlx::query("INSERT INTO withheld_tombstone (topic, account, occurred_at) VALUES (?, ?, ?)")
            .bind(topic.default_name())
            .bind(account.as_str())
            .bind(at.as_millisecond());
        self.run(insert).await?;
        Ok(())
    }

    async fn take_tombstone(&mut self, topic: Topic, account: &Account) -> Result<bool, StoreError> {
        let delete = sqlx::query("DELETE FROM withheld_tombstone WHERE topic = ? AND account = ?")
            .bind(topic.default_name())
            .bind(account.as_str());
        Ok(self.run(delete).await? > 0)
    }

    async fn discard_image(&mut self, image: ImageId, due_at: Timestamp) -> Result<(), StoreError> {
        let insert = sqlx::query("INSERT INTO discarded_image (image, due_at) VALUES (?, ?)")
            .bind(image.0)
            .bind(due_at.as_millisecond());
        self.run(insert).await?;
        Ok(())
    }

    async fn keep_image(&mut self, image: ImageId) -> Result<(), StoreError> {
        self.run(sqlx::query("DELETE FROM discarded_image WHERE image = ?").bind(image.0))
            .await?;
        Ok(())
    }

    async fn set_timer(&mut self, timer: &Timer) -> Result<(), StoreError> {
        engine::set_timer(&mut self.0, timer).await
    }

    async fn clear_timer(&mut self, kind: &str, key: &str) -> Result<(), StoreError> {
        engine::clear_timer(&mut self.0, kind, key).await
    }

    async fn take_timer(&mut self, kind: &str, key: &str, now: Timestamp) -> Result<bool, StoreError> {
        engine::take_timer(&mut self.0, kind, key, now).await
    }

    async fn enqueue(&mut self, record: &Outgoing, now: Timestamp) -> Result<(), StoreError> {
        engine::enqueue(&mut self.0, record, now).await
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }
}

/// Looks of one statement.
const LOOKS: usize = 500;

/// Reservations of one account that are released at once; older releases have left any number.
const SURPLUS: i64 = 100;

/// Everything of a session that changes.
fn bind_session<'q>(query: Query<'q>, session: &'q Session) -> Query<'q> {
    let (previous, rotated_at) = session
        .previous
        .as_ref()
        .map(|(id, at)| (id.0.as_str(), at.as_millisecond()))
        .unzip();
    let identity = session.origin.identity.as_ref();
    query
        .bind(session.stamped_at.as_millisecond())
        .bind(&session.refresh.id.0)
        .bind(session.refresh.issued_at.as_millisecond())
        .bind(session.refresh.expires_at.as_millisecond())
        .bind(previous)
        .bind(rotated_at)
        .bind(session.origin.opened_at.map(Timestamp::as_millisecond))
        .bind(&session.origin.device)
        .bind(&session.origin.place)
        .bind(identity.map(|identity| &identity.issuer))
        .bind(identity.and_then(|identity| identity.subject.as_ref()))
}
