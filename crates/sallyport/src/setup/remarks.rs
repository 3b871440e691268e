//! Remarks about one TOML file, each at the place of a setting.

use std::path::Path;

use model::Mistake;

use super::Remark;
use super::toml_text::place;

/// What there is to say about one file.
pub(super) struct Remarks<'a> {
    file: &'a Path,
    text: &'a str,
    list: Vec<Remark>,
}

impl<'a> Remarks<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self {
            file,
            text,
            list: Vec::new(),
        }
    }

    fn at(&self, path: &[&str], message: impl Into<String>, hint: impl Into<String>) -> Mistake {
        Mistake::new(self.file, message)
            .at(place(self.text, path))
            .hint(hint)
    }

    /// The setting at this path of keys is a mistake.
    pub(super) fn mistake(
        &mut self,
        path: &[&str],
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let mistake = self.at(path, message, hint);
        self.push(mistake.into());
    }

    /// The setting at this path of keys works, but probably not as meant.
    pub(super) fn advice(
        &mut self,
        path: &[&str],
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let mistake = self.at(path, message, hint);
        self.push(Remark::advice(mistake));
    }

    pub(super) fn push(&mut self, remark: Remark) {
        self.list.push(remark);
    }

    /// All of them, in the order in which they were made.
    pub(super) fn into_list(self) -> Vec<Remark> {
        self.list
    }
}

/// What a check says of a configuration that begins with a trust domain: the line, and the words.
#[cfg(test)]
pub(super) fn lines(
    text: &str,
    check: impl FnOnce(&mut Remarks<'_>, &model::config::Config),
) -> Vec<(usize, String)> {
    let text = format!("trust_domain = \"a\"\n{text}");
    let file = Path::new("sallyport.toml");
    let config = model::config::Config::parse(file, &text).unwrap();
    let mut remarks = Remarks::new(file, &text);
    check(&mut remarks, &config);
    let list = remarks.into_list().into_iter().map(|it| it.mistake);
    list.map(|it| (it.line_in(&text).unwrap_or(0), it.message))
        .collect()
}

/// The words alone.
#[cfg(test)]
pub(super) fn messages(
    text: &str,
    check: impl FnOnce(&mut Remarks<'_>, &model::config::Config),
) -> Vec<String> {
    let lines = lines(text, check).into_iter();
    lines.map(|(_, message)| message).collect()
}
