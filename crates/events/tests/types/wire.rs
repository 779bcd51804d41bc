//! Each event's bytes, ours and those of a Spring service.

use sosohappy_common::Context;
use sosohappy_events::types::{
    AccessTokenIssued, AccountErased, AccountResigned, AccountStateChanged, BusMessage, CanaryUpdate, CanaryUpdated,
    ContentModerated, Device, DeviceTokenSet, DirectMessageSent, FollowChanged, MessageChange, MessageChanged,
    MessageReceipt, MessageRequestChanged, ModeratedContent, ModerationAction, ModerationApplied, ModerationOutcome,
    NicknameSet, NoticeRaised, PostLiked, ReceiptProgress, Recipient, Relation, RelationChanged, RelayHeartbeat,
    RequestChange, ReviewDecision, Role, RoomMessageSent, RoomPush, SessionExpired, SessionId, SocketFrameSent, State,
    TokenDigest, WithdrawnLike,
};
use sosohappy_events::{Envelope, Event, EventId, Topic};

use crate::{KIM, LEE, account, golden, millis, read, record, spring, with_headers};

#[test]
fn every_envelope_says_what_it_is() {
    let event = AccountResigned {
        account: account(KIM),
        nickname: "별이".into(),
    };
    let envelope = Envelope::new(event, &Context::system("test", 0));
    let headers = envelope.to_outgoing().headers;
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["event-id", "event-type", "event-version", "aggregate-id", "occurred-at"]
    );
    assert_eq!(headers[0].1, envelope.meta.id.to_string());
    assert_eq!(headers[1].1, "AccountResigned");
    assert_eq!(headers[2].1, "1");
    assert_eq!(headers[3].1, KIM);
    assert_eq!(headers[4].1, envelope.meta.occurred_at.as_millisecond().to_string());
}

#[test]
fn access_token() {
    let digest = TokenDigest::of("abc");
    let hex = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let event = AccessTokenIssued {
        account: account(KIM),
        digest,
        raw: None,
        session: SessionId(0xbeef),
        role: Role::Admin,
        issued_at: millis(1_700_000_000_001),
        expires_at: Some(millis(1_700_036_000_001)),
    };
    let headers = [
        ("session-id", "000000000000beef"),
        ("issued-at", "1700000000001"),
        ("role", "admin"),
        ("expires-at", "1700036000001"),
    ];
    golden(&event, Some(KIM), Some(hex), &headers);

    // In a mixed fleet the token itself travels, and means the same to our readers.
    let raw = AccessTokenIssued {
        raw: Some("abc".into()),
        ..event.clone()
    };
    let sent = Envelope::new(raw, &Context::system("test", 0)).to_outgoing();
    assert_eq!(sent.value.as_deref(), Some(&b"abc"[..]));
    assert_eq!(
        Envelope::<AccessTokenIssued>::decode(&read(&sent)).unwrap().event,
        event
    );
    assert!(
        !format!(
            "{:?}",
            AccessTokenIssued {
                raw: Some("abc".into()),
                ..event
            }
        )
        .contains("abc")
    );
}

#[test]
fn an_access_token_of_a_spring_service_has_its_own_lifetime() {
    // {"alg":"HS512"} . {"sub":"AccessToken","exp":1700036000,"email":"kim@example.com+kakao"} . signature
    let jwt = "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJBY2Nlc3NUb2tlbiIsImV4cCI6MTcwMDAzNjAwMCwiZW1haWwiOiJraW1AZXhhbXBsZS5jb20ra2FrYW8ifQ.c2ln";
    let event: AccessTokenIssued = spring(KIM, Some(jwt)).unwrap();
    assert_eq!(event.digest, TokenDigest::of(jwt));
    assert_eq!(event.session, SessionId::of_digest(&event.digest));
    assert_eq!((event.role, event.raw), (Role::User, None));
    assert_eq!(event.issued_at, millis(1_700_000_000_000), "the record's time stamp");
    assert_eq!(event.expires_at, Some(millis(1_700_036_000_000)));

    let opaque: AccessTokenIssued = spring(KIM, Some("not-a-jwt")).unwrap();
    assert_eq!(opaque.expires_at, None);
    for wrong in [Some("sha256:12"), Some(""), None] {
        assert!(spring::<AccessTokenIssued>(KIM, wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn expired() {
    let event = SessionExpired {
        account: account(KIM),
        session: Some(SessionId(1)),
    };
    golden(&event, Some(KIM), None, &[("session-id", "0000000000000001")]);
    assert_eq!(
        spring::<SessionExpired>(KIM, None).unwrap(),
        SessionExpired {
            account: account(KIM),
            session: None
        }
    );
    let wrong = with_headers(
        record(Topic::Expired, Some(KIM.as_bytes()), None),
        &[("session-id", "1")],
    );
    assert!(
        SessionExpired::decode(&wrong).is_err(),
        "a session that cannot be read closes nobody's"
    );
}

#[test]
fn resign() {
    golden(
        &AccountResigned {
            account: account(KIM),
            nickname: "별이".into(),
        },
        Some(KIM),
        Some("별이"),
        &[],
    );
    let long = "별".repeat(134);
    for odd in [None, Some(""), Some(long.as_str())] {
        let AccountResigned { account, nickname } = spring(KIM, odd).expect("whoever resigned is erased");
        assert_eq!((account.as_str(), nickname.as_str()), (KIM, ""));
    }
    let odd = record(Topic::Resign, Some(KIM.as_bytes()), Some(b"\xff"));
    assert_eq!(AccountResigned::decode(&odd).unwrap().nickname, "");
    assert!(spring::<AccountResigned>("nobody", Some("별이")).is_err());
}

#[test]
fn nickname() {
    golden(
        &NicknameSet {
            account: account(KIM),
            nickname: Some("별🩷이".into()),
        },
        Some(KIM),
        Some("별🩷이"),
        &[],
    );
    golden(
        &NicknameSet {
            account: account(KIM),
            nickname: None,
        },
        Some(KIM),
        None,
        &[],
    );
    assert!(spring::<NicknameSet>(KIM, Some("")).is_err());
    assert!(spring::<NicknameSet>(KIM, Some(&"가".repeat(134))).is_err());
    assert!(spring::<NicknameSet>(KIM, Some(&"가".repeat(133))).is_ok());
}

#[test]
fn device_token() {
    let device = |session, token: &str| Device {
        session: SessionId(session),
        token: token.to_owned(),
        since: jiff::Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
    };
    let all = DeviceTokenSet::all(account(KIM), vec![device(1, "fcm:abc"), device(2, "fcm:def")]);
    let listed = concat!(
        r#"[{"session":"0000000000000001","token":"fcm:abc","since":1700000000123},"#,
        r#"{"session":"0000000000000002","token":"fcm:def","since":1700000000123}]"#
    );
    golden(&all, Some(KIM), Some("fcm:def"), &[("devices", listed)]);
    let none = DeviceTokenSet::all(account(KIM), Vec::new());
    golden(&none, Some(KIM), None, &[("devices", "[]")]);
    let without_device = none.with_sessions(vec![SessionId(1)]);
    let headers = [("devices", "[]"), ("sessions", r#"["0000000000000001"]"#)];
    golden(&without_device, Some(KIM), None, &headers);
    let of_spring = spring::<DeviceTokenSet>(KIM, Some("fcm:abc")).unwrap();
    assert_eq!((of_spring.token.as_deref(), of_spring.devices), (Some("fcm:abc"), None));
    assert!(spring::<DeviceTokenSet>(KIM, Some("")).is_err());
    assert!(spring::<DeviceTokenSet>(KIM, Some(&"a".repeat(4097))).is_err());
}

#[test]
fn like() {
    let event = PostLiked {
        liker: "달이".into(),
        liker_account: Some(account(LEE)),
        author: "a,b".into(),
        author_account: Some(account(KIM)),
        date: 2_023_090_513_248_392,
    };
    golden(
        &event,
        Some("달이"),
        Some("a,b,2023090513248392"),
        &[("liker-account", LEE), ("author-account", KIM)],
    );

    let by_nickname: PostLiked = spring("admin", Some("별이,2023090513248392")).unwrap();
    assert_eq!(
        (by_nickname.author.as_str(), by_nickname.author_account),
        ("별이", None)
    );
    let by_account: PostLiked = spring("admin", Some(&format!("{KIM},2023090513248392"))).unwrap();
    assert_eq!(
        (by_account.author.as_str(), by_account.author_account),
        (KIM, Some(account(KIM)))
    );
    for wrong in [
        "별이",
        "별이,",
        ",2023090513248392",
        "별이,202309051324839",
        "별이,+023090513248392",
        "별이,1999090513248392",
    ] {
        assert!(spring::<PostLiked>("admin", Some(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn direct_message() {
    let frame = r#"{"sender":"별이","receiver":"달이","date":2023090513248392,"text":"안녕 \"너\""}"#;
    let event = DirectMessageSent {
        recipient: Recipient::Account(account(LEE)),
        message_id: Some("m-1".into()),
        sender_account: Some(account(KIM)),
        sender_socket: Some(7),
        receiver_online: true,
        numbered: true,
        released: true,
        frame: frame.into(),
    };
    golden(
        &event,
        Some(LEE),
        Some(frame),
        &[
            ("message-id", "m-1"),
            ("sender-account", KIM),
            ("sender-socket", "7"),
            ("receiver-online", "true"),
            ("numbered", "true"),
            ("released", "true"),
        ],
    );

    let pushed: DirectMessageSent = spring("cX3:APA91b_tok-en", Some(frame)).unwrap();
    assert_eq!(pushed.recipient, Recipient::PushToken("cX3:APA91b_tok-en".into()));
    assert!(!pushed.receiver_online && !pushed.numbered);
    assert_eq!(
        spring::<DirectMessageSent>(LEE, Some(frame)).unwrap().recipient,
        Recipient::Account(account(LEE))
    );
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"sender":"a","receiver":"b","date":"today","text":"c"}"#,
        r#"{"sender":1,"receiver":"b","date":2,"text":"c"}"#,
    ] {
        assert!(spring::<DirectMessageSent>("token", Some(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn bus_message() {
    let text = r#"{"type":"RefreshRemoteApplicationEvent","timestamp":1700000000000,"originService":"config-service:8888:ab12","destinationService":"feed-service:**","id":"7f1c"}"#;
    let event = BusMessage {
        kind: "RefreshRemoteApplicationEvent".into(),
        timestamp: 1_700_000_000_000,
        origin_service: "config-service:8888:ab12".into(),
        destination_service: Some("feed-service:**".into()),
        id: "7f1c".into(),
        rest: serde_json::Map::new(),
    };
    golden(&event, None, Some(text), &[]);
    let bytes_only = record(Topic::ConfigBus, None, Some(text.as_bytes()));
    assert_eq!(BusMessage::decode(&bytes_only).unwrap(), event);
}

#[test]
fn bus_messages_of_both_cases_are_read_and_camel_case_is_written() {
    let snake = br#"{"type":"AckRemoteApplicationEvent","timestamp":1,"origin_service":"feed-service:8891:x","destination_service":"**","id":"2","ack_id":"7f1c","ack_destination_service":"feed-service:**","event":"org.springframework.cloud.bus.event.RefreshRemoteApplicationEvent"}"#;
    let event = BusMessage::decode(&record(Topic::ConfigBus, None, Some(snake))).unwrap();
    assert_eq!(event.rest["ackId"], "7f1c");
    let written: serde_json::Value = serde_json::from_slice(&event.value().unwrap()).unwrap();
    let written: std::collections::BTreeSet<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
    let camel = [
        "ackDestinationService",
        "ackId",
        "destinationService",
        "event",
        "id",
        "originService",
        "timestamp",
        "type",
    ];
    assert!(written.iter().eq(&camel), "{written:?}");
}

#[test]
fn canary_update() {
    let update = |update| CanaryUpdated {
        origin_service: "config-service:8888:ab12".into(),
        update,
    };
    let state = update(CanaryUpdate::State {
        canary: serde_json::json!({"id": "7f1c"}),
    });
    let text = r#"{"originService":"config-service:8888:ab12","type":"state","canary":{"id":"7f1c"}}"#;
    golden(&state, None, Some(text), &[]);
    let text = r#"{"originService":"config-service:8888:ab12","type":"publish-held-version"}"#;
    golden(&update(CanaryUpdate::PublishHeldVersion), None, Some(text), &[]);
}

#[test]
fn relation() {
    let event = |relation| RelationChanged {
        relation,
        account: account(KIM),
        other: account(LEE),
    };
    let key = |what: &str| format!("{KIM},{LEE},{what}");
    let value = |what: &str| format!(r#"{{"relation":"{what}","account":"{KIM}","other":"{LEE}"}}"#);
    golden(&event(Relation::Block), Some(&key("block")), Some(&value("block")), &[]);
    // Ended relations leave the compacted topic, and the addresses in their keys with them.
    golden(&event(Relation::Unblock), Some(&key("block")), None, &[]);
    // An unfollow must not push a block out of the compacted topic.
    golden(&event(Relation::Unfollow), Some(&key("follow")), None, &[]);
    let comma = account("a,b@example.com+kakao");
    let odd = RelationChanged {
        account: comma.clone(),
        ..event(Relation::Unblock)
    };
    golden(&odd, Some(&format!("{},{LEE},block", comma.as_str())), None, &[]);
    let written_before = spring::<RelationChanged>(&key("block"), Some(&value("unblock")));
    assert_eq!(written_before, Ok(event(Relation::Unblock)));
    for key in [
        KIM.to_owned(),
        format!("{KIM},block"),
        key("hate"),
        format!("{KIM},{LEE}"),
    ] {
        assert!(spring::<RelationChanged>(&key, None).is_err(), "{key}");
    }
    assert!(
        spring::<RelationChanged>(KIM, Some(&value("block"))).is_err(),
        "another key"
    );
}

#[test]
fn follow() {
    let event = FollowChanged {
        follower: account(LEE),
        followed: account(KIM),
        following: true,
        friends: false,
    };
    let value = format!(r#"{{"follower":"{LEE}","followed":"{KIM}","following":true,"friends":false}}"#);
    golden(&event, Some(KIM), Some(&value), &[]);
    assert!(spring::<FollowChanged>(LEE, Some(&value)).is_err(), "another key");
}

#[test]
fn account_state() {
    let event = AccountStateChanged {
        account: account(KIM),
        state: State::Suspended,
    };
    golden(
        &event,
        Some(KIM),
        Some(&format!(r#"{{"account":"{KIM}","state":"suspended"}}"#)),
        &[],
    );
}

#[test]
fn erased() {
    let resignation: EventId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    let event = AccountErased {
        account: account(KIM),
        service: "feed-service".into(),
        resignation,
    };
    let value = format!(
        r#"{{"account":"{KIM}","service":"feed-service","resignation":"01890a5d-ac96-774b-bcce-b302099a8057"}}"#
    );
    golden(&event, Some(KIM), Some(&value), &[]);
}

#[test]
fn notice() {
    let event = NoticeRaised {
        receiver: account(KIM),
        topic: "comment".into(),
        data: serde_json::json!({"by": "달이"}),
        about: None,
    };
    golden(
        &event,
        Some(KIM),
        Some(&format!(
            r#"{{"receiver":"{KIM}","topic":"comment","data":{{"by":"달이"}}}}"#
        )),
        &[],
    );
    assert_eq!(event.withdrawn_like(), Ok(None));
}

#[test]
fn a_withdrawn_like_is_a_notice_that_is_not_shown() {
    let like = WithdrawnLike {
        liker: account(LEE),
        date: 2_023_090_513_248_392,
    };
    let event = NoticeRaised::like_withdrawn(account(KIM), &like);
    golden(
        &event,
        Some(KIM),
        Some(&format!(
            r#"{{"receiver":"{KIM}","topic":"likeWithdrawn","data":{{"liker":"{LEE}","date":2023090513248392}}}}"#
        )),
        &[],
    );
    assert_eq!(event.withdrawn_like(), Ok(Some(like)));
    let nameless = NoticeRaised {
        data: serde_json::json!({ "liker": "lee" }),
        ..event
    };
    assert!(nameless.withdrawn_like().is_err());
}

#[test]
fn a_withdrawn_notice_is_named_by_its_id() {
    let id = NoticeRaised::comment_id(&account(KIM), 7);
    assert_eq!(NoticeRaised::comment_id(&account(KIM), 7), id);
    assert_ne!(NoticeRaised::comment_id(&account(KIM), 8), id);
    assert_ne!(NoticeRaised::comment_id(&account(LEE), 7), id);
    let event = NoticeRaised::withdrawn(account(KIM), id);
    golden(
        &event,
        Some(KIM),
        Some(&format!(
            r#"{{"receiver":"{KIM}","topic":"noticeWithdrawn","data":{{"notice":"{id}"}}}}"#
        )),
        &[],
    );
    assert_eq!(event.withdrawn_notice(), Ok(Some(id)));
    assert_eq!(event.withdrawn_like(), Ok(None));
    let nameless = NoticeRaised {
        data: serde_json::json!({ "notice": 7 }),
        ..event
    };
    assert!(nameless.withdrawn_notice().is_err());
}

#[test]
fn heartbeats_say_up_to_when_everything_is_published() {
    let event = RelayHeartbeat {
        service: "auth-service".into(),
        relay: "auth-service:8890:ab12".into(),
        sent_at: millis(1_700_000_000_500),
        published_until: millis(1_700_000_000_123),
    };
    golden(
        &event,
        Some("auth-service"),
        Some(
            r#"{"service":"auth-service","relay":"auth-service:8890:ab12","sentAt":1700000000500,"publishedUntil":1700000000123}"#,
        ),
        &[],
    );
}

#[test]
fn moderation() {
    let of = |action, content, report| ContentModerated {
        action,
        author: account(KIM),
        content,
        reporter: None,
        report,
    };
    golden(
        &of(
            ModerationAction::Hidden,
            ModeratedContent::Post {
                date: 2_023_090_513_248_392,
            },
            None,
        ),
        Some(KIM),
        Some(&format!(
            r#"{{"action":"hidden","author":"{KIM}","kind":"post","date":2023090513248392}}"#
        )),
        &[],
    );
    golden(
        &of(
            ModerationAction::Reported,
            ModeratedContent::Comment { comment: 7 },
            Some(3),
        ),
        Some(KIM),
        Some(&format!(
            r#"{{"action":"reported","author":"{KIM}","kind":"comment","comment":7,"report":3}}"#
        )),
        &[],
    );
    let message = || ModeratedContent::Message { message: "0189".into() };
    golden(
        &ContentModerated {
            reporter: Some(account(LEE)),
            ..of(ModerationAction::Reported, message(), Some(3))
        },
        Some(KIM),
        Some(&format!(
            r#"{{"action":"reported","author":"{KIM}","kind":"message","message":"0189","reporter":"{LEE}","report":3}}"#
        )),
        &[],
    );
    golden(
        &of(ModerationAction::Closed, message(), Some(3)),
        Some(KIM),
        Some(&format!(
            r#"{{"action":"closed","author":"{KIM}","kind":"message","message":"0189","report":3}}"#
        )),
        &[],
    );
}

#[test]
fn moderation_applied() {
    let order: EventId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    golden(
        &ModerationApplied {
            author: account(KIM),
            service: "feed-service".into(),
            order,
            decision: None,
            outcome: None,
        },
        Some(KIM),
        Some(&format!(
            r#"{{"author":"{KIM}","service":"feed-service","order":"{order}"}}"#
        )),
        &[],
    );
    golden(
        &ModerationApplied {
            author: account(KIM),
            service: "feed-service".into(),
            order,
            decision: Some(ReviewDecision {
                moderator: account(LEE),
                accepted: true,
                content: ModeratedContent::Comment { comment: 7 },
            }),
            outcome: None,
        },
        Some(KIM),
        Some(&format!(
            r#"{{"author":"{KIM}","service":"feed-service","order":"{order}","decision":{{"moderator":"{LEE}","accepted":true,"kind":"comment","comment":7}}}}"#
        )),
        &[],
    );
    for outcome in [
        ModerationOutcome::Applied,
        ModerationOutcome::NotFound,
        ModerationOutcome::Superseded,
    ] {
        let name = outcome.as_str();
        golden(
            &ModerationApplied {
                author: account(KIM),
                service: "dm-service".into(),
                order,
                decision: None,
                outcome: Some(outcome),
            },
            Some(KIM),
            Some(&format!(
                r#"{{"author":"{KIM}","service":"dm-service","order":"{order}","outcome":"{name}"}}"#
            )),
            &[],
        );
        assert_eq!(name.parse(), Ok(outcome));
    }
}

#[test]
fn socket_frame() {
    let frame = r#"{"topic":"typing","data":{"sender":"별이"}}"#;
    let event = SocketFrameSent {
        account: account(LEE),
        frame: frame.into(),
    };
    golden(&event, Some(LEE), Some(frame), &[]);
    assert!(spring::<SocketFrameSent>("no account", Some(frame)).is_err());
}

#[test]
fn message_change() {
    for (change, name) in [
        (MessageChange::Retracted, "retracted"),
        (MessageChange::Edited, "edited"),
        (MessageChange::Reacted, "reacted"),
    ] {
        let event = MessageChanged {
            message: "m-1".into(),
            sender: account(KIM),
            receiver: account(LEE),
            change,
        };
        let value = format!(r#"{{"message":"m-1","sender":"{KIM}","receiver":"{LEE}","change":"{name}"}}"#);
        golden(&event, Some(LEE), Some(&value), &[]);
    }
}

#[test]
fn message_request() {
    for (change, name) in [
        (RequestChange::Asked, "asked"),
        (RequestChange::Accepted, "accepted"),
        (RequestChange::Refused, "refused"),
    ] {
        let mut event = MessageRequestChanged {
            request: "r-1".into(),
            change,
            asker: account(KIM),
            receiver: account(LEE),
            message: None,
            socket: None,
        };
        let value = format!(r#"{{"request":"r-1","change":"{name}","asker":"{KIM}","receiver":"{LEE}"}}"#);
        golden(&event, Some(LEE), Some(&value), &[]);
        event.message = Some("m-1".into());
        event.socket = Some(7);
        let value = format!("{},\"message\":\"m-1\",\"socket\":7}}", value.trim_end_matches('}'));
        golden(&event, Some(LEE), Some(&value), &[]);
    }
}

#[test]
fn room_message() {
    let mut event = RoomMessageSent {
        room: "r-1".into(),
        message: "m-1".into(),
        members: vec![account(KIM), account(LEE)],
        change: None,
        push: None,
    };
    let value = format!(r#"{{"room":"r-1","message":"m-1","members":["{KIM}","{LEE}"]}}"#);
    golden(&event, Some("r-1"), Some(&value), &[]);
    event.push = Some(RoomPush {
        sender: account(KIM),
        nickname: "별이".into(),
        room_name: "우리반".into(),
        number: 7,
        date: 2_023_090_513_248_392,
        text: "안녕".into(),
        receivers: vec![account(LEE)],
    });
    let push = format!(
        r#"{{"sender":"{KIM}","nickname":"별이","roomName":"우리반","number":7,"date":2023090513248392,"text":"안녕","receivers":["{LEE}"]}}"#
    );
    let value = format!(r#"{{"room":"r-1","message":"m-1","members":["{KIM}","{LEE}"],"push":{push}}}"#);
    golden(&event, Some("r-1"), Some(&value), &[]);
    event.push = None;
    event.change = Some(MessageChange::Edited);
    let value = format!(r#"{{"room":"r-1","message":"m-1","members":["{KIM}","{LEE}"],"change":"edited"}}"#);
    golden(&event, Some("r-1"), Some(&value), &[]);
}

#[test]
fn message_receipt() {
    let shown = MessageReceipt {
        reader: account(LEE),
        progress: ReceiptProgress::Shown {
            messages: vec!["m-1".into(), "m-2".into()],
        },
    };
    let value = format!(r#"{{"reader":"{LEE}","state":"shown","messages":["m-1","m-2"]}}"#);
    golden(&shown, Some(LEE), Some(&value), &[]);
    let read = MessageReceipt {
        reader: account(LEE),
        progress: ReceiptProgress::Read {
            sender: account(KIM),
            message: "m-2".into(),
        },
    };
    let value = format!(r#"{{"reader":"{LEE}","state":"read","sender":"{KIM}","message":"m-2"}}"#);
    golden(&read, Some(LEE), Some(&value), &[]);
    let read = MessageReceipt {
        reader: account(LEE),
        progress: ReceiptProgress::ReadRoom {
            room: "r-1".into(),
            number: 7,
        },
    };
    let value = format!(r#"{{"reader":"{LEE}","state":"readRoom","room":"r-1","number":7}}"#);
    golden(&read, Some(LEE), Some(&value), &[]);
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"reader":"lee@example.com+apple"}"#,
        r#"{"reader":"lee@example.com+apple","state":"eaten"}"#,
    ] {
        assert!(spring::<MessageReceipt>(LEE, Some(wrong)).is_err(), "{wrong}");
    }
}
