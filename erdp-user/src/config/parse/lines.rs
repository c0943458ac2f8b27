//! The lines on which circuits, peerings and attachments begin, for findings about them.

use std::{collections::HashMap, ops::Range};

use super::super::raw::{RawAttachment, RawCircuit, RawConfig};
use super::super::values::VlanId;
use super::{optional, tags};

/// The line, counted from 1, of each circuit's name, each peering's table and each attachment's interface, by the names that findings have:
/// `contoso`, `contoso/private`, `eth0.7`. Empty for a text that is no configuration.
pub fn lines(text: &str) -> HashMap<String, usize> {
    let Ok(raw) = toml::from_str::<RawConfig>(text) else { return HashMap::new() };
    let of_circuits = raw.circuit.iter().flat_map(|table| circuit(table.get_ref()));
    let of_attachments = raw.attachment.iter().filter_map(|table| attachment(table.get_ref()));
    let mut list: Vec<(String, Range<usize>)> = of_circuits.chain(of_attachments).collect();
    list.sort_by_key(|(_, at)| at.start);
    let (mut line, mut before) = (1, 0);
    let mut lines = HashMap::new();
    for (name, at) in list {
        line += text.get(before..at.start).unwrap_or_default().matches('\n').count();
        before = at.start;
        lines.entry(name).or_insert(line);
    }
    lines
}

fn circuit(raw: &RawCircuit) -> Vec<(String, Range<usize>)> {
    let name = raw.name.get_ref();
    let peering = |kind: &str| format!("{name}/{kind}");
    let mut list = vec![(name.clone(), raw.name.span())];
    list.extend(raw.private.iter().map(|table| (peering("private"), table.span())));
    list.extend(raw.microsoft.iter().map(|table| (peering("microsoft"), table.span())));
    list
}

fn attachment(raw: &RawAttachment) -> Option<(String, Range<usize>)> {
    let at = raw.interface.span();
    let vlan = |raw| optional(raw, "vlan", |number| VlanId::parse(*number)).ok();
    let tags = tags(vlan(raw.s_vlan.as_ref())?, vlan(raw.vlan.as_ref())?, &at, "vlan").ok()?;
    Some((format!("{}{tags}", raw.interface.get_ref()), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_circuit_peering_and_attachment_has_its_line_however_it_is_written() {
        let text = "asn = 1\n[[circuit]]\nbandwidth = \"1G\"\nname = 'a'\n[circuit.private]\nvlan = 1\n\n[[circuit]]\n\"name\" = \"b\" # name\n\
                    bandwidth = \"1G\"\nprivate = { vlan = 2 }\n[circuit.microsoft] # second\nvlan = 3\n[circuit.inventory]\nvnets = [\n\
                    { name = \"a\" },\n]\n[[attachment]]\ninterface = \"eth0\"\npeerings = []\n[[attachment]]\npeerings = []\ninterface = 'eth0'\n\
                    vlan = 7\n[[attachment]]\nvlan = 8\ns-vlan = 9\ninterface=\"eth0\"\npeerings = []\n";
        let found = lines(text);
        let mut found: Vec<(&str, usize)> = found.iter().map(|(name, line)| (name.as_str(), *line)).collect();
        found.sort_by_key(|(_, line)| *line);
        let wanted = [
            ("a", 4),
            ("a/private", 5),
            ("b", 9),
            ("b/private", 11),
            ("b/microsoft", 12),
            ("eth0", 19),
            ("eth0.7", 23),
            ("eth0.9.8", 28),
        ];
        assert_eq!(found, wanted);
        assert!(lines("asn = ").is_empty());
    }
}
