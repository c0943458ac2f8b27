//! Target "config": any text as a configuration. It is refused with file, reason and remedy, or it is one of which everything can be
//! made that the daemon makes of it, is shown, and shows no key.

use std::path::Path;

use anyhow::{Result, ensure};
use erdp::{
    config::{Config, shown},
    rib::{Rib, RibConfig},
};

use super::must;

/// Longer ones only take longer.
const BYTES_MOST: usize = 16 << 10;
/// A folder that is not there, so that no key is read from the machine that fuzzes.
const FILE: &str = "/nonexistent/erdp.toml";

/// The text.
pub fn run(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(BYTES_MOST)];
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A name that leads elsewhere would be opened.
    if text.contains("md5-file") && text.contains("../") {
        return;
    }
    must(check(text));
}

fn check(text: &str) -> Result<()> {
    match Config::parse(text, Path::new(FILE)) {
        Ok((config, warnings)) => {
            for warning in &warnings {
                ensure!(!warning.to_string().is_empty(), "{warning:?}");
            }
            let values = shown::values(&config);
            ensure!(!values.is_empty(), "a configuration of nothing");
            for key in keys(text) {
                let is_there_once = text.matches(key.as_str()).count() == 1;
                let is_shown = values.iter().any(|shown| shown.value.contains(&key));
                ensure!(!is_shown || key.len() < 8 || !is_there_once, "a key is shown");
            }
            let peers = config.peers();
            let mut rib = Rib::new(RibConfig::new(&config));
            for peer in &peers {
                ensure!(peer.session.local != peer.session.remote, "{:?}", peer.session);
                rib.peer_down(peer.session.id);
            }
            let (again, _) = Config::parse(text, Path::new(FILE))?;
            ensure!(shown::text(&again) == shown::text(&config), "the same text means something else");
        }
        Err(error) => {
            let said = error.to_string();
            ensure!(said.contains("erdp.toml"), "no file in {said:?}");
            ensure!(said.trim().lines().count() > 0, "{error:?}");
        }
    }
    Ok(())
}

/// Values of `md5`, as far as they can be seen.
fn keys(text: &str) -> Vec<String> {
    let quoted = |after: &str| {
        after
            .trim_start()
            .strip_prefix('=')?
            .trim_start()
            .strip_prefix('"')?
            .split('"')
            .next()
            .map(str::to_owned)
    };
    text.split("md5").skip(1).filter_map(quoted).collect()
}

/// The example, the presets and the one beside FRR.
pub fn seeds() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let names = [
        "erdp.toml",
        "frr/edge.toml",
        "presets/point-to-point.toml",
        "presets/exchange.toml",
        "presets/ip-vpn.toml",
        "presets/direct.toml",
    ];
    names.iter().filter_map(|name| std::fs::read(root.join(name)).ok()).collect()
}
