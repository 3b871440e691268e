//! The playbooks that people wrote, and what `[response]` must be.

use std::path::Path;
use std::sync::Arc;

use control::{Known, Playbooks, Teller, TellingError};
use model::Mistake;
use model::config::Config;
use response::Playbook;
use response::act::ACTS;

use super::remarks::Remarks;
use super::{Reading, Remark, stem};

/// Longest name of a playbook, in bytes.
const NAME: usize = 64;

impl Reading {
    /// Reads the playbooks in a folder, besides those that come with the program, and checks what the
    /// configuration says about them. A file with the name of a bundled one takes its place.
    pub(super) fn playbooks(
        &mut self,
        folder: &Path,
        file: &Path,
        config: Option<&Config>,
    ) -> Playbooks {
        let mut playbooks = bundled();
        for path in self.files(folder, "json") {
            let stem = stem(&path);
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if stem.is_empty() || stem.len() > NAME || !stem.bytes().all(plain) {
                let mistake = Mistake::new(&path, "the name of a playbook has a-z, 0-9 and `-`")
                    .hint("the name of the file, without `.json`, is the name of the playbook");
                self.remarks.push(mistake.into());
                continue;
            }
            let Some(text) = self.text(&path) else {
                continue;
            };
            match Playbook::parse(&text) {
                Ok(playbook) => {
                    let known = Known {
                        playbook,
                        text,
                        bundled: false,
                    };
                    playbooks.insert(stem, Arc::new(known));
                }
                Err(wrong) => {
                    let mistakes = wrong.iter().map(|wrong| {
                        let hint = "docs/response.md says which part of CACAO 2.0 is carried out";
                        Remark::from(Mistake::new(&path, wrong.to_string()).hint(hint))
                    });
                    self.remarks.extend(mistakes);
                }
            }
        }
        if let (Some(config), Some(text)) = (config, self.texts.get(file)) {
            let text = text.clone();
            let mut remarks = Remarks::new(file, &text);
            check(&mut remarks, config, &playbooks);
            self.remarks.extend(remarks.into_list());
        }
        playbooks
    }
}

/// The playbooks that come with the program.
pub(crate) fn bundled() -> Playbooks {
    response::bundled::ALL
        .into_iter()
        .filter_map(|it| {
            let playbook = Playbook::parse(it.text).ok()?;
            let known = Known {
                playbook,
                text: it.text.to_owned(),
                bundled: true,
            };
            Some((it.name.to_owned(), Arc::new(known)))
        })
        .collect()
}

fn check(remarks: &mut Remarks<'_>, config: &Config, playbooks: &Playbooks) {
    let response = &config.response;
    for key in response.modes.keys() {
        let (playbook, act) = match key.split_once('/') {
            Some((playbook, act)) => (Some(playbook), act),
            None => (None, key.as_str()),
        };
        if !ACTS.iter().any(|(name, _)| *name == act) {
            let names: Vec<&str> = ACTS.iter().map(|(name, _)| *name).collect();
            remarks.mistake(
                &["response", "modes", key],
                format!("there is no act `{}`", act.escape_debug()),
                format!("the acts are {}", names.join(", ")),
            );
        }
        if let Some(playbook) = playbook
            && !playbooks.contains_key(playbook)
        {
            unknown(remarks, &["response", "modes", key], playbook);
        }
    }
    for (index, trigger) in response.triggers.iter().enumerate() {
        if !playbooks.contains_key(&trigger.playbook) {
            let index = index.to_string();
            let here = ["response", "triggers", &index, "playbook"];
            unknown(remarks, &here, &trigger.playbook);
        }
    }
    for (server, rotation) in &response.rotations {
        let here = ["response", "rotations", server.as_str()];
        if !config.servers.contains_key(server) {
            remarks.mistake(
                &here,
                format!("there is no server `{server}`"),
                "name one of `[servers]`",
            );
        }
        if let Some(url) = &rotation.hook
            && let Err(why) = gateway::outbound::Origin::of(url)
        {
            remarks.mistake(
                &here,
                format!("`hook`: {why}"),
                "write it like `https://vault.example.org/rotate`",
            );
        }
    }
    if let Err(error) = Teller::new(response) {
        let place = match &error {
            TellingError::Channel { channel, .. } => channel.clone(),
            _ => String::new(),
        };
        remarks.mistake(
            &["response", "channels", &place],
            error.to_string(),
            error.remedy(),
        );
    }
}

fn unknown(remarks: &mut Remarks<'_>, here: &[&str], playbook: &str) {
    remarks.mistake(
        here,
        format!("there is no playbook `{}`", playbook.escape_debug()),
        "`sallyport playbook list` shows those that there are; others are files in `playbooks/`",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::remarks::messages;

    fn remarks(text: &str) -> Vec<String> {
        messages(text, |remarks, config| check(remarks, config, &bundled()))
    }

    #[test]
    fn what_responses_name_must_be_there() {
        assert_eq!(bundled().len(), 5);
        let good = "[response]\nmode = \"automatic\"\n\
            [response.modes]\n\"tasks.end\" = \"automatic\"\n\"prompt-injection/agent.quarantine\" = \"observe-only\"\n\
            [[response.triggers]]\nplaybook = \"prompt-injection\"\nrules = [\"instruction-*\"]\n\
            [response.channels.on-call]\nkind = \"webhook\"\nurl = \"https://hooks.example.org/x\"\n\
            [response.channels.mail]\nkind = \"email\"\nto = [\"soc@example.org\"]\nfrom = \"gw@example.org\"\nserver = \"smtps://mail.example.org\"\n";
        assert_eq!(remarks(good), Vec::<String>::new());
        for bad in [
            "[response.modes]\n\"bash\" = \"automatic\"\n",
            "[response.modes]\n\"none/tasks.end\" = \"automatic\"\n",
            "[[response.triggers]]\nplaybook = \"none\"\n",
            "[response.rotations.none]\n",
            "[response.channels.x]\nkind = \"webhook\"\nurl = \"ftp://a\"\n",
            "[response.channels.x]\nkind = \"webhook\"\nurl = \"https://a\"\nsecret = { plain = \"short\" }\n",
            "[response.channels.x]\nkind = \"email\"\nto = []\nfrom = \"gw@example.org\"\n",
            "[response.channels.x]\nkind = \"email\"\nto = [\"x\"]\nfrom = \"gw@example.org\"\n",
            "[response.channels.x]\nkind = \"email\"\nto = [\"a@b\"]\nfrom = \"a@b\"\nserver = \"mail\"\n",
        ] {
            assert_eq!(remarks(bad).len(), 1, "{bad}");
        }
    }
}
