//! What `erdp ask` (`erdp explain`) sends and gets.
//!
//! A question is of some destinations and the shape of the packets to them, or of whole frames. The answer about one packet is an
//! [`Explanation`]; where [`Question::detail`] is set, with all that is known of the way to its verdict ([`Detail`]) and with the answer about the
//! packet that would come back. Fields are only added: a daemon that does not know one leaves it out of its answer, and a client that does not
//! ask for one gets none.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dataplane::question::PacketShape;

/// Packets to ask about: one for each destination, or whole frames.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Question {
    /// The interface (or attachment) they come in on.
    pub interface: String,
    /// Where they go.
    pub to: Vec<IpAddr>,
    /// Where they come from; by default a neighbour on the attachment's wire.
    pub from: Option<IpAddr>,
    /// UDP or TCP ports.
    pub ports: (u16, u16),
    /// What the packets are beside that; none: small UDP packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<PacketShape>,
    /// Frames in hex, from their Ethernet header on; then `to` is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<String>,
    /// Whether [`Explanation::detail`] and [`Explanation::way_back`] are wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detail: bool,
}

impl Question {
    /// About how many packets it is.
    pub fn packets(&self) -> usize {
        self.to.len() + self.frames.len()
    }

    /// The same about so many packets at a time.
    pub fn parts(&self, packets: usize) -> impl Iterator<Item = Self> {
        let of_to = self.to.chunks(packets.max(1)).map(|to| Self {
            to: to.to_vec(),
            frames: Vec::new(),
            ..self.clone()
        });
        let of_frames = self.frames.chunks(packets.max(1)).map(|frames| Self {
            to: Vec::new(),
            frames: frames.to_vec(),
            ..self.clone()
        });
        of_to.chain(of_frames)
    }
}

/// The answer about one packet.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Explanation {
    /// The destination; `0.0.0.0` of a frame without an IP packet.
    pub address: IpAddr,
    /// `transmit`, `punt` or `drop`.
    pub verdict: String,
    /// Drop reason or punt kind.
    pub reason: Option<String>,
    /// What to do about a drop.
    pub remedy: Option<String>,
    /// Ingress attachment.
    pub attachment: Option<String>,
    /// Egress attachment.
    pub egress: Option<String>,
    /// Egress interface.
    pub interface: Option<String>,
    /// The neighbour it is sent to.
    pub next_hop: Option<IpAddr>,
    /// Every neighbour the route would use.
    pub members: Vec<IpAddr>,
    /// True: no route to the packet's source is advertised to an MSEE, so Azure's answer has no way back (D8).
    #[serde(default)]
    pub no_return: Option<bool>,
    /// What to do about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_return_remedy: Option<String>,
    /// While the program of the controller before forwards, which was asked then: what its end waits for.
    #[serde(default)]
    pub adopted: Option<String>,
    /// How the verdict came about, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<Detail>>,
    /// What becomes of the packet that answers this one, where that was asked for and this one is sent on: it is taken to come in where this one
    /// leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<Box<Explanation>>,
}

/// How a verdict came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// What was asked about; none of a frame without an IP packet.
    pub packet: Option<AskedPacket>,
    /// Octets of the frame that was asked about.
    pub frame_bytes: usize,
    /// Routing domains of the ingress attachment, the preferred one first.
    pub domains: Vec<String>,
    /// The longest match, if there is one.
    pub route: Option<AskedRoute>,
    /// Which of the route's neighbours takes the flow; none where the packet is not for a neighbour.
    pub choice: Option<Choice>,
    /// Traffic class.
    pub class: Option<String>,
    /// DSCP that it leaves with.
    pub dscp_after: Option<u8>,
    /// ECN field that it leaves with.
    pub ecn_after: Option<u8>,
    /// The policers on its way, the one of what comes in first.
    pub policers: Vec<AskedPolicer>,
    /// Octets of an IP packet that fit where it leaves.
    pub mtu: Option<u16>,
    /// Why [`Explanation::way_back`] is missing though the packet is sent on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_way_back: Option<String>,
}

/// A packet, as the packet path reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedPacket {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IANA's number of its protocol, behind IPv6's extension headers.
    pub protocol: u8,
    /// Ports, if it has some.
    pub ports: Option<(u16, u16)>,
    /// DSCP.
    pub dscp: u8,
    /// ECN field.
    pub ecn: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Octets of the IP packet.
    pub size: u32,
    /// Whether it is a fragment.
    pub is_fragment: bool,
    /// VLAN identifiers, outer first.
    pub tags: Vec<u16>,
}

/// A route and where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskedRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// The domain whose route it is; none of what no domain has, for instance what zones forbid.
    pub domain: Option<String>,
    /// `bgp`, `kernel`, `connected`, `discard`, `zone-forbidden` or `encrypted-only`.
    pub source: String,
    /// The peer or attachment that its best path is from.
    pub from: Option<String>,
    /// The best path's next hop.
    pub next_hop: Option<IpAddr>,
    /// The best path's AS path, after policy.
    pub as_path: Option<String>,
    /// Its communities after policy, with the names that Microsoft gives them; the first ones, if they are many.
    pub communities: Vec<String>,
    /// How many more it has.
    pub more_communities: usize,
    /// Local preference after policy.
    pub preference: Option<u32>,
    /// The policy and its rule that was about it.
    pub policy: Option<String>,
    /// Why it is the best path.
    pub why: Option<String>,
    /// The paths that packets take.
    pub paths: usize,
    /// Whether it is marked as to be spared: maintenance at Microsoft (B7).
    pub draining: bool,
}

/// How the flow's neighbour was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Choice {
    /// Number of the route's next-hop group.
    pub group: u32,
    /// The flow's bucket of those of the group, by the hash of its addresses, protocol and ports.
    pub bucket: usize,
    /// How many buckets a group has.
    pub buckets: usize,
    /// Whether both directions of a flow have the same bucket.
    pub symmetric: bool,
    /// The neighbour whose bucket it is.
    pub owner: Option<IpAddr>,
    /// All neighbours.
    pub members: Vec<ChoiceMember>,
}

/// A neighbour of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceMember {
    /// Its address.
    pub next_hop: IpAddr,
    /// Where it is reached.
    pub attachment: String,
    /// How many buckets are its.
    pub buckets: usize,
    /// Whether it takes this flow.
    pub chosen: bool,
    /// Why it can take none, where that is known.
    pub problem: Option<String>,
}

/// A policer on the packet's way, with what its bucket has now for the packet's class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskedPolicer {
    /// Its circuit.
    pub circuit: String,
    /// `both`, or the one link that it limits.
    pub links: String,
    /// `to-microsoft` or `from-microsoft`.
    pub direction: String,
    /// Its rate in bits a second.
    pub rate_bps: u64,
    /// Octets that the class may be ahead of the rate.
    pub credit_bytes: u64,
    /// Octets of these that are left.
    pub room_bytes: u64,
    /// How much of the credit is used; above 100: nothing of the class passes.
    pub used_percent: u64,
    /// Whether the class has used up its own share, so that it counts as best effort.
    pub above_share: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_of_an_older_client_is_understood_and_one_without_news_is_what_it_has_always_been() {
        let old = r#"{"interface":"eth0","to":["198.18.64.9"],"from":null,"ports":[5,3478]}"#;
        let question: Question = serde_json::from_str(old).unwrap();
        assert_eq!((question.packets(), question.detail, &question.shape), (1, false, &None));
        assert_eq!(serde_json::to_string(&question).unwrap(), old);
        let shaped =
            r#"{"interface":"eth0","to":[],"from":null,"ports":[5,7],"shape":{"protocol":"tcp","size":900}}"#;
        let shape = serde_json::from_str::<Question>(shaped).unwrap().shape.unwrap();
        assert_eq!((shape.ttl, shape.size, shape.tags), (64, Some(900), None));
    }

    #[test]
    fn an_answer_of_an_older_daemon_is_understood_and_one_without_detail_has_no_new_fields() {
        let old = r#"{"address":"198.18.64.9","verdict":"punt","reason":"local","remedy":null,"attachment":"ce0","egress":null,"interface":null,"next_hop":null,"members":[]}"#;
        let answer: Explanation = serde_json::from_str(old).unwrap();
        assert!(answer.detail.is_none() && answer.way_back.is_none());
        let written = serde_json::to_value(&answer).unwrap();
        let names: Vec<&String> = written.as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 11, "those of version 0.1.0 and no others: {names:?}");
    }

    #[test]
    fn parts_of_a_question_are_the_whole_in_order() {
        let to: Vec<IpAddr> = (0..70).map(|last| IpAddr::from([198, 18, 0, last])).collect();
        let question = Question {
            interface: "eth0".into(),
            to: to.clone(),
            from: None,
            ports: (1, 2),
            shape: None,
            frames: vec!["00".into(); 33],
            detail: true,
        };
        let parts: Vec<Question> = question.parts(32).collect();
        assert_eq!(parts.iter().map(Question::packets).collect::<Vec<_>>(), [32, 32, 6, 32, 1]);
        assert_eq!(parts.iter().flat_map(|part| part.to.clone()).collect::<Vec<_>>(), to);
        assert!(parts.iter().all(|part| part.detail && (part.to.is_empty() || part.frames.is_empty())));
    }
}
