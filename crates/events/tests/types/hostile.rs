//! Records that are not what they should be: refused without a panic, and without quoting them.

use bytes::Bytes;
use proptest::prelude::*;
use sosohappy_common::Context;
use sosohappy_events::types::{
    AccessTokenIssued, AccountErased, AccountResigned, AccountStateChanged, BusMessage, CanaryUpdated,
    ContentModerated, DeviceTokenSet, DirectMessageSent, FollowChanged, MessageChanged, MessageReceipt,
    MessageRequestChanged, ModerationApplied, NicknameSet, NoticeRaised, PostLiked, Recipient, RelationChanged, Role,
    RoomMessageSent, SessionExpired, SessionId, TokenDigest,
};
use sosohappy_events::{Envelope, Event, Record, Topic, Unreadable};

use crate::{KIM, LEE, millis, read, record, spring, with_headers};

#[test]
fn null_keys_and_bad_utf8_are_malformed() {
    fn check<E: Event>(value: Option<&[u8]>) {
        check_key::<E>(value);
        if value.is_some() {
            assert!(
                E::decode(&record(E::TOPIC, Some(KIM.as_bytes()), Some(b"\xff\xfe"))).is_err(),
                "{}: a value",
                E::TYPE
            );
        }
    }
    fn check_key<E: Event>(value: Option<&[u8]>) {
        let name = E::TYPE;
        assert!(E::decode(&record(E::TOPIC, None, value)).is_err(), "{name}: a null key");
        assert!(
            E::decode(&record(E::TOPIC, Some(b"\xff\xfe"), value)).is_err(),
            "{name}: a key that is not UTF-8"
        );
    }
    check::<AccessTokenIssued>(Some(b"abc"));
    check::<SessionExpired>(None);
    check_key::<AccountResigned>(Some(b"nick"));
    check::<NicknameSet>(Some(b"nick"));
    check::<DeviceTokenSet>(Some(b"token"));
    check::<PostLiked>(Some(b"nick,2023090513248392"));
    check::<DirectMessageSent>(Some(br#"{"sender":"a","receiver":"b","date":1,"text":"c"}"#));
    check::<RelationChanged>(Some(
        format!(r#"{{"relation":"block","account":"{KIM}","other":"{LEE}"}}"#).as_bytes(),
    ));
    check::<FollowChanged>(Some(
        format!(r#"{{"follower":"{LEE}","followed":"{KIM}","following":true,"friends":false}}"#).as_bytes(),
    ));
    check::<AccountStateChanged>(Some(format!(r#"{{"account":"{KIM}","state":"restored"}}"#).as_bytes()));
    check::<NoticeRaised>(Some(
        format!(r#"{{"receiver":"{KIM}","topic":"x","data":1}}"#).as_bytes(),
    ));
}

/// The record waits for a replica of the release that knows the word. The legacy Spring services have no later release.
#[test]
fn a_word_that_is_not_known_is_of_a_newer_release() {
    fn check<E: Event>(key: &str, value: &str) {
        check_record::<E>(record(E::TOPIC, Some(key.as_bytes()), Some(value.as_bytes())));
    }
    fn check_record<E: Event>(record: Record) {
        let foreign = Envelope::<E>::decode(&record).err();
        assert!(
            matches!(foreign, Some(Unreadable::Malformed(_))),
            "{}: {foreign:?}",
            E::TYPE
        );
        let ours = Envelope::<E>::decode(&with_headers(record, &[("event-version", "1")])).err();
        assert!(
            matches!(ours, Some(Unreadable::UnknownWord(_))),
            "{}: {ours:?}",
            E::TYPE
        );
    }
    let order = "01890a5d-ac96-774b-bcce-b302099a8057";
    check::<AccountStateChanged>(KIM, &format!(r#"{{"account":"{KIM}","state":"later"}}"#));
    check::<CanaryUpdated>("", r#"{"originService":"config-service:1","type":"later"}"#);
    check::<MessageChanged>(
        LEE,
        &format!(r#"{{"message":"m","sender":"{KIM}","receiver":"{LEE}","change":"later"}}"#),
    );
    check::<RoomMessageSent>(
        "r",
        &format!(r#"{{"room":"r","message":"m","members":["{KIM}"],"change":"later"}}"#),
    );
    check::<MessageReceipt>(KIM, &format!(r#"{{"reader":"{KIM}","state":"later","rooms":[]}}"#));
    check::<MessageRequestChanged>(
        LEE,
        &format!(r#"{{"request":"r","change":"later","asker":"{KIM}","receiver":"{LEE}"}}"#),
    );
    for content in [
        r#""action":"later","kind":"post","date":1"#,
        r#""action":"hidden","kind":"later""#,
    ] {
        check::<ContentModerated>(KIM, &format!(r#"{{"author":"{KIM}",{content}}}"#));
    }
    for answer in [
        r#""outcome":"later""#.to_owned(),
        format!(r#""decision":{{"moderator":"{LEE}","accepted":true,"kind":"later"}}"#),
    ] {
        check::<ModerationApplied>(
            KIM,
            &format!(r#"{{"author":"{KIM}","service":"feed-service","order":"{order}",{answer}}}"#),
        );
    }
    check::<RelationChanged>(
        &format!("{KIM},{LEE},later"),
        &format!(r#"{{"relation":"later","account":"{KIM}","other":"{LEE}"}}"#),
    );
    let tombstone = format!("{KIM},{LEE},later");
    check_record::<RelationChanged>(record(Topic::Relation, Some(tombstone.as_bytes()), None));
}

/// All tokens behind such a record would wait for a replica that knows the role.
#[test]
fn a_role_that_is_not_known_has_no_rights() {
    let record = record(Topic::AccessToken, Some(KIM.as_bytes()), Some(b"abc"));
    let record = with_headers(record, &[("event-version", "1"), ("role", "auditor")]);
    let issued = Envelope::<AccessTokenIssued>::decode(&record).unwrap().event;
    assert_eq!(issued.role, Role::User);
}

/// Structures are read from arrays of their fields, too, unless that is refused.
#[test]
fn an_array_is_no_event() {
    let object = format!(r#"{{"follower":"{LEE}","followed":"{KIM}","following":true,"friends":false}}"#);
    assert!(spring::<FollowChanged>(KIM, Some(&object)).is_ok());
    let array = format!(r#"["{LEE}","{KIM}",true,false]"#);
    assert!(spring::<FollowChanged>(KIM, Some(&array)).is_err());
    let message = r#" ["a","b",2023090513248392,"c"]"#;
    assert!(spring::<DirectMessageSent>(KIM, Some(message)).is_err());
}

#[test]
fn errors_do_not_quote_the_record() {
    let secret = "top-secret";
    let json = spring::<AccountStateChanged>(KIM, Some(&format!(r#"{{"account":"{secret}","state":1}}"#)));
    let (json, key) = (
        json.unwrap_err().to_string(),
        spring::<AccountResigned>(secret, Some("nick")).unwrap_err().to_string(),
    );
    assert!(!json.contains(secret) && !key.contains(secret), "{json} {key}");
}

/// Bytes that are now and then nearly right.
fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    let nearly = [
        KIM,
        "a,2023090513248392",
        "sha256:",
        "a.e30.c",
        r#"{"account":"kim@example.com+kakao","state":"suspended"}"#,
        r#"{"relation":"block","account":"a@b+c"}"#,
        r#"{"type":"x","originService":"y"}"#,
        r#"{"sender":"a","receiver":"b","date":1,"text":"c"}"#,
    ];
    let nearly = (
        prop::sample::select(nearly.to_vec()),
        any::<prop::sample::Index>(),
        any::<u8>(),
    )
        .prop_map(|(text, at, byte)| {
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        });
    prop::option::of(prop_oneof![nearly, prop::collection::vec(any::<u8>(), 0..64)])
}

fn headers() -> impl Strategy<Value = Vec<(String, Bytes)>> {
    let names = [
        "event-id",
        "event-type",
        "event-version",
        "occurred-at",
        "authorized-at",
        "session-id",
        "issued-at",
        "expires-at",
        "role",
        "liker-account",
    ];
    let value = prop_oneof!["[0-9]{1,20}", "[0-9a-f]{16}", ".*"].prop_map(|text| Bytes::from(text.into_bytes()));
    prop::collection::vec(
        (prop::sample::select(names.to_vec()).prop_map(str::to_owned), value),
        0..4,
    )
}

proptest! {
    #[test]
    fn no_record_makes_us_panic(key in bytes(), value in bytes(), headers in headers(), stamp in 0..i64::from(i32::MAX)) {
        fn decode<E: Event>(record: &Record) {
            // A decoded event can be encoded again, and means the same.
            if let Ok(envelope) = Envelope::<E>::decode(record) {
                let again = read(&envelope.to_outgoing());
                assert!(Envelope::<E>::decode(&again).is_ok(), "{}: {record:?}", E::TYPE);
            }
        }
        let mut record = record(Topic::Notice, key.as_deref(), value.as_deref());
        record.headers = headers.into_iter().collect();
        record.timestamp = millis(stamp);
        decode::<AccessTokenIssued>(&record);
        decode::<SessionExpired>(&record);
        decode::<AccountResigned>(&record);
        decode::<PostLiked>(&record);
        decode::<BusMessage>(&record);
        decode::<CanaryUpdated>(&record);
        decode::<NicknameSet>(&record);
        decode::<DeviceTokenSet>(&record);
        decode::<DirectMessageSent>(&record);
        decode::<RelationChanged>(&record);
        decode::<FollowChanged>(&record);
        decode::<AccountStateChanged>(&record);
        decode::<AccountErased>(&record);
        decode::<NoticeRaised>(&record);
        decode::<ContentModerated>(&record);
    }

    #[test]
    fn any_nickname_and_message_comes_back(nickname in "\\PC{1,50}", text in ".*", date in 2_000_000_000_000_000i64..=9_999_999_999_999_999) {
        let liked = PostLiked { liker: nickname.clone(), liker_account: None, author: nickname.clone(), author_account: None, date };
        let read_back = Envelope::<PostLiked>::decode(&read(&Envelope::new(liked.clone(), &Context::system("test", 0)).to_outgoing()));
        // A nickname that reads like an account is taken for one.
        prop_assert_eq!(PostLiked { author_account: None, ..read_back.unwrap().event }, liked);

        let frame = serde_json::json!({"sender": nickname, "receiver": nickname, "date": date, "text": text}).to_string();
        let message = DirectMessageSent {
            recipient: Recipient::PushToken("token".into()),
            message_id: None,
            sender_account: None,
            sender_socket: None,
            receiver_online: false,
            numbered: false,
            released: false,
            frame,
        };
        let sent = Envelope::new(message.clone(), &Context::system("test", 0)).to_outgoing();
        prop_assert_eq!(Envelope::<DirectMessageSent>::decode(&read(&sent)).unwrap().event, message);
    }

    #[test]
    fn digests_sessions_and_roles_come_back(digest in any::<[u8; 32]>(), session in any::<u64>(), role in 0usize..3) {
        let role = [Role::User, Role::Moderator, Role::Admin][role];
        let (digest, session) = (TokenDigest(digest), SessionId(session));
        prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        prop_assert_eq!(session.to_string().parse(), Ok(session));
        prop_assert_eq!(role.to_string().parse(), Ok(role));
    }
}
