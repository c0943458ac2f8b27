//! Target "messages": one byte string, decoded as every kind of peer might have meant it.

use anyhow::{Result, ensure};
use erdp::bgp::Family;
use erdp::bgp::wire::{self, Context, Message, Reaction};
use fastrand::Rng;

use super::corpus::{Corpus, kind_of, to_hex};
use super::mutate::mutate;
use super::names::{Duty, Named, duty};

/// What was agreed on with the peers that there are: as usual, internal, old, with several paths, with one family.
pub fn contexts() -> Vec<Context> {
    let (v4, v6) = (Family::Ipv4Unicast, Family::Ipv6Unicast);
    let usual = Context { four_octet_asn: true, families: vec![v4, v6], ..Context::default() };
    vec![
        usual.clone(),
        Context { internal: true, ..usual.clone() },
        Context { four_octet_asn: false, ..usual.clone() },
        Context { add_path: vec![v4, v6], ..usual.clone() },
        Context { families: vec![v4], add_path: vec![v4], ..usual },
    ]
}

/// Decodes an input in every context; the outcome in words, or what must not be.
pub fn check(input: &[u8]) -> Result<String> {
    let mut outcomes = Vec::new();
    for context in contexts() {
        let length = match wire::message_length(input) {
            Ok(Some(length)) if length <= input.len() => length,
            Ok(_) => return Ok("waits".to_owned()),
            Err(error) => return Ok(kind_of(&error.detail)),
        };
        let message = &input[..length];
        outcomes.push(match (wire::decode(message, &context), duty(message, &context)) {
            (Ok(Message::Update(decoded)), duty) => {
                let mut told = Named::new();
                for update in &decoded.updates {
                    ensure!(update.attributes.is_some() != update.announced.is_empty(), "{update:?}");
                    let path = update.path.map(|path| path.0);
                    told.extend(
                        update.withdrawn.iter().chain(&update.announced).map(|it| (path, it.trunc())),
                    );
                }
                if let Duty::Keep(named) = duty {
                    ensure!(told == named, "told {told:?}, named {named:?}, in {context:?}");
                }
                let faults = decoded.faults.iter().map(|fault| kind_of(&fault.detail));
                let shape = decoded.updates.iter().map(|update| {
                    let count = |list: usize| list.min(2);
                    format!("{}{}", count(update.announced.len()), count(update.withdrawn.len()))
                });
                shape.take(3).chain(faults).collect::<Vec<_>>().join("+")
            }
            (Ok(other), _) => {
                format!("{other:?}").split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
            }
            (Err(error), duty) => {
                ensure!(
                    duty == Duty::MayReset,
                    "{error} ends the session, in {context:?}; it names {duty:?}"
                );
                let Reaction::Reset(notification) = &error.reaction else {
                    anyhow::bail!("{error} is an error and does not say how to end the session")
                };
                format!("{}/{}-{}", notification.code, notification.subcode, kind_of(&error.detail))
            }
        });
    }
    outcomes.dedup();
    Ok(outcomes.join("|"))
}

/// Checks the corpus, and then so many mutations of it.
pub fn run(seed: u64, inputs: usize) -> Result<Corpus> {
    let mut corpus = Corpus::load("messages")?;
    let mut rng = Rng::with_seed(seed);
    let judge =
        |input: &[u8]| check(input).map_err(|error| error.context(format!("input {}", to_hex(input))));
    for input in corpus.inputs.clone() {
        corpus.note(&input, judge(&input)?);
    }
    for _ in 0..inputs {
        let [one, other] = [(); 2].map(|()| rng.usize(..corpus.inputs.len()));
        let input = mutate(&mut rng, &corpus.inputs[one], &corpus.inputs[other]);
        corpus.note(&input, judge(&input)?);
    }
    Ok(corpus)
}
