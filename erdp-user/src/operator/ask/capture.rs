//! Packets out of a capture file, pcap (draft-ietf-opsawg-pcap) or pcapng (draft-ietf-opsawg-pcapng), to be asked about.
//!
//! The file may be of any kind and say of itself whatever it likes: it is taken up to [`CAPTURE_MOST`] octets and [`PACKETS_MOST`] packets, no length in
//! it is believed beyond the octets that are there, and what stands before a fault is used. Of a packet that was captured in part the rest is filled
//! up with zeros: the packet path looks at no payload.

use erdp::dataplane::question::{FRAME_LEAST, FRAME_MOST};
use pcap_parser::{
    Block, LegacyPcapBlock, Linktype, PcapBlockOwned, PcapError, PcapHeader, PcapNGSlice,
    nom::{Err as NomError, IResult},
    parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
    traits::PcapNGPacketBlock as _,
};

/// Octets of a capture file.
pub const CAPTURE_MOST: u64 = 64 << 20;
/// Packets of a capture file.
pub const PACKETS_MOST: usize = 10_000;

/// What a file has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// Its packets in order: the frame, or why it cannot be asked about.
    pub packets: Vec<Result<Vec<u8>, String>>,
    /// What is wrong behind them.
    pub broken: Option<String>,
}

/// Why a file is not taken at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// More octets than are read.
    #[error(
        "the file is longer than {} MiB: cut it (`editcap -c {most} FILE part.pcap`), or its packets (`editcap -s 128 FILE part.pcap`)",
        CAPTURE_MOST >> 20, most = PACKETS_MOST
    )]
    TooLong,
    /// More packets than are asked about.
    #[error(
        "the file has more than {most} packets: take some of them, `editcap -r FILE part.pcap 1-{most}`",
        most = PACKETS_MOST
    )]
    TooMany,
    /// Packed.
    #[error("the file is compressed: unpack it first (`gunzip FILE`)")]
    Compressed,
    /// Something else.
    #[error(
        "the file is no capture: give a file that `tcpdump -w` or Wireshark has written (pcap or pcapng)"
    )]
    NoCapture,
    /// Frames of another kind.
    #[error(
        "its packets are of link type {0} and not Ethernet (1): capture on the interface itself (`tcpdump -i IF -w FILE`), not on `any`"
    )]
    NotEthernet(i32),
    /// A header and nothing else.
    #[error("the file has no packets: was anything captured?")]
    Empty,
}

/// The packets of a file's octets.
pub fn read(bytes: &[u8]) -> Result<Capture, CaptureError> {
    if bytes.len() as u64 > CAPTURE_MOST {
        return Err(CaptureError::TooLong);
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(CaptureError::Compressed);
    }
    let capture = match parse_pcap_header(bytes) {
        Ok((rest, header)) => classic(rest, &header)?,
        Err(_) => next_generation(bytes)?,
    };
    match capture {
        Capture { packets, broken: None } if packets.is_empty() => Err(CaptureError::Empty),
        capture => Ok(capture),
    }
}

fn classic(mut rest: &[u8], header: &PcapHeader) -> Result<Capture, CaptureError> {
    // The upper four bits say how long the frame check sequence is (draft-ietf-opsawg-pcap section 4).
    let link = Linktype(header.network.0 & 0x0fff_ffff);
    if link != Linktype::ETHERNET {
        return Err(CaptureError::NotEthernet(link.0));
    }
    let mut capture = Capture::default();
    while !rest.is_empty() {
        match record(header, rest) {
            Ok((behind, packet)) => {
                rest = behind;
                capture.take(packet.data, packet.origlen)?;
            }
            Err(error) => {
                capture.end(&error);
                break;
            }
        }
    }
    Ok(capture)
}

/// The next packet of a file with this header, and what is behind it.
fn record<'a>(
    header: &PcapHeader,
    rest: &'a [u8],
) -> IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>> {
    match header {
        header if header.is_modified_format() => parse_pcap_frame_modified(rest),
        header if header.is_bigendian() => parse_pcap_frame_be(rest),
        _ => parse_pcap_frame(rest),
    }
}

fn next_generation(bytes: &[u8]) -> Result<Capture, CaptureError> {
    let blocks = PcapNGSlice::from_slice(bytes).map_err(|_| CaptureError::NoCapture)?;
    let (mut capture, mut links) = (Capture::default(), Vec::new());
    for block in blocks {
        match block {
            Ok(PcapBlockOwned::NG(Block::SectionHeader(_))) => links.clear(),
            Ok(PcapBlockOwned::NG(Block::InterfaceDescription(it))) => links.push(it.linktype),
            Ok(PcapBlockOwned::NG(Block::EnhancedPacket(it))) => {
                let link = links.get(it.if_id as usize).copied();
                capture.take_of(link, it.packet_data(), it.origlen)?;
            }
            Ok(PcapBlockOwned::NG(Block::SimplePacket(it))) => {
                capture.take_of(links.first().copied(), it.packet_data(), it.origlen)?;
            }
            Ok(_) => {}
            // The iterator stays where it is after a fault.
            Err(error) => {
                capture.end(&error);
                break;
            }
        }
    }
    Ok(capture)
}

impl Capture {
    /// A packet of an interface, which may be none.
    fn take_of(&mut self, link: Option<Linktype>, data: &[u8], len: u32) -> Result<(), CaptureError> {
        match link {
            Some(Linktype::ETHERNET) => self.take(data, len),
            Some(link) => self.push(Err(CaptureError::NotEthernet(link.0).to_string())),
            None => self.push(Err("it is of an interface that the file does not describe".into())),
        }
    }

    /// A packet: the octets that were captured, and how long it was.
    fn take(&mut self, data: &[u8], len: u32) -> Result<(), CaptureError> {
        // Some programs write no length of their own.
        let len = data.len().max(len as usize);
        self.push(match len {
            ..FRAME_LEAST => Err(format!("{len} octets are less than an Ethernet header")),
            FRAME_LEAST..=FRAME_MOST => {
                let mut frame = data.to_vec();
                frame.resize(len, 0);
                Ok(frame)
            }
            _ => Err(format!(
                "{len} octets: the kernel runs a program on {FRAME_MOST} at most; was it joined by the interface's GRO or TSO? Capture \
                 on the wire, or switch these off (`ethtool -K IF gro off tso off`)"
            )),
        })
    }

    fn push(&mut self, packet: Result<Vec<u8>, String>) -> Result<(), CaptureError> {
        if self.packets.len() >= PACKETS_MOST {
            return Err(CaptureError::TooMany);
        }
        self.packets.push(packet);
        Ok(())
    }

    /// The file goes no further.
    fn end(&mut self, error: &NomError<PcapError<&[u8]>>) {
        let before = self.packets.len();
        self.broken = Some(match error {
            NomError::Incomplete(_) => {
                format!(
                    "the file ends in the middle of a packet; those before it are {before}. Was the capture stopped early?"
                )
            }
            _ => format!("the file makes no sense behind packet {before}; it is damaged, capture again"),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: [u8; 60] = [7; 60];

    fn header(little: bool, link: u32) -> Vec<u8> {
        let word = |value: u32| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let half = |value: u16| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let mut bytes = word(0xa1b2_c3d4).to_vec();
        bytes.extend([half(2), half(4)].concat());
        [0, 0, 65_535, link].into_iter().for_each(|value| bytes.extend(word(value)));
        bytes
    }

    fn record(little: bool, caplen: u32, len: u32, data: &[u8]) -> Vec<u8> {
        let word = |value: u32| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        [[0; 8].as_slice(), &word(caplen), &word(len), data].concat()
    }

    /// A block of pcapng, padded.
    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let len = (padded as u32 + 12).to_le_bytes();
        let mut bytes = [kind.to_le_bytes().as_slice(), &len, body].concat();
        bytes.resize(8 + padded, 0);
        bytes.extend(len);
        bytes
    }

    fn section() -> Vec<u8> {
        let body = [0x1a2b_3c4d_u32.to_le_bytes().as_slice(), &[1, 0, 0, 0], &[0xff; 8]].concat();
        block(0x0a0d_0d0a, &body)
    }

    fn interface(link: u16) -> Vec<u8> {
        block(1, &[link.to_le_bytes().as_slice(), &[0, 0], &65_535_u32.to_le_bytes()].concat())
    }

    fn packet(interface: u32, caplen: u32, len: u32, data: &[u8]) -> Vec<u8> {
        let numbers = [interface, 0, 0, caplen, len].map(u32::to_le_bytes).concat();
        block(6, &[numbers.as_slice(), data].concat())
    }

    #[test]
    fn packets_of_both_formats_and_byte_orders_are_read_in_order_and_cut_ones_filled_up() {
        let mut cut = FRAME.to_vec();
        cut.resize(1_500, 0);
        for little in [true, false] {
            let file = [
                header(little, 1),
                record(little, 60, 60, &FRAME),
                record(little, 60, 1_500, &FRAME),
                record(little, 60, 9_014, &FRAME),
                record(little, 5, 5, &FRAME[..5]),
            ]
            .concat();
            let Capture { packets, broken } = read(&file).unwrap();
            assert_eq!((packets.len(), broken), (4, None));
            assert_eq!((&packets[0], &packets[1]), (&Ok(FRAME.to_vec()), &Ok(cut.clone())));
            assert!(packets[2].as_ref().is_err_and(|why| why.contains("9014 octets")), "{:?}", packets[2]);
            assert!(packets[3].as_ref().is_err_and(|why| why.contains("5 octets")), "{:?}", packets[3]);
        }
        let file = [
            section(),
            interface(1),
            interface(113),
            packet(0, 60, 1_500, &FRAME),
            packet(1, 60, 60, &FRAME),
        ];
        let Capture { packets, broken } = read(&[file.concat(), packet(9, 60, 60, &FRAME)].concat()).unwrap();
        assert_eq!((packets.len(), broken, &packets[0]), (3, None, &Ok(cut)));
        assert!(packets[1].as_ref().is_err_and(|why| why.contains("link type 113")), "{:?}", packets[1]);
        assert!(packets[2].as_ref().is_err_and(|why| why.contains("does not describe")), "{:?}", packets[2]);
    }

    #[test]
    fn a_file_that_is_none_or_too_much_is_refused_with_the_remedy() {
        let many = || std::iter::repeat_n(record(true, 14, 14, &FRAME[..14]), PACKETS_MOST + 1).flatten();
        let rows = [
            (read(b""), "tcpdump -w"),
            (read(b"#!/bin/sh\necho no capture at all\n"), "tcpdump -w"),
            (read(&[0x1f, 0x8b, 8, 0]), "gunzip"),
            (read(&header(true, 113)), "not on `any`"),
            (read(&header(true, 1)), "no packets"),
            (read(&header(true, 1).into_iter().chain(many()).collect::<Vec<_>>()), "editcap -r"),
            (read(&vec![0; CAPTURE_MOST as usize + 1]), "64 MiB"),
        ];
        for (read, remedy) in rows {
            let said = read.expect_err(remedy).to_string();
            assert!(said.contains(remedy), "{said} has no {remedy}");
        }
    }

    #[test]
    fn what_stands_before_a_fault_is_used_and_no_length_is_believed() {
        let whole = [header(true, 1), record(true, 60, 60, &FRAME)].concat();
        let huge = [whole.clone(), record(true, u32::MAX, u32::MAX, &FRAME)].concat();
        let cut = [whole.clone(), record(true, 60, 60, &FRAME[..20])].concat();
        let half_header = [whole, vec![0; 7]].concat();
        let modern = [section(), interface(1), packet(0, 60, 60, &FRAME)].concat();
        let mut huge_block = [modern.clone(), packet(0, 60, 60, &FRAME)].concat();
        huge_block[modern.len() + 4..modern.len() + 8].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut empty_block = [modern.clone(), packet(0, 60, 60, &FRAME)].concat();
        empty_block[modern.len() + 4..modern.len() + 8].fill(0);
        let overlong = [modern, packet(0, u32::MAX, 60, &FRAME)].concat();
        for (file, packets) in [(huge, 1), (cut, 1), (half_header, 1), (huge_block, 1), (empty_block, 1)] {
            let capture = read(&file).unwrap();
            assert_eq!(capture.packets.len(), packets);
            assert!(capture.broken.is_some(), "{capture:?}");
        }
        // The block ends where its own length says.
        let capture = read(&overlong).unwrap();
        assert!(capture.packets.iter().flatten().all(|frame| frame.len() <= FRAME_MOST), "{capture:?}");
    }

    proptest! {
        #[test]
        fn any_octets_are_a_bounded_capture_or_an_error(
            front in 0usize..4,
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let fronts = [Vec::new(), header(true, 1), header(false, 1), [section(), interface(1)].concat()];
            let file = [fronts[front].clone(), bytes].concat();
            if let Ok(capture) = read(&file) {
                prop_assert!(capture.packets.len() <= file.len());
                for frame in capture.packets.iter().flatten() {
                    prop_assert!((FRAME_LEAST..=FRAME_MOST).contains(&frame.len()));
                }
            }
        }
    }
}
