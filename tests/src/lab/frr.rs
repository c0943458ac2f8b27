//! A router that is FRR: zebra and bgpd with their own sockets and files, so that any number of them run side by side.
//!
//! FRR's defaults want a policy on every external session and a route behind every announced network; both are switched off,
//! because the lab's MSEE announces what it has no route for. zebra's filter lets only the lab's own networks into the kernel.

use std::{
    fmt::Write as _,
    fs::{self, metadata},
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;

use super::{Lab, bird::Router, netns::Namespace, plan, process::Process};

/// Where Debian puts the daemons.
const DAEMONS: &str = "/usr/lib/frr";

/// Starts zebra and bgpd for `router`. zebra first: bgpd learns the interfaces from it.
///
/// # Errors
/// When a daemon does not start.
pub fn start(lab: &Lab, router: &Router) -> Result<Vec<Process>> {
    let folder = lab.folder().join(router.namespace);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    hand_over(&folder)?;
    let mut processes = Vec::new();
    for (daemon, config) in [("zebra", zebra()), ("bgpd", bgpd(router)?)] {
        let file = folder.join(format!("{daemon}.conf"));
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = lab.namespace(router.namespace)?.command(Path::new(DAEMONS).join(daemon))?;
        command.arg("-f").arg(&file).arg("-i").arg(folder.join(format!("{daemon}.pid")));
        command.arg("-z").arg(folder.join("zserv.api")).arg("--vty_socket").arg(&folder);
        // No TCP console.
        command.args(["-P", "0", "--log", "stdout"]);
        processes.push(Process::start(&format!("{daemon}-{}", router.namespace), command, lab.folder())?);
        super::wait_for(&folder.join(format!("{daemon}.vty")))?;
    }
    Ok(processes)
}

/// Gives a folder to Debian's user frr: the daemons give up root for it, and make their sockets and files in there.
///
/// # Errors
/// When there is no such user.
pub fn hand_over(folder: &Path) -> Result<()> {
    let frr = metadata("/etc/frr").context("cannot tell FRR's user: is the Debian package frr installed?")?;
    chown(folder, Some(frr.uid()), Some(frr.gid()))
        .with_context(|| format!("cannot hand over {}", folder.display()))
}

/// Asks a running FRR by `vtysh`.
///
/// # Errors
/// When it does not answer.
pub fn ask(lab: &Lab, namespace: &str, words: &str) -> Result<String> {
    let folder = lab.folder().join(namespace);
    let mut vtysh = Command::new("vtysh");
    vtysh.arg("--vty_socket").arg(&folder).args(["-c", words]);
    let output = vtysh.output().context("cannot start vtysh")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Starts zebra, staticd and bgpd beside another router in a namespace, bgpd without a port of its own, and gives them a file of
/// configuration as `vtysh -f` reads it. Their files are in `parent`/frr.
///
/// # Errors
/// When a daemon does not start, or does not like what the file says.
pub fn start_beside(namespace: &Namespace, parent: &Path, config: &Path) -> Result<Vec<Process>> {
    let folder = parent.join("frr");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    hand_over(&folder)?;
    let empty = folder.join("empty.conf");
    fs::write(&empty, "").with_context(|| format!("cannot write {}", empty.display()))?;
    let mut processes = Vec::new();
    for daemon in ["zebra", "staticd", "bgpd"] {
        let mut command = namespace.command(Path::new(DAEMONS).join(daemon))?;
        command.arg("-f").arg(&empty).arg("-i").arg(folder.join(format!("{daemon}.pid")));
        command.arg("-z").arg(folder.join("zserv.api")).arg("--vty_socket").arg(&folder);
        command.args(["-P", "0", "--log", "stdout"]);
        if daemon == "bgpd" {
            command.args(["-p", "0"]);
        }
        processes.push(Process::start(&format!("{daemon}-beside"), command, parent)?);
        super::wait_for(&folder.join(format!("{daemon}.vty")))?;
    }
    let mut vtysh = Command::new("vtysh");
    vtysh.arg("--vty_socket").arg(&folder).arg("-f").arg(config);
    let output = vtysh.output().context("cannot start vtysh")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // vtysh passes over what no daemon understands, and says so.
    ensure!(output.status.success() && !said.contains('%'), "{}: {said}", config.display());
    Ok(processes)
}

/// Asks a running FRR whose files are in `folder`.
///
/// # Errors
/// When it does not answer.
pub fn ask_in(folder: &Path, words: &[&str]) -> Result<String> {
    let mut vtysh = Command::new("vtysh");
    vtysh.arg("--vty_socket").arg(folder);
    words.iter().for_each(|words| {
        vtysh.args(["-c", words]);
    });
    let output = vtysh.output().context("cannot start vtysh")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn zebra() -> String {
    format!(
        "ip prefix-list LAB seq 5 permit {} le 32\n\
         ipv6 prefix-list LAB6 seq 5 permit {} le 128\n\
         route-map LAB permit 10\n match ip address prefix-list LAB\n!\n\
         route-map LAB6 permit 10\n match ipv6 address prefix-list LAB6\n!\n\
         ip protocol bgp route-map LAB\n\
         ipv6 protocol bgp route-map LAB6\n",
        plan::LAB_IPV4,
        plan::LAB_IPV6
    )
}

fn bgpd(router: &Router) -> Result<String> {
    // First: FRR looks at a route-map that comes after the neighbours that use it five seconds later, and advertises nothing before.
    let mut text = format!(
        "route-map OUT permit 10\n set metric 0\n!\nrouter bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         no bgp default ipv4-unicast\n timers bgp 20 60\n \
         coalesce-time 50\n",
        router.asn, router.id
    );
    for neighbour in &router.neighbours {
        let remote = neighbour.remote;
        writeln!(text, " neighbor {remote} remote-as {}", neighbour.asn)?;
        writeln!(text, " neighbor {remote} timers connect 2\n neighbor {remote} advertisement-interval 0")?;
    }
    for (family, is_ipv4) in [("ipv4", true), ("ipv6", false)] {
        writeln!(text, " address-family {family} unicast")?;
        for prefix in router.announced.iter().filter(|prefix| prefix.addr().is_ipv4() == is_ipv4) {
            network(&mut text, prefix)?;
        }
        for neighbour in
            router.neighbours.iter().filter(|neighbour| neighbour.remote.contains('.') == is_ipv4)
        {
            let remote = neighbour.remote;
            writeln!(text, "  neighbor {remote} activate\n  neighbor {remote} route-map OUT out")?;
        }
        writeln!(text, " exit-address-family")?;
    }
    Ok(text)
}

fn network(text: &mut String, prefix: &IpNet) -> Result<()> {
    writeln!(text, "  network {prefix}").context("cannot write the configuration")
}
