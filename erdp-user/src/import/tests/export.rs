//! A configuration as Azure would show it: the round trip of a comparison.

use serde_json::{Value, json};

use crate::{
    config::{Billing, Circuit, CircuitKind, Config, LinkRole, PeeringKind, Provisioning, Sku},
    import::ours::Live,
};

/// What `az network express-route show` and `port show` would print of it, and the tables of the MSEEs of each link, if a router runs with it.
pub(super) fn export(config: &Config, live: &Live) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for circuit in &config.circuits {
        files.push((format!("{}.json", circuit.name), of(config, circuit).to_string()));
        if let (Some(port), Some(kind)) = (&circuit.inventory.port, circuit.kind) {
            let gbps = if kind == CircuitKind::Direct100G { 100 } else { 10 };
            let encapsulation = if circuit.s_vlan.is_some() { "QinQ" } else { "Dot1Q" };
            let port = json!({
                "name": port, "bandwidthInGbps": gbps, "encapsulation": encapsulation, "links": [],
                "peeringLocation": circuit.inventory.locations.first(),
            });
            files.push((format!("{}-port.json", circuit.name), port.to_string()));
        }
        for kind in PeeringKind::ALL {
            for role in LinkRole::ALL {
                tables(config, circuit, kind, role, live, &mut files);
            }
        }
    }
    files
}

fn of(config: &Config, circuit: &Circuit) -> Value {
    let tier = match circuit.sku {
        Sku::Standard => "Standard",
        Sku::Premium => "Premium",
        Sku::Local => "Local",
    };
    let family = circuit.inventory.billing.map(|it| match it {
        Billing::Metered => "MeteredData",
        Billing::Unlimited => "UnlimitedData",
    });
    let provisioning = match circuit.provisioning {
        Provisioning::NotProvisioned => "NotProvisioned",
        Provisioning::Provisioning => "Provisioning",
        Provisioning::Provisioned => "Provisioned",
    };
    let mut value = json!({
        "name": circuit.name,
        "circuitProvisioningState": if circuit.enabled { "Enabled" } else { "Disabled" },
        "serviceProviderProvisioningState": provisioning,
        "sku": {"tier": tier, "family": family},
        "stag": circuit.s_vlan.map(|tag| tag.as_u16()),
        "peerings": PeeringKind::ALL.iter().filter_map(|kind| peering(config, circuit, *kind)).collect::<Vec<_>>(),
    });
    let mbps = circuit.bandwidth.0 / 1_000_000;
    match &circuit.inventory.port {
        Some(port) => {
            value["bandwidthInGbps"] = json!(mbps as f64 / 1_000.0);
            value["expressRoutePort"] = json!({"id": format!("/x/expressRoutePorts/{port}")});
        }
        None => {
            value["serviceProviderProperties"] =
                json!({"bandwidthInMbps": mbps, "peeringLocation": circuit.inventory.locations.first()});
        }
    }
    value
}

fn peering(config: &Config, circuit: &Circuit, kind: PeeringKind) -> Option<Value> {
    let it = circuit.peering(kind)?;
    let subnets = |pair: Option<crate::config::LinkPair>| {
        pair.map(|pair| (pair.primary.subnet.to_string(), pair.secondary.subnet.to_string()))
    };
    let (fourth, sixth) = (subnets(it.ipv4), subnets(it.ipv6));
    let prefixes: Vec<Value> = circuit
        .inventory
        .public_prefixes
        .iter()
        .map(|it| {
            let state = it.validation.map(|state| state.as_str().replace('-', ""));
            json!({"prefix": it.prefix, "validationState": state})
        })
        .collect();
    let listed: Vec<String> =
        circuit.inventory.public_prefixes.iter().map(|it| it.prefix.to_string()).collect();
    let microsoft = (kind == PeeringKind::Microsoft)
        .then(|| json!({"advertisedPublicPrefixes": listed, "advertisedPublicPrefixInfo": prefixes}));
    Some(json!({
        "peeringType": if kind == PeeringKind::Private { "AzurePrivatePeering" } else { "MicrosoftPeering" },
        "state": "Enabled", "peerASN": config.asn.0, "azureASN": it.peer_asn.0, "vlanId": it.vlan.map_or(0, |tag| tag.as_u16()),
        "primaryPeerAddressPrefix": fourth.as_ref().map(|it| &it.0),
        "secondaryPeerAddressPrefix": fourth.as_ref().map(|it| &it.1),
        "ipv6PeeringConfig": sixth.map(|it| json!({"primaryPeerAddressPrefix": it.0, "secondaryPeerAddressPrefix": it.1})),
        "microsoftPeeringConfig": microsoft,
    }))
}

/// Only of links whose session the router has.
fn tables(
    config: &Config,
    circuit: &Circuit,
    kind: PeeringKind,
    role: LinkRole,
    live: &Live,
    files: &mut Vec<(String, String)>,
) {
    let Some(ends) = circuit.peering(kind).and_then(|it| it.addresses(role).find(|it| it.ours.is_ipv4()))
    else {
        return;
    };
    let Some(session) = live.sessions.get(&ends.theirs) else { return };
    let mac = |mac: Option<[u8; 6]>| {
        mac.map_or("Incomplete".to_owned(), |mac| mac.map(|octet| format!("{octet:02X}")).join("-"))
    };
    let own = live.macs.get(&format!("{} {}", circuit.name, role.as_str())).copied();
    let from_us = session.advertised.iter().map(|prefix| {
        json!({"network": prefix, "nextHop": ends.ours, "locPrf": "", "path": format!("{}", config.asn.0)})
    });
    let azures = session
        .received
        .iter()
        .map(|prefix| json!({"network": prefix, "nextHop": "10.1.255.12", "locPrf": "100", "path": "65515"}));
    let count = session.advertised.len().to_string();
    let name = |what: &str| format!("{}-{}-{}-{what}.json", circuit.name, kind.as_str(), role.as_str());
    let list = |rows: Vec<Value>| json!({ "value": rows }).to_string();
    files.push((name("routes"), list(from_us.chain(azures).collect())));
    files.push((
        name("summary"),
        list(vec![
            json!({"neighbor": ends.ours, "as": config.asn.0, "v": 4, "statePfxRcd": count, "upDown": "1d"}),
        ]),
    ));
    files.push((
        name("arp"),
        list(vec![
            json!({"age": 1, "interface": "On-Prem", "ipAddress": ends.ours, "macAddress": mac(own)}),
            json!({"age": 0, "interface": "Microsoft", "ipAddress": ends.theirs, "macAddress": mac(session.mac)}),
        ]),
    ));
}
