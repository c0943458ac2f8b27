//! Keys that stand in files of their own (`md5-file`), so that the configuration can be read, copied and shown to others.
//!
//! A key's file must be a plain one that nobody may write but its owner, and nobody read but owner and group.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::values::Why;

/// Reads a key; a relative name is looked for beside the configuration. White space around the key is not part of it.
pub(super) fn read(name: &str, configuration: &Path) -> Result<String, Why> {
    let path = match configuration.parent() {
        Some(folder) if Path::new(name).is_relative() => folder.join(name),
        _ => PathBuf::from(name),
    };
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        (
            format!("{shown} cannot be read: {error}"),
            "name a file with the key that the daemon's user may read".to_owned(),
        )
    };
    let facts = fs::metadata(&path).map_err(unreadable)?;
    if !facts.is_file() {
        return Err((format!("{shown} is not a plain file"), "name a file that holds the key".to_owned()));
    }
    let mode = facts.mode() & 0o777;
    if mode & 0o027 != 0 {
        let reason = format!("{shown} has mode {mode:04o}: others may read or change the key");
        return Err((reason, format!("chmod 0640 {shown}, with the daemon's group, or 0600 with its user")));
    }
    let key = fs::read_to_string(&path).map_err(unreadable)?;
    Ok(key.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_read_from_a_file_that_others_may_not_read() {
        let folder = std::env::temp_dir().join(format!("erdp-secret-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, configuration) = (folder.join("key"), folder.join("erdp.toml"));
        fs::write(&file, "hunter2\n").unwrap();
        for (mode, accepted) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false), (0o604, false)]
        {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let read = read("key", &configuration);
            assert_eq!(read.is_ok(), accepted, "{mode:o}");
            match read {
                Ok(key) => assert_eq!(key, "hunter2"),
                Err((reason, remedy)) => {
                    assert!(reason.contains(&format!("mode {mode:04o}")), "{reason}");
                    assert!(remedy.contains("chmod 0640"), "{remedy}");
                    assert!(!reason.contains("hunter2"));
                }
            }
        }
        assert!(read("another", &configuration).unwrap_err().0.contains("another cannot be read"));
        assert!(read(".", &configuration).unwrap_err().0.contains("not a plain file"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
