//! Dates and times of day: as data writes them (ISO 8601) and as people do.

use std::sync::LazyLock;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time, Weekday};
use regex::Regex;

const MONTHS: &str = "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?";

fn expression(text: &str) -> Regex {
    Regex::new(text).expect("a constant expression")
}

static ISO: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]{1,9})?)?)?",
    )
});
static SLASHED: LazyLock<Regex> =
    LazyLock::new(|| expression(r"\b([0-9]{1,2})([/.])([0-9]{1,2})[/.]([0-9]{4})\b"));
static MONTH_DAY: LazyLock<Regex> = LazyLock::new(|| {
    expression(&format!(
        r"(?i)\b({MONTHS})\.? ([0-9]{{1,2}})(?:st|nd|rd|th)?\b(?:(?: ?- ?| to | until | through )(?:the )?([0-9]{{1,2}})(?:st|nd|rd|th)?\b)?(?:,? ([0-9]{{4}})\b)?"
    ))
});
static DAY_MONTH: LazyLock<Regex> = LazyLock::new(|| {
    expression(&format!(
        r"(?i)\b([0-9]{{1,2}})(?:st|nd|rd|th)?(?: of)? ({MONTHS})\b(?:,? ([0-9]{{4}})\b)?"
    ))
});
static YEAR: LazyLock<Regex> = LazyLock::new(|| expression(r"\b(?:19|20)[0-9]{2}\b"));
static CLOCK: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"(?i)(?:^|[^0-9:.,])([0-9]{1,2})(?::([0-9]{2}))?(?::[0-9]{2})? ?(a\.?m\.?|p\.?m\.?)?(?:[^0-9a-z]|$)",
    )
});
static RELATIVE: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"(?i)\b(day after tomorrow|today|tonight|tomorrow|yesterday|(?:next |this |last )?(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday))\b",
    )
});
static FROM_NOW: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"(?i)\bin ([0-9]{1,3}|a|one|two|three|four|five|six|seven) (days?|weeks?)\b")
});

/// What a text says about days and times of day.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Days {
    /// Days with their year.
    pub(crate) dates: Vec<Date>,
    /// Days of which only month and day are said.
    pub(crate) yearless: Vec<(i8, i8)>,
    /// Years that the text mentions.
    pub(crate) years: Vec<i16>,
    /// Times of day.
    pub(crate) times: Vec<Time>,
}

/// A date, with or without a time of day, as data writes it. Seconds and fractions are read; what
/// has an offset or anything more is not.
pub(crate) fn parse(text: &str) -> Option<(Date, Option<Time>)> {
    let text = text.trim();
    let text = text.strip_suffix('Z').unwrap_or(text);
    let found = ISO.captures(text)?;
    if found.get(0)?.range() != (0..text.len()) {
        return None;
    }
    iso(&found)
}

/// A time of day as data writes it: `HH:MM` or `HH:MM:SS`.
pub(crate) fn parse_time(text: &str) -> Option<Time> {
    let text = text.trim();
    let mut parts = text.split(':');
    let mut next = || -> Option<i8> {
        let part = parts.next()?;
        (matches!(part.len(), 1..=2) && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse().ok())?
    };
    let (hour, minute) = (next()?, next()?);
    let second = if text.matches(':').count() == 2 {
        next()?
    } else {
        0
    };
    if text.matches(':').count() > 2 {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

fn iso(found: &regex::Captures<'_>) -> Option<(Date, Option<Time>)> {
    let part = |at: usize| {
        found
            .get(at)
            .and_then(|part| part.as_str().parse::<i16>().ok())
    };
    let small = |at: usize| part(at).and_then(|value| i8::try_from(value).ok());
    let date = Date::new(part(1)?, small(2)?, small(3)?).ok()?;
    let time = match small(4) {
        Some(hour) => Some(Time::new(hour, small(5)?, small(6).unwrap_or(0), 0).ok()?),
        None => None,
    };
    Some((date, time))
}

fn month(name: &str) -> Option<i8> {
    let names = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let short = name.get(..3)?.to_ascii_lowercase();
    let at = names.iter().position(|known| *known == short)?;
    i8::try_from(at + 1).ok()
}

/// Everything that a text says about days. Words such as "tomorrow" are read only with a `today`.
pub(crate) fn all_in(text: &str, today: Option<Date>) -> Days {
    let mut days = Days::default();
    let mut rest = String::with_capacity(text.len());
    let mut from = 0;
    for found in ISO.captures_iter(text) {
        if let Some((date, time)) = iso(&found) {
            days.dates.push(date);
            days.times.extend(time);
        }
        if let Some(whole) = found.get(0) {
            rest.push_str(&text[from..whole.start()]);
            rest.push_str(" , ");
            from = whole.end();
        }
    }
    rest.push_str(&text[from..]);
    written(&rest, &mut days);
    clock(&rest, &mut days);
    if let Some(today) = today {
        relative(&rest, today, &mut days);
    }
    days
}

fn written(text: &str, days: &mut Days) {
    let number =
        |part: Option<regex::Match<'_>>| part.and_then(|part| part.as_str().parse::<i16>().ok());
    let small =
        |part: Option<regex::Match<'_>>| number(part).and_then(|value| i8::try_from(value).ok());
    let mut note = |month: Option<i8>, day: Option<i8>, year: Option<i16>| {
        let (Some(month), Some(day)) = (month, day) else {
            return;
        };
        match year {
            Some(year) => days.dates.extend(Date::new(year, month, day)),
            // A leap year, so that 29 February is a day.
            None if Date::new(2024, month, day).is_ok() => days.yearless.push((month, day)),
            None => {}
        }
    };
    for found in MONTH_DAY.captures_iter(text) {
        let which = found.get(1).and_then(|name| month(name.as_str()));
        note(which, small(found.get(2)), number(found.get(4)));
        note(which, small(found.get(3)), number(found.get(4)));
    }
    for found in DAY_MONTH.captures_iter(text) {
        let which = found.get(2).and_then(|name| month(name.as_str()));
        note(which, small(found.get(1)), number(found.get(3)));
    }
    for found in SLASHED.captures_iter(text) {
        let (first, second) = (small(found.get(1)), small(found.get(3)));
        let year = number(found.get(4));
        // With dots the day comes first; with slashes it depends on the country, so both.
        note(second, first, year);
        if found.get(2).is_some_and(|mark| mark.as_str() == "/") {
            note(first, second, year);
        }
    }
    days.years.extend(
        YEAR.find_iter(text)
            .filter_map(|year| year.as_str().parse::<i16>().ok()),
    );
}

fn clock(text: &str, days: &mut Days) {
    // Twice, one character apart, since neighbouring times share the character between them.
    let mut at = 0;
    while let Some(found) = CLOCK.captures_at(text, at) {
        let hour = found
            .get(1)
            .and_then(|part| part.as_str().parse::<i8>().ok());
        let minute = found
            .get(2)
            .and_then(|part| part.as_str().parse::<i8>().ok());
        let half = found
            .get(3)
            .map(|half| half.as_str().as_bytes()[0].to_ascii_lowercase());
        if let Some(hour) = hour
            && (minute.is_some() || half.is_some())
        {
            let hour = match half {
                Some(b'p') if hour < 12 => hour + 12,
                Some(b'a') if hour == 12 => 0,
                _ => hour,
            };
            days.times
                .extend(Time::new(hour, minute.unwrap_or(0), 0, 0));
        }
        at = found
            .get(1)
            .map_or(text.len(), |hour| hour.end())
            .max(at + 1);
        while at < text.len() && !text.is_char_boundary(at) {
            at += 1;
        }
        if at >= text.len() {
            break;
        }
    }
    let lower = text.to_ascii_lowercase();
    for (word, hour) in [("noon", 12), ("midday", 12), ("midnight", 0)] {
        if lower
            .split(|c: char| !c.is_alphanumeric())
            .any(|piece| piece == word)
        {
            days.times.extend(Time::new(hour, 0, 0, 0));
        }
    }
}

fn relative(text: &str, today: Date, days: &mut Days) {
    let mut after = |count: i64| days.dates.extend(today.checked_add(count.days()));
    for found in RELATIVE.find_iter(text) {
        let said = found.as_str().to_ascii_lowercase();
        match said.as_str() {
            "today" | "tonight" => after(0),
            "tomorrow" => after(1),
            "day after tomorrow" => after(2),
            "yesterday" => after(-1),
            day => {
                let name = day.rsplit(' ').next().unwrap_or(day);
                let weekday = match name {
                    "monday" => Weekday::Monday,
                    "tuesday" => Weekday::Tuesday,
                    "wednesday" => Weekday::Wednesday,
                    "thursday" => Weekday::Thursday,
                    "friday" => Weekday::Friday,
                    "saturday" => Weekday::Saturday,
                    _ => Weekday::Sunday,
                };
                let ahead = i64::from(today.weekday().until(weekday));
                if day.starts_with("last") {
                    after(if ahead == 0 { -7 } else { ahead - 7 });
                } else {
                    after(ahead);
                    // On a Monday, "Monday" may be today or in a week; "next" may skip the nearest.
                    if ahead == 0 || day.starts_with("next") {
                        after(ahead + 7);
                    }
                }
            }
        }
    }
    for found in FROM_NOW.captures_iter(text) {
        let count = found
            .get(1)
            .map_or("", |part| part.as_str())
            .to_ascii_lowercase();
        let unit = if found
            .get(2)
            .is_some_and(|unit| unit.as_str().starts_with(['w', 'W']))
        {
            7
        } else {
            1
        };
        let count = match count.as_str() {
            "a" => Some(1),
            text => text.parse().ok().or_else(|| super::number::word(text)),
        };
        if let Some(count) = count {
            after(count * unit);
        }
    }
}

/// A date and time some minutes later.
pub(crate) fn later(from: DateTime, minutes: i64) -> Option<DateTime> {
    from.checked_add(minutes.minutes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};
    use proptest::prelude::*;

    #[test]
    fn as_people_write_them() {
        let days = all_in(
            "from January 11th to January 15th 2025, or the 3rd of May, May 1-5 at 6 PM or 18:30 (12:05)",
            None,
        );
        assert_eq!(days.dates, [date(2025, 1, 15)]);
        assert_eq!(days.yearless, [(1, 11), (5, 1), (5, 5), (5, 3)]);
        assert_eq!(days.years, [2025]);
        assert_eq!(
            days.times,
            [time(18, 0, 0, 0), time(18, 30, 0, 0), time(12, 5, 0, 0)]
        );
    }

    #[test]
    fn relative_words_need_a_day_to_start_from() {
        let wednesday = date(2024, 5, 15);
        assert_eq!(all_in("tomorrow", None).dates, []);
        assert_eq!(
            all_in("Tomorrow at noon", Some(wednesday)).dates,
            [date(2024, 5, 16)]
        );
        assert_eq!(
            all_in("on Saturday", Some(wednesday)).dates,
            [date(2024, 5, 18)]
        );
        assert_eq!(
            all_in("next Monday", Some(wednesday)).dates,
            [date(2024, 5, 20), date(2024, 5, 27)]
        );
        assert_eq!(
            all_in("in two weeks", Some(wednesday)).dates,
            [date(2024, 5, 29)]
        );
    }

    #[test]
    fn data_is_read_to_its_end() {
        assert_eq!(
            parse("2024-05-19 12:00"),
            Some((date(2024, 5, 19), Some(time(12, 0, 0, 0))))
        );
        for no in [
            "2024-05-19x",
            "2024-13-01",
            "2024-05-19 25:00",
            "２024-05-19",
            "19.5.",
            "",
        ] {
            assert_eq!(parse(no), None, "{no}");
        }
        assert_eq!(parse_time("9:30"), Some(time(9, 30, 0, 0)));
        assert_eq!(parse_time("9:30:00:00"), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".{0,60}") {
            let _ = (parse(&text), parse_time(&text), all_in(&text, Some(date(9999, 12, 31))));
        }
    }
}
