//! Paths: what is accepted below a folder is below it for every reader.
#![no_main]
use libfuzzer_sys::fuzz_target;
use policy::path::{Folder, normalise};

fuzz_target!(|text: &str| {
    let folder = Folder::parse("/srv/data").expect("a plain path");
    if let Ok(location) = normalise(text)
        && folder.contains(&location)
    {
        assert!(!text.contains(['\\', '\0', '%']), "{text:?}");
        assert!(text.contains("srv/data"), "{text:?}");
        for segment in text.split('/') {
            // Some servers take what follows a semicolon for a parameter of the segment.
            let name = segment.split(';').next().unwrap_or_default();
            assert!(name != ".." && name != ".", "{text:?}");
        }
    }
});
