//! Frames of captures: pcap and pcapng, gzipped or not, Ethernet only.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;
use pcap_parser::{
    Block, Linktype, PcapBlockOwned, PcapError, create_reader, pcapng::EnhancedPacketBlock,
    pcapng::SimplePacketBlock,
};

/// The Ethernet frames of one file, and how its reading has ended.
#[derive(Debug, Default)]
pub struct Capture {
    /// Its frames in order.
    pub frames: Vec<Vec<u8>>,
    /// Packets of other link types, which have no Ethernet header.
    pub other_links: u64,
    /// Why the rest of the file could not be read, if so: captures of fuzzers are broken on purpose.
    pub broken: Option<String>,
}

/// All files below a folder whose name says that they are captures.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.to_string_lossy();
            if path.is_dir() {
                folders.push(path);
            } else if [".pcap", ".pcapng", ".cap", ".gz"].iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Capture> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.read_to_end(&mut bytes)?;
    let mut capture = Capture::default();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes = gunzip(bytes, &mut capture);
    }
    if let Err(error) = blocks(&bytes, &mut capture) {
        capture.broken = Some(error.to_string());
    }
    Ok(capture)
}

fn gunzip(packed: Vec<u8>, capture: &mut Capture) -> Vec<u8> {
    let mut unpacked = Vec::new();
    if let Err(error) = MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked) {
        capture.broken = Some(format!("gzip: {error}"));
    }
    unpacked
}

/// The frame with its IP destination (and only that) in a prefix that the edge of the packet tables routes, behind the tag of
/// its attachment; `None` when it is not IP.
pub fn routed(frame: &[u8], tag: Option<u16>, to_customer: bool) -> Option<Vec<u8>> {
    let mut ip_at = 14;
    while matches!(frame.get(ip_at - 2..ip_at)?, [0x81, 0x00] | [0x88, 0xa8]) {
        ip_at += 4;
    }
    let (at, destination): (usize, &[u8]) = match frame.get(ip_at - 2..ip_at)? {
        [0x08, 0x00] if to_customer => (ip_at + 16, &[198, 18, 64, 7]),
        [0x08, 0x00] => (ip_at + 16, &[20, 1, 0, 9]),
        [0x86, 0xdd] if to_customer => {
            (ip_at + 24, &[0xfd, 0, 0, 0x18, 0, 0x64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7])
        }
        [0x86, 0xdd] => (ip_at + 24, &[0x26, 0x03, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]),
        _ => return None,
    };
    let mut routed = frame.to_vec();
    routed.get_mut(at..at + destination.len())?.copy_from_slice(destination);
    // The capture's own tags name no attachment here.
    routed.drain(12..ip_at - 2);
    if let Some(vid) = tag {
        let [high, low] = vid.to_be_bytes();
        routed.splice(12..12, [0x81, 0x00, high, low]);
    }
    Some(routed)
}

fn blocks(bytes: &[u8], capture: &mut Capture) -> Result<()> {
    // The whole file fits the buffer: there is nothing to refill it with.
    let mut reader = create_reader(bytes.len() + 1, bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut links = Vec::new();
    loop {
        let used = match reader.next() {
            Ok((used, block)) => {
                capture.block(&block, &mut links);
                used
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => {
                anyhow::ensure!(!reader.reader_exhausted(), "ends in the middle of a block");
                reader.refill().map_err(|error| anyhow::anyhow!("{error}"))?;
                0
            }
            Err(error) => anyhow::bail!("{error}"),
        };
        if used > 0 {
            reader.consume(used);
        }
    }
}

impl Capture {
    /// Takes the packet of a block; `links` are the link types of the file's interfaces so far.
    fn block(&mut self, block: &PcapBlockOwned<'_>, links: &mut Vec<Linktype>) {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                // The upper four bits tell the length of the frame check sequence (draft-ietf-opsawg-pcap section 4).
                *links = vec![Linktype(header.network.0 & 0x0fff_ffff)];
            }
            PcapBlockOwned::Legacy(packet) => self.packet(links.first(), packet.data, packet.caplen),
            PcapBlockOwned::NG(Block::SectionHeader(_)) => links.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => links.push(interface.linktype),
            PcapBlockOwned::NG(Block::EnhancedPacket(EnhancedPacketBlock {
                if_id, data, caplen, ..
            })) => {
                self.packet(links.get(*if_id as usize), data, *caplen);
            }
            PcapBlockOwned::NG(Block::SimplePacket(SimplePacketBlock { data, origlen, .. })) => {
                self.packet(links.first(), data, *origlen);
            }
            PcapBlockOwned::NG(_) => {}
        }
    }

    /// pcapng pads data to four bytes: `len` is the packet's own.
    fn packet(&mut self, link: Option<&Linktype>, data: &[u8], len: u32) {
        if link == Some(&Linktype::ETHERNET) {
            self.frames.push(data[..data.len().min(len as usize)].to_vec());
        } else {
            self.other_links += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::{Capture, blocks, gunzip, routed};

    const FRAME: [u8; 15] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0, 0x45];

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A file of draft-ietf-opsawg-pcap: header, then each packet with its own.
    fn pcap(link: u32, packets: usize) -> Vec<u8> {
        let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link]);
        for _ in 0..packets {
            file.extend(words(&[0, 0, FRAME.len() as u32, FRAME.len() as u32]));
            file.extend(FRAME);
        }
        file
    }

    /// A section, an Ethernet interface, one of another type, and a packet on each (draft-ietf-opsawg-pcapng).
    fn pcapng() -> Vec<u8> {
        let mut file = words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
        for link in [1, 101] {
            file.extend(words(&[1, 20, link, 65_535, 20]));
        }
        for interface in [0, 1] {
            file.extend(words(&[6, 48, interface, 0, 0, FRAME.len() as u32, FRAME.len() as u32]));
            file.extend(FRAME);
            file.push(0); // padding to four bytes
            file.extend(words(&[48]));
        }
        file
    }

    fn read(bytes: &[u8]) -> Capture {
        let mut capture = Capture::default();
        let ended = blocks(bytes, &mut capture);
        capture.broken = ended.err().map(|error| error.to_string());
        capture
    }

    #[test]
    fn both_formats_give_their_ethernet_frames_without_padding() {
        for (file, frames, other_links) in
            [(pcap(1, 3), 3, 0), (pcap(0x3000_0001, 1), 1, 0), (pcap(101, 2), 0, 2), (pcapng(), 1, 1)]
        {
            let capture = read(&file);
            assert_eq!(capture.frames, vec![FRAME.to_vec(); frames]);
            assert_eq!((capture.other_links, capture.broken), (other_links, None));
        }
    }

    #[test]
    fn a_file_that_ends_early_gives_what_it_has_and_says_so() {
        for (file, cut, frames) in
            [(pcap(1, 2), 1, 1), (pcap(1, 2), 40, 0), ([pcapng(), pcapng()].concat(), 60, 1)]
        {
            let capture = read(&file[..file.len() - cut]);
            assert_eq!(capture.frames.len(), frames, "{cut} bytes less");
            assert!(capture.broken.is_some(), "{cut} bytes less: not said");
        }
    }

    #[test]
    fn gzip_is_unpacked() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&pcap(1, 1)).unwrap();
        let packed = packed.finish().unwrap();
        let mut capture = Capture::default();
        assert_eq!(gunzip(packed.clone(), &mut capture), pcap(1, 1));
        assert_eq!(capture.broken, None);
        gunzip(packed[..packed.len() - 9].to_vec(), &mut capture);
        assert!(capture.broken.is_some());
    }

    #[test]
    fn a_routed_frame_has_only_its_destination_and_tags_changed() {
        let mut tagged = FRAME[..12].to_vec();
        tagged.extend([0x88, 0xa8, 0, 7, 8, 0]);
        tagged.extend([0x45; 20]);
        let routed = routed(&tagged, Some(100), false).unwrap();
        let mut expected = FRAME[..12].to_vec();
        expected.extend([0x81, 0, 0, 100, 8, 0]);
        expected.extend([0x45; 16]);
        expected.extend([20, 1, 0, 9]);
        assert_eq!(routed, expected);
        assert_eq!(super::routed(&tagged[..20], None, true), None);
    }
}
