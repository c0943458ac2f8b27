//! `erdp ask` (or `erdp explain`): what the loaded program does with packets, and why. A packet is described by options, given as a frame in hex, or read
//! from a capture file; the daemon answers, and nothing is sent, charged or counted.
//!
//! Files: `capture` (packets out of pcap and pcapng files), `words` (an answer as lines of text). What belongs together and what does not is judged
//! before anything is asked ([`AskArguments::conflict`]).

mod capture;
mod words;

use std::{
    fs::File,
    io::Read as _,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ArgGroup;
use erdp::{
    control::{DEFAULT_SOCKET, Explanation, Question, Request, client::Client},
    controller::DETAILED_MAX,
    dataplane::question::{self, FrameError, PacketShape, Protocol, SYN, frame_of_hex, hex_of},
};
use ipnet::IpNet;
use serde_json::Value;

use self::capture::{CAPTURE_MOST, Capture};
use super::show::{has_colours, table::Look};
use crate::out;

/// Packets in one request without detail, at most.
const AT_ONCE: usize = 256;
/// Characters of frames in one request, at most: the daemon takes requests of [`erdp::control::REQUEST_MAX`] octets.
const HEX_AT_ONCE: usize = 400_000;

/// What `erdp ask` takes.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("what").required(true).args(["to", "prefixes", "frame", "pcap"]))]
pub struct AskArguments {
    /// Interface (or attachment, see `erdp show links`) on which the packet arrives
    #[arg(long)]
    interface: String,
    /// Destination address
    #[arg(long)]
    to: Option<IpAddr>,
    /// File with one prefix a line; the first usable address of each is the destination
    #[arg(long, value_name = "FILE")]
    prefixes: Option<PathBuf>,
    /// A whole frame in hexadecimal digits, from its Ethernet header on
    #[arg(long, value_name = "HEX", value_parser = hex)]
    frame: Option<Frame>,
    /// A capture file (pcap or pcapng): each of its packets is a question
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Source address; default: a neighbour on the interface
    #[arg(long)]
    from: Option<IpAddr>,
    /// Protocol: udp, tcp, icmp (echo requests), esp, or a number; default: udp
    #[arg(long)]
    protocol: Option<Protocol>,
    /// UDP or TCP source port; the flow hash uses it to choose the link; default: 40000
    #[arg(long, value_name = "PORT")]
    from_port: Option<u16>,
    /// UDP or TCP destination port; default: 443
    #[arg(long, value_name = "PORT")]
    to_port: Option<u16>,
    /// DSCP: 0 to 63, or a name such as EF, AF41, CS1; default: 0
    #[arg(long, value_parser = question::dscp)]
    dscp: Option<u8>,
    /// ECN field: not-ect, ect0, ect1 or ce, or 0 to 3; default: not-ect
    #[arg(long, value_parser = question::ecn)]
    ecn: Option<u8>,
    /// Octets of the whole IP packet; default: a few octets of payload
    #[arg(long, value_name = "OCTETS")]
    size: Option<u16>,
    /// TTL or hop limit; default: 64
    #[arg(long)]
    ttl: Option<u8>,
    /// TCP's flags with commas between them (syn,ack), or none; default: syn
    #[arg(long, value_parser = question::tcp_flags)]
    flags: Option<u8>,
    /// VLAN tags, outer first (100 or 5,100), or none; default: those of the attachment
    #[arg(long, value_name = "VLAN[,VLAN]", value_parser = tags)]
    tags: Option<Tags>,
    /// Print all that is known of each packet; --to and --frame always do
    #[arg(long)]
    detail: bool,
    /// Control socket of the running router
    #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
    control: PathBuf,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Bytes, which clap would otherwise take for a list of options.
#[derive(Clone, Debug)]
struct Frame(Vec<u8>);

/// The same of VLAN tags.
#[derive(Clone, Debug)]
struct Tags(Vec<u16>);

fn hex(text: &str) -> Result<Frame, FrameError> {
    frame_of_hex(text).map(Frame)
}

fn tags(text: &str) -> Result<Tags, String> {
    question::tags(text).map(Tags)
}

/// A packet to ask about.
#[derive(Debug)]
enum Asked {
    /// To an address, which may stand for a prefix.
    To(Option<IpNet>, IpAddr),
    /// A whole frame; of a capture file with its number.
    Frame(Option<usize>, Vec<u8>),
    /// A packet of a capture file that cannot be asked about.
    Not(usize, String),
}

impl AskArguments {
    /// Why these options do not belong together.
    pub fn conflict(&self) -> Option<String> {
        let has = |name: &'static str, is_there: bool| is_there.then_some(name);
        let shaping = [
            has("--from", self.from.is_some()),
            has("--protocol", self.protocol.is_some()),
            has("--from-port", self.from_port.is_some()),
            has("--to-port", self.to_port.is_some()),
            has("--dscp", self.dscp.is_some()),
            has("--ecn", self.ecn.is_some()),
            has("--size", self.size.is_some()),
            has("--ttl", self.ttl.is_some()),
            has("--flags", self.flags.is_some()),
            has("--tags", self.tags.is_some()),
        ];
        if let (true, Some(option)) =
            (self.frame.is_some() || self.pcap.is_some(), shaping.into_iter().flatten().next())
        {
            return Some(format!(
                "{option} is for a packet that erdp makes: leave it out with --frame and --pcap, whose packets have it in them"
            ));
        }
        if self.flags.is_some() && self.protocol() != Protocol::Tcp {
            return Some("--flags are TCP's: add --protocol tcp, or leave them out".into());
        }
        let has_ports = matches!(self.protocol(), Protocol::Udp | Protocol::Tcp);
        if (self.from_port.is_some() || self.to_port.is_some()) && !has_ports {
            return Some(
                "--from-port and --to-port are UDP's and TCP's: leave them out, or name one of these with --protocol"
                    .into(),
            );
        }
        match (self.from, self.to) {
            (Some(from), Some(to)) if from.is_ipv4() != to.is_ipv4() => Some(format!(
                "--from {from} and --to {to} are not of one address family: name two of the same"
            )),
            _ => None,
        }
    }

    fn protocol(&self) -> Protocol {
        self.protocol.unwrap_or_default()
    }

    /// What the packets are, where anything was asked for beside ports.
    fn shape(&self) -> Option<PacketShape> {
        let shape = PacketShape {
            protocol: self.protocol(),
            dscp: self.dscp.unwrap_or(0),
            ecn: self.ecn.unwrap_or(0),
            size: self.size,
            ttl: self.ttl.unwrap_or(64),
            tcp_flags: self.flags.unwrap_or(SYN),
            echo_reply: false,
            tags: self.tags.as_ref().map(|tags| tags.0.clone()),
        };
        (shape != PacketShape::default()).then_some(shape)
    }

    fn question(&self) -> Question {
        let shape = self.shape();
        let is_one = self.to.is_some() || self.frame.is_some();
        Question {
            interface: self.interface.clone(),
            to: Vec::new(),
            from: self.from,
            ports: (self.from_port.unwrap_or(40_000), self.to_port.unwrap_or(443)),
            // An answer with detail says that its daemon knows of shapes and frames.
            detail: self.detail || is_one || shape.is_some() || self.pcap.is_some(),
            shape,
            frames: Vec::new(),
        }
    }

    /// What is to be asked about, and what is wrong behind it in a capture file.
    fn asked(&self) -> Result<(Vec<Asked>, Option<String>)> {
        if let Some(path) = &self.pcap {
            let Capture { packets, broken } = captured(path)?;
            let numbered = packets.into_iter().zip(1..).map(|(packet, number)| match packet {
                Ok(frame) => Asked::Frame(Some(number), frame),
                Err(why) => Asked::Not(number, why),
            });
            return Ok((numbered.collect(), broken));
        }
        let asked = match (&self.frame, &self.prefixes) {
            (Some(frame), _) => vec![Asked::Frame(None, frame.0.clone())],
            (None, Some(path)) => prefixes(path)?,
            (None, None) => self.to.map(|to| Asked::To(None, to)).into_iter().collect(),
        };
        Ok((asked, None))
    }
}

/// Asks about each packet, and prints the answers.
pub fn run(arguments: &AskArguments) -> Result<()> {
    let (asked, broken) = arguments.asked()?;
    let mut client = Client::connect(&arguments.control)?;
    let question = arguments.question();
    let is_long = arguments.detail || arguments.to.is_some() || arguments.frame.is_some();
    let at_once = if question.detail { DETAILED_MAX } else { AT_ONCE };
    for part in parts(&asked, at_once) {
        if out::is_closed() {
            break;
        }
        let answers = answers(&mut client, &question, part)?;
        let mut answers = answers.iter();
        for asked in part {
            let answer = if matches!(asked, Asked::Not(..)) { None } else { answers.next() };
            if arguments.json {
                println!("{}", json(asked, answer)?);
            } else {
                print!("{}", text(asked, answer, is_long));
            }
        }
    }
    match (broken, &arguments.pcap) {
        (Some(why), Some(path)) => bail!("{}: {why}", path.display()),
        _ => Ok(()),
    }
}

/// As many packets each as fit into a request, `at_once` at most.
fn parts(mut asked: &[Asked], at_once: usize) -> impl Iterator<Item = &[Asked]> {
    std::iter::from_fn(move || {
        let mut room = HEX_AT_ONCE;
        let fits = |it: &&Asked| {
            let takes = if let Asked::Frame(_, frame) = it { 2 * frame.len() + 3 } else { 0 };
            room.checked_sub(takes).map(|left| room = left).is_some()
        };
        let count = asked.iter().take(at_once).take_while(fits).count();
        let (part, rest) = asked.split_at(count);
        asked = rest;
        (count > 0).then_some(part)
    })
}

/// One answer for each packet that can be asked about.
fn answers(client: &mut Client, question: &Question, part: &[Asked]) -> Result<Vec<Explanation>> {
    let to = part.iter().filter_map(|it| if let Asked::To(_, to) = it { Some(*to) } else { None }).collect();
    let frame = |it: &Asked| if let Asked::Frame(_, frame) = it { Some(hex_of(frame)) } else { None };
    let question = Question { to, frames: part.iter().filter_map(frame).collect(), ..question.clone() };
    let packets = question.packets();
    if packets == 0 {
        return Ok(Vec::new());
    }
    let is_plain = question.shape.is_none() && question.frames.is_empty();
    let answers: Vec<Explanation> = serde_json::from_value(client.ask(&Request::Explain(question))?)?;
    ensure!(
        answers.len() == packets,
        "{} answers for {packets} questions: the daemon is of another version; `erdp restart` starts the installed one",
        answers.len()
    );
    ensure!(
        is_plain || answers.iter().all(|answer| answer.detail.is_some()),
        "the daemon is of an older version and knows small UDP packets only: leave --protocol, --dscp, --ecn, --size, --ttl, --flags and \
         --tags out, or start the installed version with `erdp restart`"
    );
    Ok(answers)
}

/// An answer as one object, with what it is about.
fn json(asked: &Asked, answer: Option<&Explanation>) -> Result<Value> {
    let mut value = match asked {
        Asked::To(prefix, _) => serde_json::json!({ "prefix": prefix }),
        Asked::Frame(None, _) => serde_json::json!({ "prefix": null }),
        Asked::Frame(Some(number), _) => serde_json::json!({ "prefix": null, "packet": number }),
        Asked::Not(number, why) => serde_json::json!({ "prefix": null, "packet": number, "error": why }),
    };
    if let (Some(value), Some(answer)) = (value.as_object_mut(), answer)
        && let Value::Object(fields) = serde_json::to_value(answer)?
    {
        value.extend(fields);
    }
    Ok(value)
}

/// An answer as lines of text.
fn text(asked: &Asked, answer: Option<&Explanation>, is_long: bool) -> String {
    let look = Look { wide: false, colours: has_colours() };
    let number = match asked {
        Asked::Frame(Some(number), _) | Asked::Not(number, _) => format!("packet {number}, "),
        Asked::To(..) | Asked::Frame(None, _) => String::new(),
    };
    match (asked, answer) {
        (Asked::Not(_, why), _) => format!("{number}not asked about: {why}\n"),
        (_, Some(answer)) => words::answer(&number, answer, is_long, look),
        (_, None) => String::new(),
    }
}

/// Each prefix of a file by its first usable address.
fn prefixes(path: &Path) -> Result<Vec<Asked>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            let prefix: IpNet =
                line.trim().parse().with_context(|| format!("{}:{}: {line:?}", path.display(), at + 1))?;
            let first = prefix.hosts().next().unwrap_or(prefix.addr());
            Ok(Asked::To(Some(prefix), first))
        })
        .collect()
}

/// The packets of a capture file, of which no more is read than is taken.
fn captured(path: &Path) -> Result<Capture> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    file.take(CAPTURE_MOST + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {}", path.display()))?;
    capture::read(&bytes).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        ask: AskArguments,
    }

    fn parse(words: &str) -> Result<AskArguments, String> {
        let words = ["ask", "--interface", "eth0"].into_iter().chain(words.split_whitespace());
        let ask = Command::try_parse_from(words).map_err(|error| error.to_string())?.ask;
        ask.conflict().map_or(Ok(ask), Err)
    }

    #[test]
    fn options_become_the_question_they_describe() {
        Command::command().debug_assert();
        let plain = parse("--to 198.18.64.9").unwrap();
        assert_eq!(
            (plain.shape(), plain.question().ports, plain.question().detail),
            (None, (40_000, 443), true)
        );
        let shaped = "--to 198.18.64.9 --protocol tcp --flags syn,ack --dscp EF --ecn ect0 --size 1500 --ttl 1 --tags 5,100 --to-port 22";
        let shaped = parse(shaped).unwrap();
        let expected = PacketShape {
            protocol: Protocol::Tcp,
            dscp: 46,
            ecn: 2,
            size: Some(1_500),
            ttl: 1,
            tcp_flags: 0x12,
            echo_reply: false,
            tags: Some(vec![5, 100]),
        };
        assert_eq!((shaped.shape(), shaped.question().ports), (Some(expected), (40_000, 22)));
        let many = parse("--prefixes FILE").unwrap();
        assert!(!many.question().detail, "as it has always been asked");
        assert!(parse("--prefixes FILE --detail").unwrap().question().detail);
    }

    #[test]
    fn each_bad_value_is_named_with_the_remedy() {
        let frame = "02000000000102000000000208004500";
        let rows = [
            ("", "--to"),
            ("--to 198.18.64.9 --pcap FILE", "cannot be used with"),
            ("--to nowhere", "nowhere"),
            ("--to 198.18.64.9 --protocol quic", "udp, tcp, icmp, esp"),
            ("--to 198.18.64.9 --dscp 64", "0 to 63"),
            ("--to 198.18.64.9 --ecn 4", "ect0"),
            ("--to 198.18.64.9 --size 70000", "65535"),
            ("--to 198.18.64.9 --ttl 256", "255"),
            ("--to 198.18.64.9 --flags syn", "--protocol tcp"),
            ("--to 198.18.64.9 --protocol tcp --flags oops", "\"oops\""),
            ("--to 198.18.64.9 --protocol icmp --to-port 22", "leave them out"),
            ("--to 198.18.64.9 --tags 4095", "1 to 4094"),
            ("--to 198.18.64.9 --from fd00::1", "name two of the same"),
            ("--frame 0200000000", "an odd number|MAC address"),
            ("--frame 02:0x", "'x'"),
            (&format!("--frame {frame} --dscp EF"), "leave it out with --frame"),
            ("--pcap FILE --ttl 3", "leave it out with --frame and --pcap"),
        ];
        for (words, remedy) in rows {
            let said = parse(words).map(|_| ()).expect_err(words);
            assert!(remedy.split('|').any(|part| said.contains(part)), "{words:?}: {said} has no {remedy}");
        }
    }

    #[test]
    fn requests_are_bounded_in_number_and_size_and_leave_nothing_out() {
        let long = || Asked::Frame(Some(1), vec![0; question::FRAME_MOST]);
        let asked: Vec<Asked> = (0..600)
            .map(|_| long())
            .chain((0..300).map(|_| Asked::Not(1, String::new())))
            .chain((0..300).map(|_| Asked::To(None, IpAddr::from([198, 18, 0, 1]))))
            .collect();
        let mut count = 0;
        for part in parts(&asked, AT_ONCE) {
            let hex: usize =
                part.iter().map(|it| if let Asked::Frame(_, it) = it { 2 * it.len() } else { 0 }).sum();
            assert!(part.len() <= AT_ONCE && hex <= HEX_AT_ONCE, "{} of {hex}", part.len());
            count += part.len();
        }
        assert_eq!(count, asked.len());
        assert!(HEX_AT_ONCE + 64 * AT_ONCE < erdp::control::REQUEST_MAX as usize);
        assert!(parts(&[], AT_ONCE).next().is_none());
    }

    #[test]
    fn json_of_a_plain_answer_has_the_fields_it_has_always_had_and_of_a_captured_packet_its_number() {
        let answer = r#"{"address":"198.18.64.9","verdict":"punt","reason":"local","remedy":null,"attachment":"ce0","egress":null,"interface":null,"next_hop":null,"members":[]}"#;
        let answer: Explanation = serde_json::from_str(answer).unwrap();
        let to = Asked::To(None, answer.address);
        let names = |value: &Value| {
            let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(
            names(&json(&to, Some(&answer)).unwrap()),
            "address adopted attachment egress interface members next_hop no_return prefix reason remedy verdict"
        );
        let captured = json(&Asked::Frame(Some(7), vec![0; 14]), Some(&answer)).unwrap();
        assert_eq!((&captured["packet"], &captured["verdict"]), (&7.into(), &"punt".into()));
        let not = json(&Asked::Not(8, "too long".into()), None).unwrap();
        assert_eq!((&not["packet"], &not["error"]), (&8.into(), &"too long".into()));
    }
}
