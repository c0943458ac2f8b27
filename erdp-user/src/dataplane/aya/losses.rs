//! Losses after a redirect, which an XDP program does not see: two raw tracepoints count them.

use ::aya::{
    Ebpf,
    programs::{RawTracePoint, links::FdLink},
};

use super::{DataplaneError, Pins, chain, missing};

const LOSSES: [(&str, &str); 2] =
    [("erdp_xmit", "xdp_devmap_xmit"), ("erdp_redirect_err", "xdp_redirect_err")];

/// Loads the programs on both loss tracepoints.
pub(super) fn load_losses(ebpf: &mut Ebpf) -> Result<(), DataplaneError> {
    for (name, _) in LOSSES {
        tracepoint(ebpf, name)?.load().map_err(|error| DataplaneError::Load(chain(&error)))?;
    }
    Ok(())
}

/// Attaches both loss tracepoints, in the place of what is pinned there; `false` when this kernel or this process cannot.
pub(super) fn attach_losses(ebpf: &mut Ebpf, pins: Option<&Pins>) -> Result<bool, DataplaneError> {
    for (name, event) in LOSSES {
        let program = tracepoint(ebpf, name)?;
        // Two programs that count the same losses would count them twice: the old one goes first.
        let pin = pins.map(|pins| pins.link(name));
        if let Some(pin) = &pin {
            let _ = std::fs::remove_file(pin);
        }
        let attached = program.attach(event).and_then(|link| match &pin {
            None => Ok(None),
            Some(pin) => program.take_link(link).map(|link| Some((link, pin))),
        });
        match attached {
            Ok(Some((link, pin))) => {
                if let Err(error) = FdLink::from(link).pin(pin) {
                    let error = chain(&error);
                    tracing::warn!(tracepoint = event, error, "losses after a redirect are not counted");
                    return Ok(false);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(tracepoint = event, error = %chain(&error), "losses after a redirect are not counted");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn tracepoint<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut RawTracePoint, DataplaneError> {
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(|error| DataplaneError::Load(chain(&error)))
}
