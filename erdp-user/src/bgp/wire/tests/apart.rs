//! What it would cost to decode BGP in a process apart (`docs/parser-apart.md`): the same messages decoded in place, and on the far side of a
//! socket pair that gives back what it has decoded. Two threads stand for the two processes: the copies and the wake-ups are the same.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use super::*;

/// Messages that go together, as a driver reads 64 KiB at once.
const BATCH: usize = 16;

fn send(socket: &mut UnixStream, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap().to_ne_bytes();
    socket.write_all(&[&len, bytes].concat()).unwrap();
}

fn receive(socket: &mut UnixStream) -> Option<Vec<u8>> {
    let mut len = [0; 4];
    socket.read_exact(&mut len).ok()?;
    let mut bytes = vec![0; u32::from_ne_bytes(len) as usize];
    socket.read_exact(&mut bytes).unwrap();
    Some(bytes)
}

/// Messages with so many prefixes each, every one with a path of its own.
fn messages(count: u32, prefixes: u32) -> Vec<Vec<u8>> {
    let message = |at: u32| {
        let prefix = |number: u32| {
            let [_, a, b, c] = (at * prefixes + number + (1 << 20)).to_be_bytes();
            IpNet::V4(Ipv4Net::new([a, b, c, 0].into(), 24).unwrap())
        };
        let attributes = PathAttributes {
            as_path: AsPath::sequence([12_076, 65_000 + at % 500, 64_500 + at % 90]),
            communities: vec![Community(0x2f2c_0000 + at), Community(0xfde8_0001)],
            ..PathAttributes::originated([198, 18, 0, 2].into())
        };
        let announced = (0..prefixes).map(prefix).collect();
        let update = Update { announced, attributes: Some(Arc::new(attributes)), ..Update::default() };
        encode_update(&update, &context()).unwrap()
    };
    (0..count).flat_map(message).collect()
}

/// What the other side does with each batch, and how long all of them take.
fn apart(
    batches: &[Vec<Vec<u8>>],
    far: impl Fn(&[u8]) -> Vec<u8> + Send,
    mut near: impl FnMut(&[u8]),
) -> Duration {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Some(batch) = receive(&mut there) {
                send(&mut there, &far(&batch));
            }
        });
        let begin = Instant::now();
        for batch in batches {
            send(&mut here, &batch.concat());
            near(&receive(&mut here).unwrap());
        }
        let took = begin.elapsed();
        drop(here);
        took
    })
}

fn decoded(mut bytes: &[u8]) -> Vec<Update> {
    let mut updates = Vec::new();
    while let Ok(Some(len)) = message_length(bytes) {
        match decode(&bytes[..len], &context()).unwrap() {
            Message::Update(update) => updates.extend(update.updates),
            other => panic!("{other:?}"),
        }
        bytes = &bytes[len..];
    }
    updates
}

#[test]
fn what_a_process_apart_decodes_arrives_as_if_it_had_been_decoded_here() {
    for (count, prefixes) in [(3_000, 1), (3_000, 20)] {
        let all = messages(count, prefixes);
        let batches: Vec<Vec<Vec<u8>>> = all.chunks(BATCH).map(<[_]>::to_vec).collect();
        let begin = Instant::now();
        let expected: Vec<Update> = batches.iter().flat_map(|batch| decoded(&batch.concat())).collect();
        let here = begin.elapsed();
        // The floor: the bytes go there and come back, and are decoded here all the same.
        let mut again = Vec::new();
        let floor = apart(&batches, <[u8]>::to_vec, |bytes| again.extend(decoded(bytes)));
        assert_eq!(again, expected);
        // What is decoded there comes back in the form that a hand-over between processes has.
        let mut got: Vec<Update> = Vec::new();
        let json = apart(
            &batches,
            |bytes| serde_json::to_vec(&decoded(bytes)).unwrap(),
            |bytes| got.extend(serde_json::from_slice::<Vec<Update>>(bytes).unwrap()),
        );
        assert_eq!(got, expected);
        let each = |took: Duration| took.as_nanos() as f64 / all.len() as f64 / 1_000.0;
        println!(
            "{prefixes} prefixes a message: {:.1} us here, {:.1} us through a socket pair, {:.1} us decoded there and told as JSON",
            each(here),
            each(floor),
            each(json)
        );
    }
}
