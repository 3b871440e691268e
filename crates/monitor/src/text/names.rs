//! Names: what they look like, and the words in them.

use unicode_normalization::UnicodeNormalization;

/// What a name looks like: the skeleton of UTS 39 §4 over its NFKC form in lower case, without the signs
/// that separate words. Two names with the same skeleton are one name to a reader.
#[must_use]
pub fn skeleton(name: &str) -> String {
    let lower: String = name.nfkc().flat_map(char::to_lowercase).collect();
    unicode_security::skeleton(&lower)
        .filter(|c| c.is_alphanumeric())
        .collect()
}

/// The words of a name or a text, in lower case: `sendEmail_v2` is `send`, `email`, `v2`.
pub fn words(name: &str) -> impl Iterator<Item = String> {
    let mut out: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    for c in name.chars() {
        let begins = c.is_uppercase() && !before.is_uppercase();
        if (begins || !c.is_alphanumeric()) && !word.is_empty() {
            out.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    if !word.is_empty() {
        out.push(word);
    }
    out.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_share_a_skeleton() {
        for other in [
            "re\u{430}d_file",
            "read-file",
            "ｒead_file",
            "Read_File",
            "read\u{200b}_file",
        ] {
            assert_eq!(skeleton(other), skeleton("read_file"), "{other}");
        }
        assert_ne!(skeleton("read_file"), skeleton("read_files"));
        assert_eq!(skeleton("paypa1"), skeleton("paypal"));
    }

    #[test]
    fn names_have_words() {
        let all = |name| words(name).collect::<Vec<_>>();
        assert_eq!(all("sendEmail_v2"), ["send", "email", "v2"]);
        assert_eq!(all("DELETE-all users"), ["delete", "all", "users"]);
        assert_eq!(all("apiKey"), ["api", "key"]);
        assert!(all("__").is_empty());
    }
}
