//! What people write: the configuration and templates.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    let _ = model::config::Config::parse(Path::new("sallyport.toml"), text);
    let name = model::TemplateName::parse("t").expect("a label");
    if let Ok(template) = model::Template::parse(name, Path::new("t.toml"), text) {
        let _ = template.fill(&Default::default());
    }
});
