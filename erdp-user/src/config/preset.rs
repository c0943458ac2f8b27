//! Files to begin with: one for each way in which ExpressRoute reaches a site (rules G), with a checklist of what to ask and to prepare.

use serde::{Deserialize, Serialize};

/// A connectivity model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Preset {
    /// Co-located at a cloud exchange.
    Exchange,
    /// Point-to-point Ethernet.
    PointToPoint,
    /// Any-to-any: an IP VPN of a provider.
    IpVpn,
    /// ExpressRoute Direct.
    Direct,
}

impl Preset {
    /// Every model.
    pub const ALL: [Preset; 4] = [Preset::Exchange, Preset::PointToPoint, Preset::IpVpn, Preset::Direct];

    /// The configuration with its checklist.
    pub fn text(self) -> &'static str {
        match self {
            Preset::Exchange => include_str!("../../../deploy/presets/exchange.toml"),
            Preset::PointToPoint => include_str!("../../../deploy/presets/point-to-point.toml"),
            Preset::IpVpn => include_str!("../../../deploy/presets/ip-vpn.toml"),
            Preset::Direct => include_str!("../../../deploy/presets/direct.toml"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Preset;
    use crate::config::Config;

    #[test]
    fn each_preset_is_a_configuration_with_a_checklist() {
        for preset in Preset::ALL {
            let text = preset.text();
            let (config, warnings) = Config::parse(text, Path::new("preset.toml")).unwrap();
            // A provider's AS instead of Microsoft's is worth a word, and the model's point.
            let expected = usize::from(preset == Preset::IpVpn);
            assert_eq!(warnings.len(), expected, "{preset:?}: {warnings:?}");
            assert!(text.lines().filter(|line| line.starts_with("# [ ]")).count() >= 6, "{preset:?}");
            assert_eq!(config.peers().len(), 3, "{preset:?}");
        }
    }
}
