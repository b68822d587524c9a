//! Labels in the names of files.
//! Pure.

/// Stand for the class, the elevation index and the azimuth.
const PLACEHOLDERS: [&str; 3] = ["CLASS", "ELEV", "AZIM"];

/// The names that a pattern with the three placeholders stands for.
#[derive(Debug, PartialEq)]
pub(super) struct NamePattern<'a> {
    /// The text before each placeholder, and which it is, in the order of the pattern.
    fields: Vec<(&'a str, usize)>,
    /// The text behind the last.
    end: &'a str,
}

impl<'a> NamePattern<'a> {
    /// `None` unless each placeholder is there once and they do not touch: of `box115` nothing says where
    /// the class ends.
    pub(super) fn parse(pattern: &'a str) -> Option<Self> {
        let mut places = Vec::new();
        for (field, word) in PLACEHOLDERS.into_iter().enumerate() {
            let mut found = pattern.match_indices(word);
            let (start, _) = found.next()?;
            if found.next().is_some() {
                return None;
            }
            places.push((start, start + word.len(), field));
        }
        places.sort_unstable();
        let mut at = 0;
        let mut fields = Vec::new();
        for (start, end, field) in places {
            if start == at && at > 0 {
                return None;
            }
            fields.push((&pattern[at..start], field));
            at = end;
        }
        let end = &pattern[at..];
        Some(Self { fields, end })
    }

    /// The class, the elevation and the azimuth in `name`; `None` if it does not match. The last two are
    /// digits. Where the class could end at several places, it ends at the last.
    pub(super) fn find<'t>(&self, name: &'t str) -> Option<[&'t str; 3]> {
        let mut found = [""; 3];
        self.matches(0, name, &mut found).then_some(found)
    }

    /// Whether `rest` matches from field `at` on. Leaves what it found.
    fn matches<'t>(&self, at: usize, rest: &'t str, found: &mut [&'t str; 3]) -> bool {
        let Some(&(before, field)) = self.fields.get(at) else {
            return rest == self.end;
        };
        let Some(rest) = rest.strip_prefix(before) else {
            return false;
        };
        let longest = match PLACEHOLDERS[field] {
            "CLASS" => rest.len(),
            _ => rest.bytes().take_while(u8::is_ascii_digit).count(),
        };
        let mut ends = (1..=longest)
            .rev()
            .filter(|&end| rest.is_char_boundary(end));
        ends.any(|end| {
            found[field] = &rest[..end];
            self.matches(at + 1, &rest[end..], found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn placeholders_are_found_in_any_order_and_between_any_text() {
        let find = |pattern, name| NamePattern::parse(pattern).unwrap().find(name);
        let expected = Some(["box", "2", "015"]);
        assert_eq!(find("CLASS_ELEV_AZIM", "box_2_015"), expected);
        assert_eq!(find("AZIM deg CLASS-ELEV!", "015 deg box-2!"), expected);
        let long = Some(["red_box_7", "2", "015"]);
        assert_eq!(find("CLASS_ELEV_AZIM", "red_box_7_2_015"), long);
    }

    #[test]
    fn other_names_do_not_match() {
        let pattern = NamePattern::parse("CLASS_ELEV_AZIM").unwrap();
        for name in [
            "", "box", "box_2", "_2_015", "box_2_", "box_2_1x", "box_a_1", "box_-1_5",
        ] {
            assert_eq!(pattern.find(name), None, "{name}");
        }
    }

    #[test]
    fn a_pattern_has_each_placeholder_once_and_apart() {
        for pattern in [
            "",
            "CLASS_ELEV",
            "CLASS_CLASS_ELEV_AZIM",
            "CLASSELEV_AZIM",
            "CLASS_AZIMELEV",
        ] {
            assert_eq!(NamePattern::parse(pattern), None, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_by_the_pattern_is_found(
            class in "[a-zé0-9_]{1,8}", elevation in 0u32..20, azimuth in 0u32..400,
        ) {
            let name = format!("v{class}_{elevation}_{azimuth:03}.x");
            let found = NamePattern::parse("vCLASS_ELEV_AZIM.x").unwrap().find(&name);
            let (elevation, azimuth) = (elevation.to_string(), format!("{azimuth:03}"));
            prop_assert_eq!(found, Some([class.as_str(), &elevation, &azimuth]));
        }
    }
}
