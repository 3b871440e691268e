//! Addresses for mail (RFC 5321) and account numbers.

/// An address in the one form that is compared: the local part as written, since RFC 5321
/// (section 2.4) lets only its host decide what it means, and the domain without case.
pub(crate) fn parse(text: &str) -> Option<String> {
    let (local, domain) = text.split_once('@')?;
    let is_local = |c: char| c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c);
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let well_formed = !local.is_empty()
        && local.len() <= 64
        && domain.len() <= 253
        && local.chars().all(is_local)
        && domain.split('.').all(is_label);
    well_formed.then(|| format!("{local}@{}", domain.to_ascii_lowercase()))
}

/// The addresses that stand in a text, each with nothing of an address before or after it.
pub(crate) fn all_in(text: &str) -> Vec<String> {
    let part = |c: char| c.is_alphanumeric() || ".!#$%&*+/=?^_{|}~-@'`".contains(c);
    text.split(|c: char| !part(c))
        .filter(|run| run.contains('@'))
        .filter_map(|run| {
            let run = run.trim_matches(['\'', '`', '*', '_', '{', '}', '|']);
            parse(run.trim_end_matches(['.', '!', '?', '\'', '`', '*', '_', '}', '|']))
        })
        .collect()
}

/// An account number in its one form: without the blanks and hyphens of its groups, in capitals.
/// Five to forty letters and digits of ASCII, at least one a digit.
pub(crate) fn account(text: &str) -> Option<String> {
    let number: String = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let well_formed = (5..=40).contains(&number.len())
        && number.chars().all(|c| c.is_ascii_alphanumeric())
        && number.chars().any(|c| c.is_ascii_digit());
    well_formed.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_never_a_part_of_a_longer_one() {
        assert_eq!(
            all_in("Write to 'Ann.B@Example.ORG', <c+d@e.org>. mailto:f@g.org!"),
            ["Ann.B@example.org", "c+d@e.org", "f@g.org"]
        );
        assert!(all_in("xann@example.orgé ann@example.org@evil.org").is_empty());
        assert_eq!(
            all_in("ann@example.org.evil.org"),
            ["ann@example.org.evil.org"]
        );
    }

    proptest! {
        #[test]
        fn different_addresses_stay_different(
            a in "[a-cA-C.+]{1,4}@[a-cA-C.]{1,4}", b in "[a-cA-C.+]{1,4}@[a-cA-C.]{1,4}",
        ) {
            if let (Some(one), Some(two)) = (parse(&a), parse(&b)) && one == two {
                let (local_a, domain_a) = a.split_once('@').unwrap();
                let (local_b, domain_b) = b.split_once('@').unwrap();
                prop_assert_eq!(local_a, local_b);
                prop_assert!(domain_a.eq_ignore_ascii_case(domain_b));
            }
        }

        #[test]
        fn what_is_not_plain_ascii_is_no_address(text in "[a-z]{1,3}[^\\x00-\\x7F]@[a-z]{1,3}\\.org") {
            prop_assert_eq!(parse(&text), None);
            prop_assert!(all_in(&text).iter().all(|found| text.contains(found.as_str())));
        }
    }
}
