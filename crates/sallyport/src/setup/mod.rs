//! Everything that people write for one gateway: `sallyport.toml`, `templates/*.toml`,
//! `annotations/*.toml`, `rules/*.toml`, `pins.toml` and `policies/*.cedar`, read as a whole and checked across files. `check` prints what is found
//! here; `serve` refuses to start, or to reload, when there is a mistake in it.

mod annotations;
mod approvals;
mod asked;
mod config;
mod confine;
mod http2;
mod identity;
mod playbooks;
mod proxy;
mod rates;
mod remarks;
pub(crate) mod rules;
mod signals;
mod templates;
mod toml_text;
mod vault;
mod watching;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway::provenance::Annotated;
use model::config::Config;
use model::{Mistake, Template, TemplateName};
use monitor::content::Scanner;
use policy::Policies;

use crate::failure::Failure;

pub(crate) use playbooks::bundled as bundled_playbooks;

/// A gateway's whole setup, free of mistakes.
#[derive(Clone)]
pub(crate) struct Setup {
    /// The configuration file.
    pub file: PathBuf,
    /// The configuration, with its paths made absolute.
    pub config: Config,
    /// The templates, by name.
    pub templates: BTreeMap<TemplateName, Template>,
    /// The annotations of servers' tools, by server.
    pub annotations: Annotated,
    /// The policies, compiled.
    pub policies: Arc<Policies>,
    /// The rules of the content detectors, compiled.
    pub scanner: Arc<Scanner>,
    /// The playbooks, those that come with the program too.
    pub playbooks: control::Playbooks,
}

/// How bad a remark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Sallyport does not start with it.
    Mistake,
    /// It works, but probably not as meant.
    Advice,
}

/// Something to say about what was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remark {
    /// How bad it is.
    pub severity: Severity,
    /// What, where, and what to do.
    pub mistake: Mistake,
}

impl From<Mistake> for Remark {
    fn from(mistake: Mistake) -> Self {
        Self {
            severity: Severity::Mistake,
            mistake,
        }
    }
}

impl Remark {
    fn advice(mistake: Mistake) -> Self {
        Self {
            severity: Severity::Advice,
            mistake,
        }
    }
}

/// What reading a setup gave.
pub(crate) struct Read {
    /// The setup, if there is no mistake in it.
    pub setup: Option<Setup>,
    /// All remarks, by file and place.
    pub remarks: Vec<Remark>,
    /// The texts that were read, for showing excerpts.
    pub texts: BTreeMap<PathBuf, String>,
}

impl Read {
    /// How many remarks of one severity there are.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.remarks
            .iter()
            .filter(|remark| remark.severity == severity)
            .count()
    }
}

/// Longest file that is read, in bytes.
const FILE_BYTES: u64 = 4 << 20;

/// Reads the configuration file, and beside it `pins.toml` and the folders `templates`, `annotations`,
/// `rules`, `playbooks` and `policies`.
pub(crate) fn read(file: &Path) -> Read {
    let mut reading = Reading::default();
    let folder = folder_of(file);
    let mut config = reading.config(file, &folder);
    reading.pins(&folder.join(rules::PINS), config.as_mut());
    let templates = reading.templates(&folder.join("templates"), config.as_ref());
    let annotations = reading.annotations(&folder.join("annotations"), config.as_ref());
    let policies = reading.policies(&folder.join("policies"));
    let scanner = reading.rules(&folder.join("rules"));
    let playbooks = reading.playbooks(&folder.join("playbooks"), file, config.as_ref());
    if let Some(config) = &config {
        reading.remarks.extend(templates::unused_servers(
            file,
            &reading.texts[file],
            config,
            &templates,
        ));
    }
    let Reading { mut remarks, texts } = reading;
    remarks.sort_by_key(|remark| {
        let place = remark.mistake.span.as_ref().map_or(0, |span| span.start);
        (remark.mistake.file.clone(), place)
    });
    remarks.dedup();
    let clean = remarks
        .iter()
        .all(|remark| remark.severity == Severity::Advice);
    let setup = match (config, policies) {
        (Some(config), Some(policies)) if clean => Some(Setup {
            file: file.to_owned(),
            config,
            templates,
            annotations,
            policies: Arc::new(policies),
            scanner,
            playbooks,
        }),
        _ => None,
    };
    Read {
        setup,
        remarks,
        texts,
    }
}

/// Reads the configuration file alone, for commands that only need to know where things are.
///
/// # Errors
/// [`Failure`] when it is not there, or cannot be understood.
pub(crate) fn config_alone(file: &Path) -> Result<Config, Failure> {
    let read = std::fs::read_to_string(file);
    let text = read.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format!(
            "there is no configuration file {}",
            file.display()
        ))
        .hint("go to its folder, name it with `--config FILE`, or write one with `sallyport init`"),
        _ => Failure::new(format!("{} cannot be read: {error}", file.display())),
    })?;
    let mut config = Config::parse(file, &text).map_err(|mistakes| {
        let first = mistakes
            .first()
            .map_or("unknown", |mistake| mistake.message.as_str());
        Failure::new(format!("{} has a mistake: {first}", file.display())).hint(format!(
            "`sallyport check --config {}` shows where",
            file.display()
        ))
    })?;
    let folder = folder_of(file);
    config::make_absolute(&mut config, &folder);
    let pins = folder.join(rules::PINS);
    if let Ok(text) = std::fs::read_to_string(&pins) {
        let pinned = rules::Pinned::parse(&pins, &text).map_err(|_| {
            Failure::new(format!("{} has a mistake", pins.display())).hint(format!(
                "`sallyport check --config {}` shows where",
                file.display()
            ))
        })?;
        pinned.add_to(&mut config);
    }
    Ok(config)
}

/// Reads the rules of the content detectors alone, without trying their examples.
///
/// # Errors
/// [`Failure`] with the first mistake in them.
pub(crate) fn rules_alone(file: &Path) -> Result<Arc<Scanner>, Failure> {
    let mut reading = Reading::default();
    let scanner = reading.compiled_rules(&folder_of(file).join("rules"));
    match reading.remarks.first().map(|remark| &remark.mistake) {
        None => Ok(scanner),
        Some(first) => Err(
            Failure::new(format!("{}: {}", first.file.display(), first.message))
                .hint("`sallyport check` shows all mistakes"),
        ),
    }
}

/// The folder that a file is in.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The name of a file, without its ending.
fn stem(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

#[derive(Default)]
struct Reading {
    remarks: Vec<Remark>,
    texts: BTreeMap<PathBuf, String>,
}

impl Reading {
    fn text(&mut self, file: &Path) -> Option<String> {
        let length = std::fs::metadata(file).map(|about| about.len());
        let text = match length {
            Ok(length) if length > FILE_BYTES => Err(format!(
                "the file is {length} bytes long; at most {FILE_BYTES} are read"
            )),
            Ok(_) => std::fs::read_to_string(file).map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => "the file is not UTF-8 text".to_owned(),
                _ => format!("the file cannot be read: {error}"),
            }),
            Err(error) => Err(format!("the file cannot be read: {error}")),
        };
        match text {
            Ok(text) => {
                self.texts.insert(file.to_owned(), text.clone());
                Some(text)
            }
            Err(message) => {
                self.remarks.push(Mistake::new(file, message).into());
                None
            }
        }
    }

    fn config(&mut self, file: &Path, folder: &Path) -> Option<Config> {
        if !file.exists() {
            let mistake = Mistake::new(file, "there is no such configuration file").hint(
                "`sallyport init` writes one into the current folder; `--config FILE` names another",
            );
            self.remarks.push(mistake.into());
            return None;
        }
        let text = self.text(file)?;
        match toml_text::read(file, &text, |text| Config::parse(file, text)) {
            Ok(mut config) => {
                self.remarks
                    .extend(config::check(file, &text, folder, &config));
                config::make_absolute(&mut config, folder);
                Some(config)
            }
            Err(mistakes) => {
                self.remarks.extend(mistakes.into_iter().map(Remark::from));
                None
            }
        }
    }

    fn templates(
        &mut self,
        folder: &Path,
        config: Option<&Config>,
    ) -> BTreeMap<TemplateName, Template> {
        let mut templates = BTreeMap::new();
        for file in self.files(folder, "toml") {
            let stem = stem(&file);
            let name = match TemplateName::parse(&stem) {
                Ok(name) => name,
                Err(error) => {
                    let mistake = Mistake::new(&file, error.to_string())
                        .hint("the name of the file, without `.toml`, is the name of the template");
                    self.remarks.push(mistake.into());
                    continue;
                }
            };
            let Some(text) = self.text(&file) else {
                continue;
            };
            let parse = |text: &str| {
                Template::parse(name.clone(), &file, text)
                    .map_err(|mistakes| templates::with_places(text, mistakes))
            };
            match toml_text::read(&file, &text, parse) {
                Ok(template) => {
                    self.remarks
                        .extend(templates::check(&file, &text, &template, config));
                    templates.insert(name, template);
                }
                Err(mistakes) => self.remarks.extend(mistakes.into_iter().map(Remark::from)),
            }
        }
        templates
    }

    fn policies(&mut self, folder: &Path) -> Option<Policies> {
        let mut sources = Vec::new();
        for file in self.files(folder, "cedar") {
            if let Some(text) = self.text(&file) {
                sources.push((file, text));
            }
        }
        if sources.is_empty() {
            let mistake = Mistake::new(folder, "there are no policies, so nothing is permitted")
                .hint("write `policies/baseline.cedar`; `sallyport init` has one to start from");
            self.remarks.push(Remark::advice(mistake));
        }
        match Policies::compile(&sources) {
            Ok(policies) => Some(policies),
            Err(mistakes) => {
                self.remarks.extend(mistakes.into_iter().map(Remark::from));
                None
            }
        }
    }

    /// The files in a folder with an ending, by name; a folder that is not there is empty.
    fn files(&mut self, folder: &Path, ending: &str) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                let mistake = Mistake::new(folder, format!("the folder cannot be read: {error}"));
                self.remarks.push(mistake.into());
                return Vec::new();
            }
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            // As the reader would name it.
            .map(|path| path.strip_prefix(".").map(Path::to_owned).unwrap_or(path))
            .filter(|path| path.extension().is_some_and(|end| end == ending))
            // Editors keep their own files beside the one that is edited.
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
            })
            .collect();
        files.sort();
        files
    }
}
