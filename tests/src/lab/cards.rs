//! Links of network cards: in the VM lab the edge's links are cables between real (emulated) cards of one machine.
//!
//! The machine is started with a pair of cards for each of the edge's links, whose MAC addresses tell link and end
//! ([`mac`]; xtask's `vm/qemu.rs` gives them). The edge gets its card as it is, under the link's name, and parses tags itself; the
//! router at the other end gets its card under another name and an 802.1Q sub-interface of its kernel's under the link's name, or one
//! on top of another for two tags. So every frame passes a driver twice, with tags in it.
//!
//! A cable is cut by asking whoever runs the machine, on the console: `erdp-vm: link edge1 off` (QEMU's `set_link`).

use std::{
    fs,
    io::{Write as _, stdout},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{netns::Namespace, plan::Link};

/// The tags of a link between the edge and a router, outermost first.
pub const MSEE_TAGS: &[u16] = &[100];
/// The customer's link has two (0x8100 both; C4).
pub const CE_TAGS: &[u16] = &[7, 300];

/// The MAC address of a card by the link's number and the end: the edge's is 0.
pub fn mac(number: usize, end: u8) -> String {
    format!("52:54:00:e5:{number:02x}:{end:02x}")
}

/// The card at the router's end of a link whose interface there is called `interface`.
pub fn card_below(interface: &str) -> String {
    format!("{interface}-nic")
}

/// Gives the cards of link `number` to the edge and to the router, and makes the router's sub-interface.
///
/// # Errors
/// When there is no such card, or the kernel has no 802.1Q.
pub fn connect(number: usize, edge: (&Namespace, &str), far: (&Namespace, &str), tags: &[u16]) -> Result<()> {
    give(&mac(number, 0), edge.0, edge.1)?;
    let mut below = card_below(far.1);
    give(&mac(number, 1), far.0, &below)?;
    for (depth, tag) in tags.iter().enumerate() {
        let name = if depth + 1 == tags.len() { far.1.to_owned() } else { format!("{}.{tag}", far.1) };
        far.0.ip(&format!("link add link {below} name {name} type vlan id {tag}"))?;
        far.0.ip(&format!("link set {name} up mtu 1500"))?;
        below = name;
    }
    Ok(())
}

/// Cuts or mends the cable of link `number`.
///
/// # Errors
/// When nobody can be asked.
pub fn cut(number: usize, cut: bool) -> Result<()> {
    let state = if cut { "off" } else { "on" };
    for end in ["edge", "far"] {
        let mut console = stdout().lock();
        writeln!(console, "erdp-vm: link {end}{number} {state}").context("cannot write to the console")?;
        console.flush().context("cannot write to the console")?;
        drop(console);
        // A kernel tells of one carrier lost at once and of others up to a second later (net/core/link_watch.c); the two ends of
        // a cable are two machines' affair everywhere but here.
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Moves the card with this MAC address into a namespace under a new name; its MTU has room for two tags.
fn give(mac: &str, namespace: &Namespace, name: &str) -> Result<()> {
    let card = card(mac)?;
    super::netns::run(std::process::Command::new("ip").args([
        "link",
        "set",
        &card,
        "netns",
        namespace.name(),
        "name",
        name,
    ]))?;
    // The longest rings there are, or an emulated card loses frames whenever its processor has to wait. Not every driver can.
    let _as_it_is = namespace.exec("ethtool", &["-G", name, "rx", "4096", "tx", "4096"]);
    namespace.ip(&format!("link set {name} up mtu 1508")).map(drop)
}

/// The name of the card with this MAC address.
///
/// # Errors
/// When there is none.
pub fn card(mac: &str) -> Result<String> {
    let entries = fs::read_dir("/sys/class/net").context("cannot read /sys/class/net")?;
    let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let has = |name: &String| {
        fs::read_to_string(format!("/sys/class/net/{name}/address")).is_ok_and(|found| found.trim() == mac)
    };
    names.find(has).with_context(|| {
        format!("no network card has the MAC address {mac}: `cargo xtask run --vm` starts a machine with such cards")
    })
}

/// The links that cables carry, by their numbers, with their tags.
pub fn number_of(link: &Link) -> Option<(usize, &'static [u16])> {
    use super::plan::{CE, PRIMARY, SECONDARY};
    let rows = [(CE, CE_TAGS), (PRIMARY, MSEE_TAGS), (SECONDARY, MSEE_TAGS)];
    let found = rows.iter().enumerate().find(|(_, (row, _))| row.near == link.near)?;
    Some((found.0, found.1.1))
}
