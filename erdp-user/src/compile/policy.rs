//! What chains through services add to the routing tables: from the configuration's terms to those of the forwarding table.

use crate::{
    config::{Attachment, ChainStart, Config, DomainId},
    fib::{NextHopKey, Source},
};

/// What the chains add to an attachment's table: at their starts the way there, at their services the way back.
pub fn chained(config: &Config, attachment: &Attachment) -> Vec<Source> {
    let mut sources = Vec::new();
    for chain in &config.chains {
        let Some(via) = config.attachments.get(chain.via) else { continue };
        let via_id = config.ce_attachment(chain.via);
        let starts_here = match chain.from {
            ChainStart::Attachment(index) => config.ce_attachment(index) == attachment.id,
            ChainStart::Peering(domain) => attachment.side.is_msee() && attachment.domains.contains(&domain),
        };
        if starts_here {
            let next_hops = via.service.iter().flat_map(|service| service.next_hops.iter());
            let key = |address| NextHopKey { attachment: via_id, address };
            sources.push(Source::Through(index(chain.to), next_hops.copied().map(key).collect()));
        }
        if via_id == attachment.id {
            match chain.from {
                ChainStart::Peering(domain) => sources.push(Source::Microsoft(index(domain))),
                ChainStart::Attachment(start) => {
                    let domains = config.attachments.get(start).map(|it| it.domains.as_slice());
                    let on = config.ce_attachment(start);
                    let back = |domain: &DomainId| Source::On(index(*domain), on);
                    sources.extend(domains.unwrap_or_default().iter().map(back));
                }
            }
        }
    }
    sources
}

fn index(domain: DomainId) -> usize {
    usize::from(domain.0)
}
