//! Just enough of Rust's lexical structure to measure files and functions.

use std::ops::Range;

/// The text of a Rust file with comments and literals blanked out.
pub struct RustSource {
    /// As long as the file in characters, with the same line breaks.
    chars: Vec<char>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`, from 1.
    pub line: usize,
    /// Its lines from `fn` to the closing brace.
    pub num_lines: usize,
}

impl RustSource {
    /// Reads a file's text.
    pub fn new(text: &str) -> Self {
        let mut chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let end = skipped_until(&chars, at);
            for blanked in &mut chars[at..end] {
                if *blanked != '\n' {
                    *blanked = ' ';
                }
            }
            at = end.max(at + 1);
        }
        Self { chars }
    }

    /// The number of lines outside `#[cfg(test)]` items.
    pub fn production_lines(&self) -> usize {
        let total = self.line_of(self.chars.len());
        let total = if self.chars.last().is_none_or(|&last| last == '\n') {
            total - 1
        } else {
            total
        };
        let tests = self.test_items().into_iter();
        total
            - tests
                .map(|item| self.line_of(item.end) - self.line_of(item.start) + 1)
                .sum::<usize>()
    }

    /// Every function with a body outside `#[cfg(test)]` items, in order.
    pub fn functions(&self) -> Vec<Function> {
        let tests = self.test_items();
        (0..self.chars.len())
            .filter(|at| !tests.iter().any(|item| item.contains(at)))
            .filter_map(|at| self.function_at(at))
            .collect()
    }

    /// Those of `names` that are words outside `#[cfg(test)]` items, with their lines, in order.
    pub fn named<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = (usize, String)> + 'a {
        let tests = self.test_items();
        self.words()
            .filter(|(_, word)| names.contains(&word.as_str()))
            .filter(move |(at, _)| !tests.iter().any(|item| item.contains(at)))
            .map(|(at, word)| (self.line_of(at), word))
    }

    /// The line of the first `unsafe`, in tests too.
    pub fn unsafe_line(&self) -> Option<usize> {
        let (at, _) = self.words().find(|(_, word)| word == "unsafe")?;
        Some(self.line_of(at))
    }

    /// Every word with its position: names, keywords and numbers.
    fn words(&self) -> impl Iterator<Item = (usize, String)> {
        let starts = (0..self.chars.len())
            .filter(|&at| is_name(self.chars[at]) && (at == 0 || !is_name(self.chars[at - 1])));
        starts.map(|at| {
            let word = self.chars[at..].iter().take_while(|&&c| is_name(c));
            (at, word.collect())
        })
    }

    fn function_at(&self, at: usize) -> Option<Function> {
        let follows_name = at > 0 && is_name(self.chars[at - 1]);
        if follows_name || !self.starts_with(at, "fn ") {
            return None;
        }
        let name: String = self.chars[at + 3..]
            .iter()
            .take_while(|&&c| is_name(c))
            .collect();
        let end = self.item_end(at)?;
        let has_body = self.chars[end] == '}';
        let line = self.line_of(at);
        (has_body && !name.is_empty()).then(|| Function {
            name,
            line,
            num_lines: self.line_of(end) - line + 1,
        })
    }

    /// The items behind `#[cfg(test)]` or `#[cfg(all(test, …))]`, from the attribute to the last character.
    fn test_items(&self) -> Vec<Range<usize>> {
        let mut items: Vec<Range<usize>> = Vec::new();
        for at in 0..self.chars.len() {
            let inside = items.last().is_some_and(|item| item.contains(&at));
            let is_test = ["#[cfg(test)]", "#[cfg(all(test,"]
                .iter()
                .any(|attribute| self.starts_with(at, attribute));
            if !inside && is_test {
                let item = self.item_end(find(&self.chars, at, |rest| rest[0] == ']') + 1);
                items.push(at..item.unwrap_or(self.chars.len() - 1));
            }
        }
        items
    }

    /// Where the item that begins at `at` ends: its closing brace, or its semicolon.
    fn item_end(&self, at: usize) -> Option<usize> {
        let mut depth = 0;
        for (offset, &c) in self.chars.get(at..)?.iter().enumerate() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                return Some(at + offset);
            }
        }
        None
    }

    fn starts_with(&self, at: usize, text: &str) -> bool {
        let mut rest = self.chars[at..].iter();
        text.chars().all(|wanted| rest.next() == Some(&wanted))
    }

    /// The line of a position, from 1.
    fn line_of(&self, at: usize) -> usize {
        1 + self.chars[..at].iter().filter(|&&c| c == '\n').count()
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The end of the comment or literal that begins at `at`, or `at` if none does.
fn skipped_until(chars: &[char], at: usize) -> usize {
    let follows_name = at > 0 && is_name(chars[at - 1]);
    match (chars[at], chars.get(at + 1)) {
        ('/', Some('/')) => find(chars, at, |rest| rest[0] == '\n'),
        ('/', Some('*')) => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('\'', Some('\\')) => find(chars, at + 3, |rest| rest[0] == '\'') + 1,
        // A lifetime has no closing quote after one character.
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
        ('r', _) if !follows_name || matches!(chars[at - 1], 'b' | 'c') => {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            let quote = at + 1 + hashes;
            if chars.get(quote) != Some(&'"') {
                return at;
            }
            let closing = |rest: &[char]| {
                rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|&c| c == '#')
            };
            find(chars, quote + 1, closing) + 1 + hashes
        }
        _ => at,
    }
    .min(chars.len())
}

fn find(chars: &[char], from: usize, is_end: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len())
        .find(|&at| is_end(&chars[at..]))
        .unwrap_or(chars.len())
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count_as_production() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n\nfn c() {}\n";
        let source = RustSource::new(text);
        assert_eq!(source.production_lines(), 4);
        let names: Vec<_> = source.functions().into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["a", "c"]);
        let with_feature = text.replace("cfg(test)", "cfg(all(test, feature = \"x\"))");
        assert_eq!(RustSource::new(&with_feature).production_lines(), 4);
        assert_eq!(
            RustSource::new("#[cfg(test)]\nmod tests;\nfn c() {}").production_lines(),
            1
        );
    }

    #[test]
    fn braces_in_comments_and_literals_do_not_end_an_item() {
        for inside in [
            "// }",
            "/* } /* } */ } */",
            "let x = \"}\\\"}\";",
            "let x = r#\"}\"}\"#;",
            "let x = br\"}\";",
            "let x = ('}', '\\'', '\\u{7d}', b'}');",
            "let x: &'static str = y::<'a>();",
            "let r#in = r;",
        ] {
            let text = format!("#[cfg(test)]\nmod tests {{\n{inside}\n}}\nfn after() {{\n}}\n");
            let source = RustSource::new(&text);
            assert_eq!(source.production_lines(), 2, "{inside}");
            let after = Function {
                name: "after".into(),
                line: 5,
                num_lines: 2,
            };
            assert_eq!(source.functions(), [after], "{inside}");
        }
    }

    #[test]
    fn only_functions_with_a_body_are_measured() {
        let text = "trait T {\n    fn a(x: [u8; 3]);\n}\ntype F = fn (u8);\npub const fn b(\n    x: [u8; 3],\n) -> u8 {\n    0\n}\n";
        let functions = RustSource::new(text).functions();
        assert_eq!(
            functions,
            [Function {
                name: "b".into(),
                line: 5,
                num_lines: 5
            }]
        );
    }

    #[test]
    fn unfinished_text_is_measured_to_its_end() {
        for text in [
            "fn a() { \"",
            "#[cfg(test)]\nmod a {",
            "/* ",
            "'\\",
            "r#\"",
            "",
        ] {
            let source = RustSource::new(text);
            assert!(source.production_lines() <= 1, "{text}");
        }
    }
}
