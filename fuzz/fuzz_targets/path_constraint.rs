//! Paths: what is accepted below a folder is below it for every reader.
#![no_main]
use libfuzzer_sys::fuzz_target;
use policy::path::{Folder, normalise};

fuzz_target!(|text: &str| {
    let folder = Folder::parse("/srv/data").expect("a plain path");
    if let Ok(location) = normalise(text)
        && folder.contains(&location)
    {
        assert!(!text.contains("..") && !text.contains('\\') && !text.contains('\0'));
        assert!(text.contains("srv/data"));
    }
});
