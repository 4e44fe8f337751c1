use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::frame::{self, Control, HEAD, Kind, MAX_CONTROL, Malformed, Reader, Writer};
use super::{Stream, serve};

/// What Go's `spdystream` 0.5.1, which kubectl and the API server use, sends for: a stream of errors, which it ends; one
/// of data with `hello`, a ping, and its end; one more that is given up; good-bye.
const CLIENT: &str = "\
    800300010000003e0000000100000000000078f9e3c6a7c202253a060606ce2248fc6482d22da30138e59514a526e6420b17d65450d0430a\
    ea22709eb030b03000000000ffff0000000101000000800300010000001c00000003000000000000826a46550a2a8712b1a844b302000000\
    ffff000000030000000568656c6c6f8003000600000004000000010000000301000000800300010000001300000005000000000000a240af\
    21000000ffff8003000300000008000000050000000580030007000000080000000000000000";
/// What it answers as a server that sends back what it is told.
const SERVER: &str = "\
    80030002000000140000000178f9e3c6a7c26260606000000000ffff00000001000000000000000101000000800300020000000c00000003\
    026100000000ffff800300060000000400000001000000030000000568656c6c6f0000000301000000800300020000000c00000005026100\
    000000ffff0000000500000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap();
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::try_from(digit(pair[0]) << 4 | digit(pair[1])).unwrap())
        .collect()
}

/// What bytes say, until they are none any more or malformed.
fn read(mut bytes: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut reader = Reader::default();
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(HEAD) {
        let head = frame::head(head.try_into().unwrap())?;
        let (content, rest) = rest.split_at_checked(head.length).ok_or(Malformed::Short)?;
        bytes = rest;
        all.push(match head.kind {
            Kind::Data(stream) => format!("{stream}: {:?} {}", Bytes::copy_from_slice(content), head.last),
            Kind::Control(kind) => format!("{:?}", reader.control(kind, content)?),
        });
    }
    Ok(all)
}

fn begins(stream: u32, kind: &str, request: &str) -> String {
    let headers = [("port", "8080"), ("requestid", request), ("streamtype", kind)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // Go's maps have no order.
    let [port, request, kind] = headers;
    format!(
        "{:?}",
        Control::Begin {
            stream,
            headers: vec![kind, port, request]
        }
    )
}

fn sorted(all: Vec<String>) -> Vec<String> {
    let sorted = |frame: String| {
        let mut parts: Vec<&str> = frame.split("), (").collect();
        parts.sort_unstable();
        let mut characters: Vec<char> = frame.chars().collect();
        characters.sort_unstable();
        (frame.starts_with("Begin"), characters, frame.clone())
    };
    all.into_iter()
        .map(sorted)
        .map(|(begins, characters, frame)| {
            if begins {
                characters.into_iter().collect()
            } else {
                frame
            }
        })
        .collect()
}

#[test]
fn what_the_real_one_sends_is_read() {
    let expected = vec![
        begins(1, "error", "0"),
        "1: b\"\" true".to_owned(),
        begins(3, "data", "0"),
        "3: b\"hello\" false".to_owned(),
        "Ping(1)".to_owned(),
        "3: b\"\" true".to_owned(),
        begins(5, "data", "1"),
        "Reset { stream: 5 }".to_owned(),
        "GoAway".to_owned(),
    ];
    assert_eq!(sorted(read(&bytes(CLIENT)).unwrap()), sorted(expected));
    let expected = [
        "Reply { stream: 1 }",
        "1: b\"\" false",
        "1: b\"\" true",
        "Reply { stream: 3 }",
        "Ping(1)",
        "3: b\"hello\" false",
        "3: b\"\" true",
        "Reply { stream: 5 }",
        "5: b\"\" false",
    ];
    assert_eq!(read(&bytes(SERVER)).unwrap(), expected);
}

#[test]
fn what_is_written_is_read() {
    let mut writer = Writer::new().unwrap();
    let mut all = writer
        .begin(1, &[("streamtype", "error"), ("port", "8080")])
        .unwrap();
    all.extend(writer.reply(2).unwrap());
    all.extend(frame::data(2, 3, true).unwrap());
    all.extend(b"abc");
    all.extend(
        writer
            .begin(3, &[("streamtype", "data"), ("port", "8080")])
            .unwrap(),
    );
    all.extend(frame::reset(3, 1).unwrap());
    all.extend(frame::ping(7).unwrap());
    all.extend(frame::go_away(3).unwrap());
    let expected = [
        "Begin { stream: 1, headers: [(\"streamtype\", \"error\"), (\"port\", \"8080\")] }",
        "Reply { stream: 2 }",
        "2: b\"abc\" true",
        "Begin { stream: 3, headers: [(\"streamtype\", \"data\"), (\"port\", \"8080\")] }",
        "Reset { stream: 3 }",
        "Ping(7)",
        "GoAway",
    ];
    assert_eq!(read(&all).unwrap(), expected);
}

#[test]
fn what_is_malformed_or_too_much() {
    assert_eq!(frame::head([0x80, 2, 0, 1, 0, 0, 0, 0]), Err(Malformed::Version));
    assert_eq!(frame::head(*b"GET / HT").unwrap().kind, Kind::Data(0x4745_5420));
    let long = u32::try_from(MAX_CONTROL + 1).unwrap().to_be_bytes();
    assert_eq!(
        frame::head([0x80, 3, 0, 1, 0, long[1], long[2], long[3]]),
        Err(Malformed::Large)
    );
    // Few bytes that stand for many.
    let bomb = "x".repeat(1 << 20);
    let packed = Writer::new().unwrap().begin(1, &[("a", &bomb)]).unwrap();
    assert!(packed.len() < MAX_CONTROL);
    assert_eq!(read(&packed), Err(Malformed::Large));
    let many = vec![("a", "b"); 1000];
    let packed = Writer::new().unwrap().begin(1, &many).unwrap();
    assert_eq!(read(&packed), Err(Malformed::Large));
    // Headers that are not packed, or say that they are longer than they are.
    assert_eq!(Reader::default().control(1, &[0; 10]), Err(Malformed::Short));
    assert_eq!(Reader::default().control(1, &[0; 30]), Err(Malformed::Headers));
    let real = bytes(CLIENT);
    for cut in 0..70 {
        assert!(
            read(&real[..cut]).is_ok_and(|all| all.is_empty()) || read(&real[..cut]).is_err() || cut == 70
        );
    }
}

/// A connection to the server, and the streams that it is told of.
fn connection() -> (DuplexStream, mpsc::Receiver<Stream>) {
    let (ours, theirs) = duplex(1 << 20);
    let (begun, streams) = mpsc::channel(16);
    tokio::spawn(serve(theirs, begun));
    (ours, streams)
}

#[tokio::test(start_paused = true)]
async fn a_conversation_with_the_real_one() {
    let (mut ours, mut streams) = connection();
    ours.write_all(&bytes(CLIENT)).await.unwrap();
    let mut error = streams.recv().await.unwrap();
    assert_eq!(
        (
            error.header("streamtype"),
            error.header("port"),
            error.header("none")
        ),
        ("error", "8080", "")
    );
    assert_eq!(error.source.recv().await, None);
    let mut data = streams.recv().await.unwrap();
    assert_eq!(data.header("streamtype"), "data");
    assert_eq!(data.source.recv().await.unwrap(), "hello");
    assert_eq!(data.source.recv().await, None);
    let mut reset = streams.recv().await.unwrap();
    assert_eq!(reset.source.recv().await, None);
    assert!(streams.recv().await.is_none());

    // The other side said good-bye: so does this one, and closes.
    let mut said = Vec::new();
    ours.read_to_end(&mut said).await.unwrap();
    let said = read(&said).unwrap();
    let expected = [
        "Reply { stream: 1 }",
        "Reply { stream: 3 }",
        "Ping(1)",
        "Reply { stream: 5 }",
        "GoAway",
    ];
    assert_eq!(said, expected);
    assert!(data.sink.send(Bytes::from_static(b"late")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn streams_go_both_ways_and_end_in_order() {
    let (mut ours, mut streams) = connection();
    let mut writer = Writer::new().unwrap();
    ours.write_all(&writer.begin(1, &[("a", "b")]).unwrap())
        .await
        .unwrap();
    let stream = streams.recv().await.unwrap();
    let long = Bytes::from(vec![7; 100_000]);
    stream.sink.send(long.clone()).await.unwrap();
    stream.sink.end().await;
    drop(streams);
    let mut said = Vec::new();
    ours.read_to_end(&mut said).await.unwrap();
    let mut rest = said.as_slice();
    let mut data = Vec::new();
    let mut last = false;
    while let Some((head, after)) = rest.split_at_checked(HEAD) {
        let head = frame::head(head.try_into().unwrap()).unwrap();
        let (content, after) = after.split_at(head.length);
        if head.kind == Kind::Data(1) {
            assert!(!last);
            data.extend_from_slice(content);
            last = head.last;
        }
        rest = after;
    }
    assert!(last && data == long);
}

#[tokio::test(start_paused = true)]
async fn who_breaks_the_rules_is_told_so() {
    let (mut ours, mut streams) = connection();
    let mut writer = Writer::new().unwrap();
    // An even number, one that came before, and data for nobody.
    for number in [2, 5, 5, 3] {
        ours.write_all(&writer.begin(number, &[("a", "b")]).unwrap())
            .await
            .unwrap();
    }
    ours.write_all(&frame::data(99, 3, true).unwrap()).await.unwrap();
    ours.write_all(b"abc").await.unwrap();
    let only = streams.recv().await.unwrap();
    // More streams than anybody needs.
    let mut held = vec![only];
    for number in 0..300 {
        ours.write_all(&writer.begin(7 + 2 * number, &[("a", "b")]).unwrap())
            .await
            .unwrap();
        if let Ok(stream) = streams.try_recv() {
            held.push(stream);
        }
        tokio::task::yield_now().await;
    }
    while let Ok(Some(stream)) = tokio::time::timeout(std::time::Duration::from_secs(1), streams.recv()).await
    {
        held.push(stream);
    }
    assert_eq!(held.len(), 256);
    drop(streams);
    let mut said = Vec::new();
    ours.read_to_end(&mut said).await.unwrap();
    let said = read(&said).unwrap();
    assert_eq!(
        said[..4],
        [
            "Reset { stream: 2 }",
            "Reply { stream: 5 }",
            "Reset { stream: 5 }",
            "Reset { stream: 3 }"
        ]
    );
    assert_eq!(
        said.iter().filter(|frame| frame.starts_with("Reset")).count(),
        3 + 301 - 256
    );
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(
        random in proptest::collection::vec(any::<u8>(), 0..300),
        flips in proptest::collection::vec((0usize..160, any::<u8>()), 1..6),
    ) {
        let mut near = bytes(CLIENT);
        for (at, byte) in flips {
            near[at] = byte;
        }
        for bytes in [random, near] {
            let _ = read(&bytes);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (mut ours, mut streams) = connection();
                ours.write_all(&bytes).await.unwrap();
                ours.shutdown().await.unwrap();
                // It ends, whatever it was.
                while streams.recv().await.is_some() {}
            });
        }
    }
}
