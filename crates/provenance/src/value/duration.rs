//! Durations as people write them.

use std::sync::LazyLock;

use regex::Regex;

use super::number;

static WRITTEN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b([0-9]{1,4}|half an?|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)(?:[ -]| more )?(minutes?|mins?|hours?|hrs?|h|days?|nights?|weeks?)\b")
        .expect("a constant expression")
});

/// The durations in a text, in minutes; at most 400 days each.
pub(crate) fn all_in(text: &str) -> Vec<i64> {
    let lower = text.to_ascii_lowercase();
    WRITTEN
        .captures_iter(&lower)
        .filter_map(|found| {
            let unit = match found.get(2)?.as_str().as_bytes()[0] {
                b'm' => 1,
                b'h' => 60,
                b'd' | b'n' => 24 * 60,
                _ => 7 * 24 * 60,
            };
            let minutes = match found.get(1)?.as_str() {
                "a" | "an" => unit,
                "half a" | "half an" => unit / 2,
                count => count.parse().ok().or_else(|| number::word(count))? * unit,
            };
            (minutes <= 400 * 24 * 60).then_some(minutes)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        assert_eq!(
            all_in("a 1-hour long event, 90 minutes, half an hour, two weeks, for one Hour"),
            [60, 90, 30, 2 * 7 * 24 * 60, 60]
        );
        assert!(all_in("an email about 3 hotels").is_empty());
    }
}
