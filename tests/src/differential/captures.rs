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
        let mut unpacked = Vec::new();
        if let Err(error) = MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked) {
            capture.broken = Some(format!("gzip: {error}"));
        }
        bytes = unpacked;
    }
    if let Err(error) = blocks(&bytes, &mut capture) {
        capture.broken = Some(error.to_string());
    }
    Ok(capture)
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
            PcapBlockOwned::LegacyHeader(header) => *links = vec![header.network],
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
