//! A switch for tagged links, because the lab's kernels may have no 802.1Q (module 8021q): the far end of a tagged link.
//!
//! ```text
//! edge: msee1 (TAP) --- wire --- this thread --- v100 (TAP) in one namespace
//!                                           \--- v200 (TAP) in another
//! ```
//! All of them are TAP devices whose file this program holds. A frame that comes from the edge loses its tags and goes to the port
//! that has them; what comes from a port gets its tags and goes to the edge. Nothing of ERDP is used here, so that what is
//! found is not found by the same mistake. TAP is also another driver than veth, with native XDP of its own.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    mem,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::OpenOptionsExt as _,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{enter, netns::Namespace};

/// How often a switch looks whether it is to end, in milliseconds.
const PATIENCE_MS: u16 = 100;
/// Longer than any frame of the lab.
const FRAME_MAX: usize = 4_096;

/// One tagged port: who is behind these tags.
#[derive(Debug)]
pub struct Port<'n> {
    /// The tags, outer first.
    pub tags: Vec<u16>,
    /// Where it is.
    pub namespace: &'n Namespace,
    /// What it is called there.
    pub interface: &'static str,
}

/// Looks at a frame from the edge, tags and all; `true`: it is no one else's, and goes no further.
pub type Watch = dyn Fn(&[u8]) -> bool + Send + Sync;

/// Frames that have passed, by direction.
#[derive(Debug, Default)]
struct Seen {
    from_edge: AtomicU64,
    to_edge: AtomicU64,
}

/// A running switch; dropping it ends it, and its devices go with it.
#[derive(Debug)]
pub struct TagSwitch {
    wire: Arc<File>,
    stop: Arc<AtomicBool>,
    seen: Arc<Vec<Seen>>,
    strangers: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl TagSwitch {
    /// Makes `wire` in the edge's namespace and all ports, brings them up and begins. The wire's MTU leaves room for two tags.
    ///
    /// # Errors
    /// When a device cannot be made (no root, no /dev/net/tun).
    pub fn start(edge: &Namespace, wire: &'static str, ports: &[Port<'_>]) -> Result<TagSwitch> {
        TagSwitch::start_watched(edge, wire, ports, Arc::new(|_: &[u8]| false))
    }

    /// The same; `watch` looks at each frame with known tags before it goes to its port.
    ///
    /// # Errors
    /// As [`TagSwitch::start`].
    pub fn start_watched(
        edge: &Namespace,
        wire: &'static str,
        ports: &[Port<'_>],
        watch: Arc<Watch>,
    ) -> Result<TagSwitch> {
        let wire_file = Arc::new(tap(edge, wire)?);
        edge.ip(&format!("link set {wire} mtu 1504 up"))?;
        let mut files = Vec::new();
        for port in ports {
            files.push((tag_bytes(&port.tags), tap(port.namespace, port.interface)?));
            port.namespace.ip(&format!("link set {} up", port.interface))?;
        }
        let (stop, strangers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let seen: Arc<Vec<Seen>> = Arc::new(ports.iter().map(|_| Seen::default()).collect());
        let work = Work {
            wire: wire_file.clone(),
            ports: files,
            seen: seen.clone(),
            strangers: strangers.clone(),
            watch,
        };
        let ends = stop.clone();
        let thread = thread::spawn(move || work.run(&ends));
        Ok(TagSwitch { wire: wire_file, stop, seen, strangers, thread: Some(thread) })
    }

    /// Frames of a port (by its place in the list): from the edge and to the edge.
    pub fn seen(&self, port: usize) -> (u64, u64) {
        self.seen.get(port).map_or((0, 0), |seen| {
            (seen.from_edge.load(Ordering::Relaxed), seen.to_edge.load(Ordering::Relaxed))
        })
    }

    /// Puts a frame on the wire towards the edge as it is, beside those of the ports and not counted with them.
    ///
    /// # Errors
    /// When the device does not take it.
    pub fn inject(&self, frame: &[u8]) -> Result<()> {
        (&*self.wire).write_all(frame).context("the wire does not take a frame")
    }

    /// Tagged frames from the edge that no port has the tags of.
    pub fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }
}

impl Drop for TagSwitch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ended = thread.join();
        }
    }
}

struct Work {
    wire: Arc<File>,
    ports: Vec<(Vec<u8>, File)>,
    seen: Arc<Vec<Seen>>,
    strangers: Arc<AtomicU64>,
    watch: Arc<Watch>,
}

impl Work {
    fn run(self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let files = std::iter::once(&*self.wire).chain(self.ports.iter().map(|(_, file)| file));
            let mut waited: Vec<PollFd<'_>> =
                files.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN)).collect();
            // An interrupted wait is as good as one that has ended.
            let _ready = poll(&mut waited, PollTimeout::from(PATIENCE_MS));
            while let Some(mut frame) = receive(&self.wire) {
                // An S-tag of either ethertype is the same tag: an ICMP error goes back with those that its cause had.
                if frame[12..14] == [0x88, 0xa8] {
                    frame[12..14].copy_from_slice(&[0x81, 0]);
                }
                self.untag(&frame);
            }
            for (seen, (tags, file)) in self.seen.iter().zip(&self.ports) {
                while let Some(frame) = receive(file) {
                    let tagged = [&frame[..12], tags, &frame[12..]].concat();
                    send(&self.wire, &tagged, &seen.to_edge);
                }
            }
        }
    }

    fn untag(&self, frame: &[u8]) {
        let whose = |tags: &[u8]| frame[12..].starts_with(tags) && frame.get(12 + tags.len()) != Some(&0x81);
        let found = self.seen.iter().zip(&self.ports).find(|(_, (tags, _))| whose(tags));
        match found {
            Some((seen, _)) if (self.watch)(frame) => {
                seen.from_edge.fetch_add(1, Ordering::Relaxed);
            }
            Some((seen, (tags, file))) => {
                send(file, &[&frame[..12], &frame[12 + tags.len()..]].concat(), &seen.from_edge);
            }
            // The edge's kernel says a few things of its own on the interface, without tags.
            None if frame[12] != 0x81 => {}
            None => {
                self.strangers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The tags as they stand in a frame: ethertype 0x8100 on each (requirement C4).
fn tag_bytes(tags: &[u16]) -> Vec<u8> {
    tags.iter().flat_map(|vid| [&[0x81, 0][..], &vid.to_be_bytes()].concat()).collect()
}

/// The next frame that waits; frames without a whole Ethernet header do not occur.
fn receive(mut file: &File) -> Option<Vec<u8>> {
    let mut frame = vec![0; FRAME_MAX];
    let len = file.read(&mut frame).ok().filter(|len| *len >= 14)?;
    frame.truncate(len);
    Some(frame)
}

/// A device that is down takes nothing, as a cable that is not plugged in.
fn send(mut file: &File, frame: &[u8], seen: &AtomicU64) {
    match file.write_all(frame) {
        Ok(()) => drop(seen.fetch_add(1, Ordering::Relaxed)),
        Err(error) if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EIO) => {}
        Err(error) => eprintln!("warning: the tag switch has lost a frame: {error}"),
    }
}

/// A TAP device in a namespace, which lives as long as its file.
fn tap(namespace: &Namespace, name: &'static str) -> Result<File> {
    enter::run(namespace.name(), move || {
        // Without O_NONBLOCK the driver would build a packet buffer before it runs XDP (tun_can_build_skb, Linux 6.18).
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .context("cannot open /dev/net/tun")?;
        // SAFETY: ifreq is plain old data, for which zero is a value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the file is open, and the request is an ifreq whose name ends with a zero (names of the lab are short).
        let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
        if made < 0 {
            bail!("cannot make the TAP device {name}: {}", std::io::Error::last_os_error());
        }
        Ok(file)
    })
}
