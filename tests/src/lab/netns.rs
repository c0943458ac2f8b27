//! A network namespace by plain `ip netns`, and the links between two of them.
//!
//! What XDP on veth asks for (measured on kernel 6.18): as many transmit and receive queues as cores at both ends, or a native
//! attach is refused; generic receive offload at the far end of a link that XDP redirects to, or every frame is dropped;
//! checksums computed by the sender (`tx off`), because no hardware comes after; tags in the frame and not beside it
//! (`txvlan off`).

use std::{fs, path::PathBuf, process::Command, thread};

use anyhow::{Context as _, Result, bail};

use super::{
    cleanup::{self, Guard, Leftover},
    enter,
};

/// A named network namespace, deleted when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    _guard: Guard,
}

impl Namespace {
    /// Makes the namespace `name`, with its loopback up and IPv6 addresses usable at once.
    ///
    /// # Errors
    /// When `ip netns` refuses (usually: not root).
    pub fn add(name: &str) -> Result<Namespace> {
        let ((), guard) = cleanup::guarded(|| {
            run(Command::new("ip").args(["netns", "add", name]))?;
            Ok(((), Leftover::Namespace(name.to_owned())))
        })?;
        let namespace = Namespace { name: name.to_owned(), _guard: guard };
        for kind in ["all", "default"] {
            namespace.sysctl(&format!("ipv6/conf/{kind}/accept_dad"), "0")?;
            namespace.sysctl(&format!("ipv6/conf/{kind}/accept_ra"), "0")?;
            // An interface that goes down and up again keeps its IPv6 addresses, as it keeps its IPv4 ones.
            namespace.sysctl(&format!("ipv6/conf/{kind}/keep_addr_on_down"), "1")?;
            namespace.sysctl(&format!("ipv4/conf/{kind}/rp_filter"), "0")?;
        }
        namespace.forward(false)?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the kernel a router in here, or not.
    ///
    /// # Errors
    /// When a sysctl cannot be written.
    pub fn forward(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.sysctl("ipv4/ip_forward", value)?;
        self.sysctl("ipv6/conf/all/forwarding", value)
    }

    /// Writes /proc/sys/net/`key` in here.
    ///
    /// # Errors
    /// Names the key.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys/net").join(key);
        let value = value.to_owned();
        enter::run(&self.name, move || {
            fs::write(&path, &value).with_context(|| format!("cannot write {value} to {}", path.display()))
        })
    }

    /// Runs `ip` with these words in here.
    ///
    /// # Errors
    /// `ip`'s own message.
    pub fn ip(&self, words: &str) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace()))
    }

    /// Runs a program in here to its end and returns what it prints.
    ///
    /// # Errors
    /// The program's own message.
    pub fn exec(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        enter::prepare(&mut command, &self.name)?;
        run(&mut command)
    }

    /// A command that will run in here, for a process that stays.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = Command::new(program);
        enter::prepare(&mut command, &self.name)?;
        Ok(command)
    }

    /// The MAC address of `interface`.
    ///
    /// # Errors
    /// When there is no such interface, or it has none.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        let printed = self.ip(&format!("-oneline link show dev {interface}"))?;
        let text = printed.split("link/ether ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let bytes = text.context("no MAC address")?.split(':').map(|byte| u8::from_str_radix(byte, 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
        bytes.try_into().map_err(|_| anyhow::anyhow!("the MAC address has not six bytes: {printed}"))
    }

    /// Adds an address to `interface`.
    ///
    /// # Errors
    /// `ip`'s own message.
    pub fn address(&self, interface: &str, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("address replace {address} dev {interface}{nodad}")).map(drop)
    }
}

/// One end of a link: the namespace and the interface's name in it.
pub type End<'a> = (&'a Namespace, &'a str);

/// Connects two namespaces by a veth pair that XDP can be attached to at either end; both ends are up.
///
/// # Errors
/// `ip`'s or `ethtool`'s own message.
pub fn connect(one: End<'_>, other: End<'_>) -> Result<()> {
    let queues = thread::available_parallelism().map_or(1, usize::from);
    let queues = format!("numtxqueues {queues} numrxqueues {queues}");
    one.0.ip(&format!(
        "link add {} mtu 1500 {queues} type veth peer name {} mtu 1500 netns {} {queues}",
        one.1, other.1, other.0.name
    ))?;
    for (namespace, interface) in [one, other] {
        namespace.ip(&format!("link set {interface} up"))?;
    }
    // After both are up: only then does switching receive offload on tell the far end that it may be redirected to (seen on
    // kernel 6.18: XDP_REDIRECT failed with EOPNOTSUPP until the link had once been down and up).
    for (namespace, interface) in [one, other] {
        let offloads = ["-K", interface, "gro", "on", "tx", "off", "txvlan", "off"];
        namespace.exec("ethtool", &offloads).context("cannot set offloads")?;
    }
    Ok(())
}

/// Runs a command to its end and returns what it prints.
///
/// # Errors
/// The program's own message.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}: is it installed?"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
