//! An interface's state and features, asked of the kernel by ioctl: of the network namespace that this thread is in,
//! which /sys/class/net need not show.
//!
//! Features have names, and the names have no fixed numbers: the kernel is asked for the list first (ethtool's string
//! sets, include/uapi/linux/ethtool.h).

use std::{
    collections::BTreeSet,
    ffi::CStr,
    io, mem,
    os::{fd::AsRawFd, unix::net::UnixDatagram},
};

use super::{
    far_end::{self, FarEnd},
    interrupts::{self, Interrupt},
    netdev,
};
use crate::kernel::interface_index;

/// What is known of an interface; defaults where it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Administratively up.
    pub is_up: bool,
    /// Takes frames for others as well.
    pub is_promiscuous: bool,
    /// IP MTU in bytes.
    pub mtu: u32,
    /// The driver's name.
    pub driver: Option<String>,
    /// What its driver can do with XDP ([`super::netdev`]), where the kernel tells.
    pub xdp_features: Option<u64>,
    /// Receive queues: how many there are, and how many there could be.
    pub queues: Option<(u32, u32)>,
    /// The interrupts of its receive queues.
    pub interrupts: Vec<Interrupt>,
    /// The features that are on, by the kernel's names (`ethtool -k` shows some under older ones).
    pub features: BTreeSet<String>,
    /// The other end of the pair, of a veth only.
    pub far_end: Option<FarEnd>,
}

impl Interface {
    /// Asks the kernel.
    pub fn read(name: &str) -> Interface {
        let Ok(socket) = UnixDatagram::unbound() else { return Interface::default() };
        let asked = Asked { socket, name };
        let flags = asked.flags().unwrap_or(0);
        let (driver, bus) = asked.driver().map_or((None, None), |(driver, bus)| (Some(driver), Some(bus)));
        let is_veth = driver.as_deref() == Some("veth");
        Interface {
            is_up: flags & libc::IFF_UP != 0,
            is_promiscuous: flags & libc::IFF_PROMISC != 0,
            mtu: asked.mtu().unwrap_or(0),
            driver,
            xdp_features: asked.xdp_features(),
            queues: asked.channels().ok().map(|channels| channels.receive()),
            interrupts: bus.map(|bus| interrupts::of(&bus)).unwrap_or_default(),
            features: asked.features().unwrap_or_default(),
            far_end: is_veth.then(|| interface_index(name).map_or(FarEnd::Unseen, far_end::read)),
        }
    }

    /// Whether a feature is on.
    pub fn has_feature(&self, name: &str) -> bool {
        self.features.contains(name)
    }
}

/// A feature that control ports need to be on or off, by its ethtool command (include/uapi/linux/ethtool.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Feature {
    /// ETHTOOL_STXCSUM: checksums are left to the driver.
    TransmitChecksum = 0x17,
    /// ETHTOOL_SGRO: packets are merged on their way up.
    ReceiveOffload = 0x2c,
}

/// Switches a feature of an interface on or off.
///
/// # Errors
/// The kernel's: no such interface, no CAP_NET_ADMIN.
pub fn set_feature(interface: &str, feature: Feature, on: bool) -> io::Result<()> {
    let asked = Asked { socket: UnixDatagram::unbound()?, name: interface };
    // struct ethtool_value: command and value.
    asked.ethtool(&mut [feature as u32, u32::from(on)])
}

/// Whether an interface is up and its driver has a carrier (ETHTOOL_GLINK), at this moment: what rtnetlink has told may be older.
///
/// # Errors
/// The kernel's: no such interface, a driver that does not tell.
pub fn has_carrier(interface: &str) -> io::Result<bool> {
    let asked = Asked { socket: UnixDatagram::unbound()?, name: interface };
    let mut words = [GLINK, 0];
    asked.ethtool(&mut words)?;
    Ok(words[1] != 0)
}

/// Switches a feature on or off by the kernel's name for it.
///
/// # Errors
/// The kernel's; "unsupported" when the driver keeps it as it is.
pub(super) fn switch_feature(interface: &str, feature: &str, on: bool) -> io::Result<()> {
    let asked = Asked { socket: UnixDatagram::unbound()?, name: interface };
    let names = asked.feature_names()?;
    let index = names.iter().position(|name| name == feature).ok_or(io::ErrorKind::Unsupported)?;
    let blocks = names.len().div_ceil(32);
    // struct ethtool_sfeatures: command, size, then of each block what is to be changed and to what.
    let mut words = vec![0; 2 + 2 * blocks];
    words[0] = SFEATURES;
    words[1] = u32::try_from(blocks).unwrap_or(0);
    words[2 + 2 * (index / 32)] = 1 << (index % 32);
    words[3 + 2 * (index / 32)] = u32::from(on) << (index % 32);
    asked.ethtool(&mut words)?;
    // It succeeds also where the driver keeps what it has.
    if asked.features()?.contains(feature) == on { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Sets flags of an interface (IFF_UP, IFF_PROMISC).
///
/// # Errors
/// The kernel's.
pub(super) fn set_flags(interface: &str, flags: i32) -> io::Result<()> {
    let asked = Asked { socket: UnixDatagram::unbound()?, name: interface };
    let mut request = asked.request()?;
    // The kernel has 16 bits here.
    request.ifr_ifru.ifru_flags = (asked.flags()? | flags) as libc::c_short;
    asked.ioctl(libc::SIOCSIFFLAGS, &mut request)
}

/// Sets the MTU in bytes.
///
/// # Errors
/// The kernel's.
pub(super) fn set_mtu(interface: &str, mtu: u32) -> io::Result<()> {
    let asked = Asked { socket: UnixDatagram::unbound()?, name: interface };
    let mut request = asked.request()?;
    request.ifr_ifru.ifru_mtu = mtu.cast_signed();
    asked.ioctl(libc::SIOCSIFMTU, &mut request)
}

/// Sets how many queues an interface has: combined ones where its driver has such, otherwise as many of each kind.
///
/// # Errors
/// The kernel's.
pub(super) fn set_queues(interface: &str, queues: u32) -> io::Result<()> {
    let asked = Asked { socket: UnixDatagram::unbound()?, name: interface };
    let Channels(mut words) = asked.channels()?;
    words[0] = SCHANNELS;
    let [most_rx, most_tx, most_combined] = [words[1], words[2], words[4]];
    if most_combined > 0 {
        words[8] = queues.min(most_combined);
    } else {
        words[5] = queues.min(most_rx);
        words[6] = queues.min(most_tx);
    }
    asked.ethtool(&mut words)
}

/// The features of an interface that are on.
///
/// # Errors
/// The kernel's.
pub(super) fn features_of(interface: &str) -> io::Result<BTreeSet<String>> {
    Asked { socket: UnixDatagram::unbound()?, name: interface }.features()
}

/// The names of all interfaces.
pub(super) fn names() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: no arguments; the answer is null or a list that ends with a null name and is ours to free.
    let list = unsafe { libc::if_nameindex() };
    let mut next = list;
    // SAFETY: `next` starts at the list's beginning and is only moved past entries that are not its end.
    while let Some(entry) = unsafe { next.as_ref() }.filter(|entry| !entry.if_name.is_null()) {
        // SAFETY: a NUL-terminated name that lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.if_name) };
        names.push(name.to_string_lossy().into_owned());
        // SAFETY: the entry was not the last, so there is one behind it.
        next = unsafe { next.add(1) };
    }
    if !list.is_null() {
        // SAFETY: the list came from if_nameindex and is not used any more.
        unsafe { libc::if_freenameindex(list) };
    }
    names
}

/// ETHTOOL_GDRVINFO fills struct ethtool_drvinfo: 196 bytes; behind the command five strings of 32 bytes, the first the driver's name, the
/// fourth the card's place on its bus.
const GDRVINFO: u32 = 0x03;
const DRVINFO_WORDS: usize = 49;
const BUS_STRING: usize = 3;
/// ETHTOOL_GSTRINGS fills command, set, count and `count` names of 32 bytes.
const GSTRINGS: u32 = 0x1b;
const STRING_WORDS: usize = 8;
/// ETHTOOL_GSSET_INFO fills command, reserved, a 64-bit mask and the length of each set in the mask.
const GSSET_INFO: u32 = 0x37;
/// ETHTOOL_GFEATURES fills command, size and `size` blocks of available, requested, active and never changed bits.
const GFEATURES: u32 = 0x3a;
/// ETHTOOL_SFEATURES.
const SFEATURES: u32 = 0x3b;
/// ETHTOOL_GLINK: struct ethtool_value.
const GLINK: u32 = 0x0a;
/// ETHTOOL_GCHANNELS and ETHTOOL_SCHANNELS: struct ethtool_channels.
const GCHANNELS: u32 = 0x3c;
const SCHANNELS: u32 = 0x3d;

/// struct ethtool_channels: command; most of rx, tx, other and combined queues; how many of each there are.
struct Channels([u32; 9]);

impl Channels {
    /// Queues that receive: how many there are, and how many there could be.
    fn receive(&self) -> (u32, u32) {
        (self.0[5] + self.0[8], self.0[1] + self.0[4])
    }
}

/// ETH_SS_FEATURES.
const FEATURE_NAMES: u32 = 4;

/// An interface and a socket to ask about it.
struct Asked<'a> {
    socket: UnixDatagram,
    name: &'a str,
}

impl Asked<'_> {
    fn flags(&self) -> io::Result<i32> {
        let mut request = self.request()?;
        self.ioctl(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS fills this member.
        Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
    }

    fn mtu(&self) -> io::Result<u32> {
        let mut request = self.request()?;
        self.ioctl(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU fills this member.
        Ok(u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0))
    }

    /// The driver's name, and where the card is on its bus.
    fn driver(&self) -> io::Result<(String, String)> {
        let mut words = [0; DRVINFO_WORDS];
        words[0] = GDRVINFO;
        self.ethtool(&mut words)?;
        let string = |number: usize| text(&words[1 + number * STRING_WORDS..][..STRING_WORDS]);
        Ok((string(0), string(BUS_STRING)))
    }

    fn xdp_features(&self) -> Option<u64> {
        // A kernel that does not tell is no fault of the interface.
        netdev::xdp_features(interface_index(self.name)?).ok().flatten()
    }

    fn channels(&self) -> io::Result<Channels> {
        let mut words = [0; 9];
        words[0] = GCHANNELS;
        self.ethtool(&mut words)?;
        Ok(Channels(words))
    }

    fn features(&self) -> io::Result<BTreeSet<String>> {
        let names = self.feature_names()?;
        let blocks = names.len().div_ceil(32);
        let mut words = vec![0; 2 + 4 * blocks];
        words[0] = GFEATURES;
        words[1] = u32::try_from(blocks).unwrap_or(0);
        self.ethtool(&mut words)?;
        let active: Vec<u32> = words[2..].chunks_exact(4).map(|block| block[2]).collect();
        let is_on = |index: usize| active.get(index / 32).is_some_and(|bits| bits & (1 << (index % 32)) != 0);
        Ok(names.into_iter().enumerate().filter(|(index, _)| is_on(*index)).map(|(_, name)| name).collect())
    }

    fn feature_names(&self) -> io::Result<Vec<String>> {
        let mut words = [GSSET_INFO, 0, 1 << FEATURE_NAMES, 0, 0];
        if cfg!(target_endian = "big") {
            words.swap(2, 3);
        }
        self.ethtool(&mut words)?;
        let count = words[4] as usize;
        let mut words = vec![0; 3 + STRING_WORDS * count];
        words[..3].copy_from_slice(&[GSTRINGS, FEATURE_NAMES, count as u32]);
        self.ethtool(&mut words)?;
        Ok(words[3..].chunks_exact(STRING_WORDS).map(text).collect())
    }

    /// One ethtool command. `words` is the command's whole structure, as long as the kernel will fill it.
    fn ethtool(&self, words: &mut [u32]) -> io::Result<()> {
        let mut request = self.request()?;
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        self.ioctl(libc::SIOCETHTOOL, &mut request)
    }

    fn request(&self) -> io::Result<libc::ifreq> {
        // SAFETY: ifreq is plain old data, for which zero is a value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        let bytes = self.name.as_bytes();
        // The last byte stays NUL.
        if bytes.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
            *to = from.cast_signed() as libc::c_char;
        }
        Ok(request)
    }

    fn ioctl(&self, command: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: the socket is open and the request is an ifreq with a terminated name. Commands that follow its pointer
        // come from `ethtool`, whose callers pass as many words as the command fills: the structures above, whose
        // counts are fixed while the kernel runs.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), command, std::ptr::from_mut(request)) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// A NUL-padded string in words.
fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> =
        words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
