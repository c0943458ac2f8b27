//! Targets "bgp-messages" (one message, decoded as every kind of peer might have meant it, and encoded again) and "bgp-session" (a program
//! of events with messages of its own, lived through by a session and the routing base).

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use anyhow::{Context as _, Result, ensure};
use erdp::bgp::{
    PathAttributes, PathId, Update,
    wire::{self, Context, HEADER_BYTES, Message},
};
use ipnet::IpNet;

use super::{Octets, must};
use crate::hostile::{corpus::Corpus, events, messages};

const MARKER: [u8; 16] = [0xff; 16];
/// Programs are as long as those of the committed corpus.
const STEPS_BYTES: usize = 180;
/// Messages of a program's own.
const OWN_MOST: u8 = 8;

/// A message; what does not begin with a marker is the type and the body of one.
pub fn messages(bytes: &[u8]) {
    let message = if bytes.starts_with(&MARKER) { bytes.to_vec() } else { framed(bytes) };
    must(messages::check(&message).map(drop));
    for context in messages::contexts() {
        must(again(&message, &context).with_context(|| format!("{context:?}")));
    }
}

/// Type and body with marker and length before them.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let most = usize::from(u16::MAX) - HEADER_BYTES + 1;
    let bytes = &bytes[..bytes.len().min(most)];
    let (kind, body) = bytes.split_first().unwrap_or((&0, &[]));
    let mut message = MARKER.to_vec();
    message.extend_from_slice(&((HEADER_BYTES + body.len()) as u16).to_be_bytes());
    message.push(*kind);
    message.extend_from_slice(body);
    message
}

/// What updates mean together: for each path and prefix its attributes, or that it is withdrawn.
type Meaning<'a> = BTreeMap<(Option<PathId>, IpNet), Option<&'a PathAttributes>>;

fn meaning(updates: &[Update]) -> Meaning<'_> {
    let mut meaning = Meaning::new();
    for update in updates {
        meaning.extend(update.withdrawn.iter().map(|prefix| ((update.path, *prefix), None)));
        let attributes = update.attributes.as_deref();
        meaning.extend(update.announced.iter().map(|prefix| ((update.path, *prefix), attributes)));
    }
    meaning
}

/// What was understood is encoded whole or refused as too long; what is encoded is understood without a fault, and as the same.
fn again(message: &[u8], context: &Context) -> Result<()> {
    let context = &Context { add_path: Vec::new(), ..context.clone() };
    let Ok(Some(length)) = wire::message_length(message) else { return Ok(()) };
    let Some(message) = message.get(..length) else { return Ok(()) };
    let Ok(Message::Update(decoded)) = wire::decode(message, context) else { return Ok(()) };
    for mut update in decoded.updates {
        // RFC 4271 section 5.1.5: an internal peer is sent a preference, which is 100 where the route has none.
        if let Some(attributes) = update.attributes.as_mut().filter(|_| context.internal) {
            Arc::make_mut(attributes).local_pref.get_or_insert(100);
        }
        // The next hop of the other family would be ours, and here there is none.
        let does_fit = |prefix: &IpNet| {
            let attributes = update.attributes.as_deref();
            attributes.is_some_and(|attributes| wire::fits(attributes, prefix, context))
        };
        let fits = update.announced.iter().all(does_fit);
        let encoded = wire::encode_update(&update, context);
        ensure!(fits == encoded.is_ok(), "fits: {fits}, but {encoded:?} of {update:?}");
        let Ok(encoded) = encoded else { continue };
        let mut read = Vec::new();
        for message in &encoded {
            ensure!(message.len() <= context.max_message_bytes(), "{} octets", message.len());
            match wire::decode(message, context) {
                Ok(Message::Update(decoded)) => {
                    ensure!(decoded.faults.is_empty(), "{:?} in what {update:?} became", decoded.faults);
                    read.extend(decoded.updates);
                }
                other => anyhow::bail!("{update:?} has become {other:?}"),
            }
        }
        let before = [update];
        ensure!(meaning(&before) == meaning(&read), "{before:?} has become {read:?}");
    }
    Ok(())
}

/// A number of messages (type and body, their length before them), and then steps that name them or those of the corpus.
pub fn session(bytes: &[u8]) {
    let mut octets = Octets(bytes);
    let own = octets.octet() % (OWN_MOST + 1);
    let mut known = seeds().to_vec();
    for _ in 0..own {
        let length = usize::from(octets.word() % 2_048);
        known.push(framed(&octets.take(length)));
    }
    must(events::check(&octets.take(STEPS_BYTES), &known).map(drop));
}

/// What makes a session: KEEPALIVE, OPEN and UPDATE of the corpus.
fn seeds() -> &'static [Vec<u8>] {
    const SEEDS: usize = 24;
    static MESSAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let corpus = Corpus::load("messages").map(|corpus| corpus.inputs);
        let mut messages = corpus.unwrap_or_else(|error| panic!("{error:#}"));
        messages.truncate(SEEDS);
        messages
    })
}
