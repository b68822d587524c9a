use std::borrow::Cow;

use super::model::Raft;
use crate::weights::StateDict;

/// The names are those of `raft-things.pth`, without the prefix `module.` that all of them have
/// there. A normalization that the file holds under two names, `norm3` and `downsample.1`, is
/// `downsample.1` here; either of both will do.
impl StateDict for Raft {
    fn state_dict_name(path: &str) -> String {
        let parts: Vec<&str> = path.split('.').collect();
        let named = parts.iter().enumerate().map(|(at, &part)| {
            let before = at.checked_sub(1).map(|at| parts[at]);
            match (before, part) {
                (Some("downsample"), "conv") => "0",
                (Some("downsample"), "norm") => "1",
                (Some("mask"), "conv1") => "0",
                (Some("mask"), "conv2") => "2",
                (_, "gamma") => "weight",
                (_, "beta") => "bias",
                _ => part,
            }
        });
        named.collect::<Vec<_>>().join(".")
    }

    fn published_name(name: &str) -> Cow<'_, str> {
        let name = name.strip_prefix("module.").unwrap_or(name);
        match name.contains(".norm3.") {
            true => name.replace(".norm3.", ".downsample.1.").into(),
            false => name.into(),
        }
    }
}
