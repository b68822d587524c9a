//! What autocast leaves in f32.
//!
//! Pure.

use serde::{Deserialize, Serialize};

/// What an autocast view leaves in f32.
///
/// Rules name either a module type (`BatchNorm`) or a piece of the parameter's path (`head`,
/// `encoder.norm*`). The default keeps `BatchNorm`, which is always kept: its running statistics
/// are shared with the original model and a cast would change them there.
///
/// burn does not promote dtypes, so what is kept in f32 must be given f32:
/// call it through [`full_precision`](super::full_precision), and `BatchNorm`
/// through [`batch_norm`](super::batch_norm). Naming a layer here states that the
/// model does so, and [`Autocast::check`](super::Autocast::check) believes it;
/// for `BatchNorm` too, which is kept without being named.
///
/// # Example
/// ```
/// use burn_memopt::precision::AutocastPolicy;
///
/// let policy = AutocastPolicy::default()
///     .keep_type("LayerNorm")
///     .keep_path("decoder.head");
///
/// assert!(policy.keeps_path("decoder.head.weight"));
/// assert!(!policy.keeps_path("decoder.header.weight"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutocastPolicy {
    /// Module types kept in f32, besides `BatchNorm`. The default is none.
    pub keep_types: Vec<String>,
    /// Path patterns kept in f32. The default is none.
    pub keep_paths: Vec<String>,
}

/// The type whose parameters stay f32 under every policy.
const ALWAYS_KEPT: &str = "BatchNorm";

impl AutocastPolicy {
    /// Keeps the parameters of every module of this type in f32, and of all
    /// modules inside it. `name` is the struct's or enum's name without path.
    #[must_use]
    pub fn keep_type(mut self, name: impl Into<String>) -> Self {
        self.keep_types.push(name.into());
        self
    }

    /// Keeps parameters in f32 whose path contains `pattern` as a run of whole
    /// components. In a component, `*` matches any characters.
    ///
    /// `head` matches `head.weight` and `decoder.head.bias`, not
    /// `header.weight`; `norm*` matches `norm1.weight`.
    #[must_use]
    pub fn keep_path(mut self, pattern: impl Into<String>) -> Self {
        self.keep_paths.push(pattern.into());
        self
    }

    /// Whether a module of `container_type` is kept in f32.
    ///
    /// Takes the form burn gives to visitors, `Struct:Linear` or `Enum:Activation`.
    pub(super) fn keeps_type(&self, container_type: &str) -> bool {
        type_name(container_type) == ALWAYS_KEPT || self.names_type(container_type)
    }

    /// Whether `container_type` is among [`keep_types`](Self::keep_types).
    pub(super) fn names_type(&self, container_type: &str) -> bool {
        let name = type_name(container_type);
        self.keep_types.iter().any(|kept| kept == name)
    }

    /// Whether the parameter at `path` (components joined by dots) is kept in f32.
    pub fn keeps_path(&self, path: &str) -> bool {
        let mut patterns = self.keep_paths.iter();
        patterns.any(|pattern| names_path(pattern, path))
    }
}

/// Whether `path` contains `pattern` as a run of whole components.
pub(crate) fn names_path(pattern: &str, path: &str) -> bool {
    let path: Vec<&str> = path.split('.').collect();
    let pattern: Vec<&str> = pattern.split('.').collect();
    path.windows(pattern.len()).any(|run| {
        let mut pairs = pattern.iter().zip(run);
        pairs.all(|(pattern, component)| matches(pattern, component))
    })
}

/// Where a traversal is in the module tree.
#[derive(Debug, Default)]
pub(crate) struct Place {
    names: Vec<String>,
    types: Vec<String>,
}

impl Place {
    pub(crate) fn enter(&mut self, name: &str, container_type: &str) {
        self.names.push(name.to_string());
        self.types.push(container_type.to_string());
    }

    /// Whether the policy names this place itself, beyond what it always keeps.
    pub(super) fn is_named(&self, policy: &AutocastPolicy) -> bool {
        self.types.iter().any(|name| policy.names_type(name)) || policy.keeps_path(&self.path())
    }

    pub(crate) fn exit(&mut self) {
        self.names.pop();
        self.types.pop();
    }

    pub(crate) fn path(&self) -> String {
        self.names.join(".")
    }

    /// Whether this is in a module of a type, given by its name without path.
    pub(crate) fn is_in(&self, name: &str) -> bool {
        self.types
            .iter()
            .any(|container| type_name(container) == name)
    }

    pub(super) fn is_kept(&self, policy: &AutocastPolicy) -> bool {
        self.types.iter().any(|name| policy.keeps_type(name)) || policy.keeps_path(&self.path())
    }
}

/// The name of a struct or enum in the form burn gives to visitors.
pub(super) fn type_name(container_type: &str) -> &str {
    let name = container_type.split_once(':');
    name.map_or(container_type, |(_, name)| name)
}

/// Whether `text` has the form of `pattern`, where `*` is any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends = text
                .char_indices()
                .map(|(index, _)| index)
                .chain([text.len()]);
            ends.any(|end| matches(rest, &text[end..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::prefix("encoder", "encoder.0.weight", true)]
    #[case::inside("norm", "blocks.3.norm.gamma", true)]
    #[case::run("3.norm", "blocks.3.norm.gamma", true)]
    #[case::whole("head.weight", "head.weight", true)]
    #[case::star("norm*", "blocks.3.norm2.gamma", true)]
    #[case::star_in_the_middle("b*s", "blocks.3.norm2.gamma", true)]
    #[case::any_component("blocks.*.norm", "blocks.3.norm.gamma", true)]
    #[case::part_of_a_component("head", "overhead.weight", false)]
    #[case::run_out_of_order("norm.3", "blocks.3.norm.gamma", false)]
    #[case::longer_than_the_path("a.b.c", "a.b", false)]
    fn paths_match_by_whole_components(
        #[case] pattern: &str,
        #[case] path: &str,
        #[case] expected: bool,
    ) {
        let policy = AutocastPolicy::default().keep_path(pattern);
        assert_eq!(policy.keeps_path(path), expected);
    }

    #[test]
    fn batch_norm_is_kept_whatever_the_policy_says() {
        let policy = AutocastPolicy::default();
        assert!(policy.keeps_type("Struct:BatchNorm"));
        assert!(!policy.keeps_type("Struct:LayerNorm"));
        assert!(policy.keep_type("LayerNorm").keeps_type("Struct:LayerNorm"));
    }
}
