//! What `erdp ask` (`erdp explain`) is answered with. The verdict is the loaded program's, on the live maps; nothing is sent, charged or counted.
//! Where a packet comes in is the operator's word, by an interface or an attachment; the way back is asked about where the packet leaves.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde_json::Value;

use super::Controller;
use crate::{
    config::{Attachment, DomainId, Side},
    control::{Explanation, Question},
    dataplane::{
        self, Answer, Dataplane as _,
        question::{Parsed, frame_of_hex, parse},
    },
    fib::{AttachmentFacts, NextHopKey, Target},
};

/// Packets in one question; the client splits longer lists.
pub const DESTINATIONS_MAX: usize = 512;
/// The same with detail, of which an answer has some thousand octets for each packet.
pub const DETAILED_MAX: usize = 32;

impl Controller {
    /// What the program does with each packet of a question.
    pub(super) fn explain(&self, question: &Question) -> Result<Value, String> {
        let most = if question.detail { DETAILED_MAX } else { DESTINATIONS_MAX };
        if question.packets() > most {
            return Err(format!("{} packets; at most {most} in one question", question.packets()));
        }
        let ingress = self.ingress(&question.interface)?;
        let to = question.to.iter().map(|to| frame_to(ingress, question, *to));
        let given = question.frames.iter().map(|hex| frame_of_hex(hex).map_err(|error| error.to_string()));
        let answers = to.chain(given).map(|frame| self.explain_frame(ingress, &frame?, question.detail));
        let answers: Vec<Explanation> = answers.collect::<Result<_, _>>()?;
        serde_json::to_value(answers).map_err(|error| error.to_string())
    }

    /// The attachment of a name, or the first on an interface.
    fn ingress(&self, name: &str) -> Result<&AttachmentFacts, String> {
        let topology = self.core.forwarding.topology();
        let named = |facts: &&AttachmentFacts| facts.name == name || facts.interface == name;
        let Some(ingress) = topology.attachments().find(named) else {
            let names: Vec<&str> = topology.attachments().map(|facts| facts.name.as_str()).collect();
            return Err(format!("no attachment or interface {name:?}; there are: {}", names.join(", ")));
        };
        if !topology.has(ingress.ifindex) {
            let (_, problem) = self.show_fault(&ingress.interface);
            return Err(problem.unwrap_or_else(|| format!("interface {} is not there", ingress.interface)));
        }
        Ok(ingress)
    }

    fn explain_frame(
        &self,
        ingress: &AttachmentFacts,
        frame: &[u8],
        detail: bool,
    ) -> Result<Explanation, String> {
        let (answer, chosen, mut explanation) = self.explain_alone(ingress, frame, detail)?;
        let egress = chosen.and_then(|key| self.core.forwarding.topology().attachment(key.attachment));
        if detail
            && answer.verdict() == "transmit"
            && let (Some(egress), Some(packet)) = (egress, parse(frame))
        {
            match self.way_back(egress, &packet) {
                Ok(back) => explanation.way_back = Some(Box::new(back)),
                Err(why) => {
                    explanation.detail.iter_mut().for_each(|detail| detail.no_way_back = Some(why.clone()))
                }
            }
        }
        Ok(explanation)
    }

    /// What becomes of the answer to a packet, which comes in where the packet leaves.
    fn way_back(&self, egress: &AttachmentFacts, packet: &Parsed) -> Result<Explanation, String> {
        let frame = packet.reply(egress.tags).map_err(|error| error.to_string())?;
        self.explain_alone(egress, &frame, true).map(|(_, _, explanation)| explanation)
    }

    /// What becomes of a frame, its way back left aside.
    fn explain_alone(
        &self,
        ingress: &AttachmentFacts,
        frame: &[u8],
        detail: bool,
    ) -> Result<(Answer, Option<NextHopKey>, Explanation), String> {
        let adopted = self.core.dataplane.ask_adopted(ingress.ifindex, frame);
        let is_adopted = adopted.is_some();
        let answer = adopted.unwrap_or_else(|| self.core.dataplane.ask(ingress.ifindex, frame));
        let answer = answer.map_err(|error| error.to_string())?;
        let packet = parse(frame);
        let to = packet.as_ref().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |packet| packet.destination);
        let (next_hop, members) = if is_adopted { self.led_adopted(to, &answer) } else { self.led(&answer) };
        let from = packet.map(|packet| packet.source);
        let no_return = from.and_then(|from| self.lacks_return(ingress, from, next_hop?));
        let no_return_remedy =
            from.filter(|_| no_return == Some(true)).map(|from| return_remedy(&self.core.attachments, from));
        let explanation = Explanation {
            no_return,
            no_return_remedy,
            adopted: self.core.waiting(self.started.elapsed()).map(|wait| adopted_words(&wait)),
            detail: detail.then(|| Box::new(self.core.detail(frame, &answer, next_hop, is_adopted))),
            ..self.explanation(to, &answer, next_hop, members)
        };
        Ok((answer, next_hop, explanation))
    }

    /// The next hop of an answer and all that it was chosen from.
    fn led(&self, answer: &Answer) -> (Option<NextHopKey>, Vec<IpAddr>) {
        let members = self.core.forwarding.target(answer.trace.group).into_iter().flat_map(Target::members);
        (
            self.core.forwarding.next_hop_key(answer.trace.next_hop),
            members.map(|(key, _)| key.address).collect(),
        )
    }

    /// The same of an answer by the generation before, whose numbers are its own.
    fn led_adopted(&self, to: IpAddr, answer: &Answer) -> (Option<NextHopKey>, Vec<IpAddr>) {
        let key = |(attachment, mac)| self.core.forwarding.neighbour_with(attachment, mac, to.is_ipv4());
        let next_hop = self.core.dataplane.next_hop_adopted(answer.trace.next_hop).and_then(key);
        let members = self.core.dataplane.members_adopted(answer.trace.group);
        let members: BTreeSet<NextHopKey> = members.into_iter().filter_map(key).collect();
        (next_hop, members.into_iter().map(|key| key.address).collect())
    }

    fn explanation(
        &self,
        address: IpAddr,
        answer: &Answer,
        next_hop: Option<NextHopKey>,
        members: Vec<IpAddr>,
    ) -> Explanation {
        let topology = self.core.forwarding.topology();
        let name = |id: u16| {
            topology.attachments().find(|facts| facts.id.number() == id).map(|facts| facts.name.clone())
        };
        let egress = next_hop.and_then(|key| topology.attachment(key.attachment));
        let drop = answer.drop_reason();
        Explanation {
            address,
            verdict: answer.verdict().into(),
            reason: drop
                .map(|it| it.label())
                .or_else(|| answer.punt_kind().map(|it| it.label()))
                .map(Into::into),
            remedy: drop.map(|reason| reason.remedy().into()),
            attachment: name(answer.trace.attachment),
            egress: egress.map(|facts| facts.name.clone()),
            interface: egress.map(|facts| facts.interface.clone()),
            next_hop: next_hop.map(|key| key.address),
            members,
            no_return: None,
            no_return_remedy: None,
            adopted: None,
            detail: None,
            way_back: None,
        }
    }

    /// Whether the packet would go to Microsoft and its answer would not find back (D8).
    fn lacks_return(&self, ingress: &AttachmentFacts, from: IpAddr, next_hop: NextHopKey) -> Option<bool> {
        let egress = self.core.forwarding.topology().attachment(next_hop.attachment);
        let egress = egress.filter(|facts| facts.is_msee && !ingress.is_msee)?;
        let domain = DomainId(u16::try_from(*egress.domains.first()?).ok()?);
        self.core.rib.has_return_route(domain, from).map(|covered| !covered).filter(|lacks| *lacks)
    }
}

/// A frame of a question's shape to a destination; without a source it is a neighbour's on the attachment's wire.
fn frame_to(ingress: &AttachmentFacts, question: &Question, to: IpAddr) -> Result<Vec<u8>, String> {
    let shape = question.shape.clone().unwrap_or_default();
    let from =
        question.from.filter(|from| from.is_ipv4() == to.is_ipv4()).unwrap_or_else(|| neighbour(ingress, to));
    let packet = dataplane::question::Question {
        from,
        to,
        ports: question.ports,
        hop_limit: shape.ttl,
        tags: ingress.tags,
    };
    packet.shaped(&shape).map_err(|error| error.to_string())
}

/// What to do about a source that no MSEE has been advertised (requirement D8): its router announces it, or, where it is a host on a wire of
/// ours, we do (requirement C2).
fn return_remedy(attachments: &[Attachment], from: IpAddr) -> String {
    let is_on_it = |attachment: &&Attachment| {
        attachment.side == Side::Ce && attachment.addresses.iter().any(|net| net.contains(&from))
    };
    match attachments.iter().find(is_on_it) {
        Some(attachment) if !attachment.advertise_connected => format!(
            "{from} is on {}'s own subnet, which ERDP does not advertise: write advertise-connected = true on the attachment (C2)",
            attachment.name
        ),
        _ => "see `erdp show refused`".to_owned(),
    }
}

/// What the end of the wait depends on.
fn adopted_words((missing, seconds): &(Vec<&str>, u64)) -> String {
    let whom = if missing.is_empty() { "the end of the change".to_owned() } else { missing.join(", ") };
    format!("new routes wait for {whom}, at most {seconds} s")
}

/// A source that can be on the attachment's wire: the first address of its subnet that is not ours.
pub(super) fn neighbour(ingress: &AttachmentFacts, to: IpAddr) -> IpAddr {
    let ours = [ingress.local4.map(IpAddr::V4), ingress.local6.map(IpAddr::V6)];
    let subnet = ingress.subnets.iter().find(|subnet| subnet.addr().is_ipv4() == to.is_ipv4());
    let found = subnet.and_then(|subnet| match subnet {
        IpNet::V4(net) => net.hosts().map(IpAddr::V4).find(|address| !ours.contains(&Some(*address))),
        // The first one is every router's, and nobody's as a source (RFC 4291 section 2.6.1).
        IpNet::V6(net) => net.hosts().skip(1).map(IpAddr::V6).find(|address| !ours.contains(&Some(*address))),
    });
    found.unwrap_or(match to {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn c2_the_advice_for_a_host_on_an_attachments_own_subnet_names_the_key_that_makes_it_reachable() {
        let text = include_str!("../../../deploy/erdp.toml");
        let remedy = |text: &str, from: &str| {
            let (config, _) = Config::parse(text, std::path::Path::new("erdp.toml")).unwrap();
            return_remedy(&config.attachments(), from.parse().unwrap())
        };
        for on_wire in ["198.18.10.2", "fd00:18:10::2"] {
            let said = remedy(text, on_wire);
            assert!(said.contains("advertise-connected = true") && said.contains("ce0"), "{said}");
        }
        for elsewhere in ["198.18.64.1", "198.18.0.2"] {
            assert!(!remedy(text, elsewhere).contains("advertise-connected"), "{elsewhere}");
        }
        let announced =
            text.replacen("interface = \"ce0\"", "interface = \"ce0\"\nadvertise-connected = true", 1);
        assert!(remedy(&announced, "198.18.10.2").contains("show refused"));
    }
}
