use hex_literal::hex;
use proptest::prelude::*;

use super::*;

fn decode(first: &[u8]) -> Result<Message, DecodeError> {
    Message::decode(vec![Bytes::copy_from_slice(first)])
}

fn fault(first: &[u8]) -> Fault {
    match decode(first) {
        Err(DecodeError::Malformed { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

fn too_long(field: &'static str, len: usize, max: usize) -> LimitError {
    LimitError::TooLong { field, len, max }
}

fn too_many(field: &'static str, count: usize, max: usize) -> LimitError {
    LimitError::TooMany { field, count, max }
}

fn text(len: usize) -> Text {
    Bytes::from(vec![b'x'; len]).into()
}

/// Frames with the bytes that zyre's encoder would write, limits or not.
fn hello_frame(groups: &[usize], headers: &[(usize, usize)]) -> Vec<u8> {
    let mut frame = hex!("aaa1 01 02 0001 00").to_vec();
    frame.put_u32(groups.len() as u32);
    for len in groups {
        frame.put_u32(*len as u32);
        frame.put_bytes(b'g', *len);
    }
    frame.put_slice(&[0, 0]);
    frame.put_u32(headers.len() as u32);
    for (key, value) in headers {
        frame.put_u8(*key as u8);
        frame.put_bytes(b'k', *key);
        frame.put_u32(*value as u32);
        frame.put_bytes(b'v', *value);
    }
    frame
}

fn hello(groups: &[usize], headers: &[(usize, usize)]) -> Body {
    Body::Hello(Hello {
        groups: groups.iter().map(|len| text(*len)).collect(),
        headers: headers
            .iter()
            .enumerate()
            .map(|(index, (key, value))| (Text::from(format!("{index:0key$}")), text(*value)))
            .collect(),
        ..Hello::default()
    })
}

#[test]
fn every_command_has_the_bytes_of_the_specification() {
    let group = Text::from_static("CHAT");
    let id = Text::from_static("101112131415161718191A1B1C1D1E1F");
    // RFC 36's layout and zyre 2.0.1's `zre_msg`; ELECT, LEADER and GOODBYE are zyre's own.
    for (sequence, body, golden) in [
        (
            1,
            Body::Hello(Hello {
                endpoint: "tcp://192.168.1.10:49152".into(),
                groups: vec!["CHAT".into(), "GLOBAL".into()],
                status: 2,
                name: "node1".into(),
                headers: [("X-HELLO".into(), "World".into())].into(),
            }),
            &hex!(
                "aaa101020001 18 7463703a2f2f3139322e3136382e312e31303a3439313532"
                "00000002 00000004 43484154 00000006 474c4f42414c 02 05 6e6f646531"
                "00000001 07 582d48454c4c4f 00000005 576f726c64"
            )[..],
        ),
        (
            1,
            Body::Hello(Hello {
                endpoint: "tcp://10.0.0.1:49152".into(),
                name: "n".into(),
                ..Hello::default()
            }),
            &hex!("aaa101020001 14 7463703a2f2f31302e302e302e313a3439313532 00000000 00 01 6e 00000000"),
        ),
        (2, Body::Whisper { content: vec!["x".into()] }, &hex!("aaa102020002")),
        (
            3,
            Body::Shout { group: group.clone(), content: vec!["x".into()] },
            &hex!("aaa103020003 04 43484154"),
        ),
        (4, Body::Join { group: group.clone(), status: 3 }, &hex!("aaa104020004 04 43484154 03")),
        (5, Body::Leave { group: group.clone(), status: 4 }, &hex!("aaa105020005 04 43484154 04")),
        (6, Body::Ping, &hex!("aaa106020006")),
        (7, Body::PingOk, &hex!("aaa107020007")),
        (
            8,
            Body::Elect { group: group.clone(), challenger: id.clone() },
            &hex!(
                "aaa108020008 04 43484154"
                "20 3130313131323133313431353136313731383139314131423143314431453146"
            ),
        ),
        (
            9,
            Body::Leader { group, leader: id },
            &hex!(
                "aaa109020009 04 43484154"
                "20 3130313131323133313431353136313731383139314131423143314431453146"
            ),
        ),
        (10, Body::Goodbye, &hex!("aaa10a02000a")),
    ] {
        let message = Message { sequence, body };
        let frames = message.encode().unwrap();
        assert_eq!(frames[0], golden);
        assert_eq!(frames[0].len(), message.body.first_len());
        assert_eq!(Message::decode(frames), Ok(message));
    }
}

#[test]
fn content_is_never_without_frames() {
    for body in [Body::Whisper { content: vec![] }, Body::Shout { group: "g".into(), content: vec![] }] {
        let frames = body.encode(1).unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[1], "");
        let whole = Message::decode(frames.clone()).unwrap();
        assert_eq!(Message::decode(frames[..1].to_vec()).unwrap(), whole);
        let (Body::Whisper { content } | Body::Shout { content, .. }) = whole.body else { panic!() };
        assert_eq!(content, [""]);
    }
}

#[test]
fn peers_share_content_and_text_is_sliced() {
    let content = vec![Bytes::from_static(b"part1"), Bytes::new(), Bytes::from_static(b"part3")];
    let shout = Body::Shout { group: "CHAT".into(), content: content.clone() };
    let (one, other) = (shout.encode(1).unwrap(), shout.encode(7).unwrap());
    assert_eq!(one[1..], content);
    assert_eq!(one[1].as_ptr(), other[1].as_ptr());
    assert_ne!(one[0], other[0]);

    let first = one[0].clone();
    let Body::Shout { group, .. } = Message::decode(one).unwrap().body else { panic!() };
    assert_eq!(group.as_bytes().as_ptr(), first[7..].as_ptr());
}

#[test]
fn bytes_after_the_last_field_and_frames_too_many_are_ignored() {
    let ping = Message { sequence: 6, body: Body::Ping };
    assert_eq!(decode(&hex!("aaa106020006 ff ff")).as_ref(), Ok(&ping));
    assert_eq!(Message::decode(vec![Bytes::from_static(&hex!("aaa106020006")), "extra".into()]), Ok(ping));
}

#[test]
fn the_last_of_two_equal_header_keys_counts() {
    let frame = hex!("aaa101020001 00 00000000 00 00 00000002 01 4b 00000001 61 01 4b 00000001 62");
    let Body::Hello(hello) = decode(&frame).unwrap().body else { panic!() };
    assert_eq!(hello.headers, [("K".into(), "b".into())].into());
}

#[test]
fn a_first_frame_that_is_not_zre_is_refused_with_its_reason() {
    assert_eq!(Message::decode(vec![]), Err(DecodeError::Header { len: 0 }));
    assert_eq!(decode(b""), Err(DecodeError::Header { len: 0 }));
    assert_eq!(decode(&hex!("aaa1060200")), Err(DecodeError::Header { len: 5 }));
    // zgossip's HELLO.
    assert_eq!(decode(&hex!("aaa00101")), Err(DecodeError::Signature { signature: 0xaaa0 }));
    assert_eq!(decode(&hex!("aaa106010001")), Err(DecodeError::Version { version: 1 }));
    assert_eq!(decode(&hex!("aaa106030001")), Err(DecodeError::Version { version: 3 }));
}

#[test]
fn an_unknown_message_still_has_a_number() {
    for id in [0, 11, 99, 255] {
        let frame = [0xaa, 0xa1, id, 2, 0x12, 0x34, 0xff];
        assert_eq!(decode(&frame), Err(DecodeError::UnknownId { id, sequence: 0x1234 }));
    }
}

#[test]
fn a_field_that_is_cut_is_named() {
    let cut = |frame: &[u8]| {
        let Fault::Cut { field } = fault(frame) else { panic!("{frame:02x?}") };
        field
    };
    assert_eq!(cut(&hex!("aaa103020003")), "group");
    assert_eq!(cut(&hex!("aaa103020003 04 434841")), "group");
    assert_eq!(cut(&hex!("aaa104020004 04 43484154")), "status");
    assert_eq!(cut(&hex!("aaa108020008 00 20 30")), "challenger");
    assert_eq!(cut(&hex!("aaa109020009 00")), "leader");
    // Every way to cut a HELLO.
    let hello = hello_frame(&[4], &[(3, 2)]);
    let fields: Vec<&str> = (6..hello.len()).map(|len| cut(&hello[..len])).collect();
    let expected = [(1, "endpoint"), (4, "groups"), (8, "group"), (1, "status"), (1, "name")];
    let expected = expected.into_iter().chain([(4, "headers"), (4, "header key"), (6, "header value")]);
    assert_eq!(fields, expected.flat_map(|(count, field)| vec![field; count]).collect::<Vec<_>>());
}

#[test]
fn malformed_messages_tell_their_number() {
    let fault = Fault::Cut { field: "group" };
    assert_eq!(decode(&hex!("aaa105021234")), Err(DecodeError::Malformed { id: 5, sequence: 0x1234, fault }));
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it_in_both_directions() {
    // (groups, headers as lengths of key and value, and what is over the limit)
    for (groups, headers, error) in [
        (vec![TEXT_MAX], vec![], None),
        (vec![TEXT_MAX + 1], vec![], Some(too_long("group", 256, TEXT_MAX))),
        (vec![1; GROUPS_MAX], vec![], None),
        (vec![1; GROUPS_MAX + 1], vec![], Some(too_many("groups", 1025, GROUPS_MAX))),
        (vec![], vec![(TEXT_MAX, HEADER_VALUE_MAX)], None),
        (vec![], vec![(1, HEADER_VALUE_MAX + 1)], Some(too_long("header value", 16385, HEADER_VALUE_MAX))),
        (vec![], vec![(3, 1); HEADERS_MAX], None),
        (vec![], vec![(3, 1); HEADERS_MAX + 1], Some(too_many("headers", 257, HEADERS_MAX))),
    ] {
        let encoded = hello(&groups, &headers).encode(1);
        let decoded = decode(&hello_frame(&groups, &headers));
        match error {
            None => {
                assert!(decoded.is_ok(), "{decoded:?}");
                assert_eq!(Message::decode(encoded.unwrap()).unwrap().body, hello(&groups, &headers));
            }
            Some(error) => {
                assert_eq!(encoded, Err(error));
                let fault = Fault::Limit(error);
                assert_eq!(decoded, Err(DecodeError::Malformed { id: 1, sequence: 1, fault }));
            }
        }
    }
}

#[test]
fn a_first_frame_is_limited_as_a_whole() {
    // 17 bytes for what every HELLO has, 8 for each header with a key of 3 bytes.
    let fill = HEADER_FRAME_MAX - 17 - 5 * 8;
    let values = |last: usize| [(3, 14000), (3, 14000), (3, 14000), (3, 14000), (3, fill - 56000 + last)];
    let frame = hello_frame(&[], &values(0));
    assert_eq!(frame.len(), HEADER_FRAME_MAX);
    assert!(decode(&frame).is_ok());
    assert_eq!(hello(&[], &values(0)).encode(1).unwrap()[0].len(), HEADER_FRAME_MAX);

    let error = too_long("first frame", HEADER_FRAME_MAX + 1, HEADER_FRAME_MAX);
    assert_eq!(fault(&hello_frame(&[], &values(1))), Fault::Limit(error));
    assert_eq!(hello(&[], &values(1)).encode(1), Err(error));
    // Bytes after the last field count.
    let mut ping = hex!("aaa106020006").to_vec();
    ping.resize(HEADER_FRAME_MAX + 1, 0);
    assert_eq!(fault(&ping), Fault::Limit(error));
}

#[test]
fn short_fields_have_255_bytes_at_most() {
    for (field, body) in [
        ("endpoint", (|text| Body::Hello(Hello { endpoint: text, ..Hello::default() })) as fn(Text) -> Body),
        ("name", |text| Body::Hello(Hello { name: text, ..Hello::default() })),
        ("header key", |text| {
            Body::Hello(Hello { headers: [(text, Text::default())].into(), ..Hello::default() })
        }),
        ("group", |group| Body::Shout { group, content: vec![] }),
        ("group", |group| Body::Join { group, status: 0 }),
        ("group", |group| Body::Leave { group, status: 0 }),
        ("group", |group| Body::Elect { group, challenger: Text::default() }),
        ("challenger", |challenger| Body::Elect { group: Text::default(), challenger }),
        ("leader", |leader| Body::Leader { group: Text::default(), leader }),
    ] {
        let frames = body(text(255)).encode(1).unwrap();
        assert_eq!(Message::decode(frames).unwrap().body.first_len(), body(text(255)).first_len());
        assert_eq!(body(text(256)).encode(1), Err(too_long(field, 256, 255)));
    }
}

#[test]
fn counts_from_strangers_take_no_memory() {
    let frame = hex!("aaa101020001 00 ffffffff");
    let max = Fault::Limit(too_many("groups", u32::MAX as usize, GROUPS_MAX));
    assert_eq!(fault(&frame), max);
    let frame = hex!("aaa101020001 00 00000001 ffffffff");
    assert_eq!(fault(&frame), Fault::Limit(too_long("group", u32::MAX as usize, TEXT_MAX)));
}

#[test]
fn content_is_limited_in_frames_and_bytes() {
    let shout = |content: Vec<Bytes>| Body::Shout { group: "g".into(), content };
    let frames = |count: usize| vec![Bytes::from_static(b"x"); count];
    assert!(shout(frames(CONTENT_FRAMES_MAX)).encode(1).is_ok());
    let error = too_many("frames of content", CONTENT_FRAMES_MAX + 1, CONTENT_FRAMES_MAX);
    assert_eq!(shout(frames(CONTENT_FRAMES_MAX + 1)).encode(1), Err(error));

    let first = shout(vec![]).encode_first(1).unwrap();
    let received = |count| Message::decode([vec![first.clone()], frames(count)].concat());
    assert!(received(CONTENT_FRAMES_MAX).is_ok());
    let fault = Fault::Limit(error);
    assert_eq!(received(CONTENT_FRAMES_MAX + 1), Err(DecodeError::Malformed { id: 3, sequence: 1, fault }));

    let bytes = |len: usize| shout(vec![vec![0; len].into()]);
    let room = MESSAGE_BYTES_MAX - first.len();
    assert!(Message::decode(bytes(room).encode(1).unwrap()).is_ok());
    let error = too_long("message", MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX);
    assert_eq!(bytes(room + 1).encode(1), Err(error));
    let received = Message::decode(vec![first, vec![0; room + 1].into()]);
    assert_eq!(received, Err(DecodeError::Malformed { id: 3, sequence: 1, fault: Fault::Limit(error) }));
}

fn any_text(max: usize) -> impl Strategy<Value = Text> {
    proptest::collection::vec(any::<u8>(), 0..=max).prop_map(|bytes| Bytes::from(bytes).into())
}

fn any_body() -> impl Strategy<Value = Body> {
    let content = || {
        let frame = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        proptest::collection::vec(frame, 1..4)
    };
    let hello = (
        any_text(255),
        proptest::collection::vec(any_text(255), 0..4),
        any::<u8>(),
        any_text(255),
        proptest::collection::btree_map(any_text(255), any_text(300), 0..4),
    );
    prop_oneof![
        hello.prop_map(|(endpoint, groups, status, name, headers)| {
            Body::Hello(Hello { endpoint, groups, status, name, headers })
        }),
        content().prop_map(|content| Body::Whisper { content }),
        (any_text(255), content()).prop_map(|(group, content)| Body::Shout { group, content }),
        (any_text(255), any::<u8>()).prop_map(|(group, status)| Body::Join { group, status }),
        (any_text(255), any::<u8>()).prop_map(|(group, status)| Body::Leave { group, status }),
        Just(Body::Ping),
        Just(Body::PingOk),
        (any_text(255), any_text(255)).prop_map(|(group, challenger)| Body::Elect { group, challenger }),
        (any_text(255), any_text(255)).prop_map(|(group, leader)| Body::Leader { group, leader }),
        Just(Body::Goodbye),
    ]
}

proptest! {
    #[test]
    fn every_message_comes_back(sequence: u16, body in any_body()) {
        let message = Message { sequence, body };
        let frames = message.encode().unwrap();
        prop_assert_eq!(frames[0].len(), message.body.first_len());
        prop_assert_eq!(Message::decode(frames), Ok(message));
    }

    #[test]
    fn no_frames_are_a_panic(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4),
        id: u8,
        fields in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let _ = Message::decode(frames.into_iter().map(Bytes::from).collect());
        let _ = decode(&[&[0xaa, 0xa1, id % 12, 2, 0, 1], &fields[..]].concat());
    }

    #[test]
    fn a_broken_message_is_an_error_or_another_message(
        body in any_body(), at: prop::sample::Index, flip: u8, cut: prop::sample::Index
    ) {
        let mut frame = body.encode_first(1).unwrap().to_vec();
        let cut = cut.index(frame.len());
        prop_assert!(decode(&frame[..cut]).is_err(), "all fields are needed");
        let at = at.index(frame.len());
        frame[at] ^= flip;
        if let Ok(message) = decode(&frame) {
            prop_assert_eq!(Message::decode(message.encode().unwrap()), Ok(message));
        }
    }
}
