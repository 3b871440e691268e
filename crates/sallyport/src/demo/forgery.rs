//! Somebody with access to the disk changes one byte of the audit log.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Changes one letter of a word in the log's entries: the first time that it stands there. Returns
/// the file.
///
/// # Errors
/// [`Failure`] when the word is nowhere, or the file cannot be written.
pub(super) fn change_one_byte(log: &Path, word: &str) -> Result<PathBuf, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("the log cannot be changed: {error}"));
    let mut folders = vec![log.join("tile/entries")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    let mut best: Option<(PathBuf, Vec<u8>, usize)> = None;
    for file in files {
        let bytes = std::fs::read(&file).map_err(failed)?;
        let at = bytes
            .windows(word.len())
            .position(|window| window == word.as_bytes());
        // Shorter ones are from before it was longer, and nobody reads them any more.
        let longer = best
            .as_ref()
            .is_none_or(|(_, best, _)| bytes.len() > best.len());
        if let Some(at) = at.filter(|_| longer) {
            best = Some((file, bytes, at));
        }
    }
    let (file, mut bytes, at) =
        best.ok_or_else(|| Failure::new(format!("`{word}` is nowhere in the log")))?;
    // Another letter: the entry still looks like one.
    bytes[at] ^= 1;
    make_writable(&file).map_err(failed)?;
    std::fs::write(&file, bytes).map_err(failed)?;
    Ok(file)
}

fn make_writable(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_byte_changes() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("tile/entries/000");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, b"\0\x09a payroll").unwrap();
        assert_eq!(change_one_byte(home.path(), "payroll").unwrap(), file);
        assert_eq!(std::fs::read(&file).unwrap(), b"\0\x09a qayroll");
        assert!(change_one_byte(home.path(), "payroll").is_err());
        let longer = home.path().join("tile/entries/001");
        std::fs::write(&longer, b"\0\x0bqqqqq and more").unwrap();
        assert_eq!(change_one_byte(home.path(), "qqqqq").unwrap(), longer);
    }
}
