//! Records that are not what they should be: told apart without a panic, and without quoting them.

use bytes::Bytes;
use proptest::prelude::*;
use sosohappy_common::Context;
use sosohappy_events::types::{
    AccessTokenIssued, AccountErased, AccountResigned, AccountStateChanged, BusMessage, CanaryUpdated,
    ContentModerated, DeviceTokenSet, DirectMessageSent, FollowChanged, NicknameSet, NoticeRaised, PostLiked,
    Recipient, RelationChanged, Role, SessionExpired, SessionId, TokenDigest,
};
use sosohappy_events::{Envelope, Event, Record, Topic};

use crate::{KIM, LEE, millis, read, record, spring};

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
        record.headers = headers;
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
