//! The configurations that the project ships: the presets have notes only. The two that are tried against peers without BFD are said to be so.

use super::{about, names};
use crate::{audit::Severity, config::preset::Preset};

#[test]
fn every_preset_has_notes_only() {
    for preset in Preset::ALL {
        let found = about(preset.text());
        println!("{preset:?}: {:?}", names(&found));
        assert!(found.iter().all(|it| it.severity == Severity::Note), "{preset:?}: {found:#?}");
    }
}

/// The example shows defaults, of which BFD is none, and the one beside FRR is one of two boxes without a way to the other.
#[test]
fn the_examples_have_no_other_warnings_than_their_own() {
    let warnings = |text: &str| {
        let mut found = about(text);
        found.retain(|it| it.severity != Severity::Note);
        names(&found)
    };
    assert_eq!(warnings(include_str!("../../../../deploy/erdp.toml")), ["H1.no-bfd"]);
    assert_eq!(
        warnings(include_str!("../../../../deploy/frr/edge.toml")),
        ["B1a.no-way-to-box", "H1.no-bfd"]
    );
}
