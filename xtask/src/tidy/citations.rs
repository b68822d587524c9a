//! Paths of this repository that Markdown files cite.

use std::path::Path;

use super::{Finding, SKIPPED_FOLDERS};

/// Reports every path that `text`, the content of `file`, cites and that is not there.
///
/// Cited is what a link points to, and inline code that reads like a path of this
/// repository: it begins with a folder of it, or is the name of a Markdown file.
/// Paths may be relative to the file or to `root`.
pub fn check(root: &Path, file: &Path, name: &str, text: &str) -> Vec<Finding> {
    let folder = file.parent().unwrap_or(root);
    let is_there = |path: &str| folder.join(path).exists() || root.join(path).exists();
    let mut findings = Vec::new();
    let mut in_fence = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
            continue;
        }
        if in_fence {
            continue;
        }
        let links = link_targets(line).filter_map(local_target);
        let codes = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|code| cited_path(code, &is_there));
        for path in links.chain(codes).filter(|path| !is_there(path)) {
            let message = format!("cites {path}, which does not exist");
            findings.push(Finding::error(format!("{name}:{}", index + 1), message));
        }
    }
    findings
}

/// The targets of a line's links, between `](` and `)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// A link's target without its anchor, if it points to a file of this repository: not to another site, to
/// an item of Rust (rustdoc checks those) or to a page that rustdoc writes.
fn local_target(target: &str) -> Option<&str> {
    let path = target.split('#').next().unwrap_or_default();
    let is_elsewhere = path.is_empty()
        || path.contains("::")
        || path.contains("://")
        || path.starts_with("mailto:")
        || path.ends_with(".html");
    (!is_elsewhere).then_some(path)
}

/// Inline code as a path, if it is one of this repository.
fn cited_path<'a>(code: &'a str, is_there: &impl Fn(&str) -> bool) -> Option<&'a str> {
    let path = match code.rsplit_once(':') {
        Some((path, line)) if line.parse::<usize>().is_ok() => path,
        _ => code,
    };
    let is_plain = path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if !is_plain || path.starts_with('/') {
        return None;
    }
    let is_ours = match path.split_once('/') {
        Some((first, _)) => !SKIPPED_FOLDERS.contains(&first) && is_there(first),
        None => path.len() > 3 && path.ends_with(".md"),
    };
    is_ours.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("models/src")).unwrap();
        std::fs::write(root.path().join("models/src/lib.rs"), "").unwrap();
        std::fs::write(root.path().join("README.md"), "").unwrap();
        let file = root.path().join("models/README.md");
        let findings = check(root.path(), &file, "models/README.md", text);
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn paths_that_exist_are_fine() {
        let text = "`models/src/lib.rs`, `src/lib.rs:12`, `src/`, `README.md`, [a](src/lib.rs#L1), [b](#c)";
        assert_eq!(missing(text), [""; 0]);
    }

    #[test]
    fn what_is_no_path_of_ours_is_left_alone() {
        let text = "`and/or`, `burn-nn/src/lib.rs`, `f16/bf16`, `a b/c`, `models/{a,b}.rs`, \
                    `target/x`, `/etc/x`, [a](https://x.org/y), `config.json`, \
                    [b](crate::a::B), [c](../x/index.html)\n```\n`models/gone.rs`\n```";
        assert_eq!(missing(text), [""; 0]);
    }

    #[test]
    fn paths_that_are_gone_are_reported_with_their_line() {
        let text = "x\n`models/src/gone.rs` and `GONE.md`\n[a](gone.png)";
        assert_eq!(
            missing(text),
            [
                "error: models/README.md:2: cites models/src/gone.rs, which does not exist",
                "error: models/README.md:2: cites GONE.md, which does not exist",
                "error: models/README.md:3: cites gone.png, which does not exist",
            ]
        );
    }
}
