//! Which crate of the workspace may depend on which, and how little the library takes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Finding;

/// Internal dependencies each crate may have, for building or testing. Anything
/// else is an error.
const ARROWS: &[(&str, &[&str])] = &[
    ("burn-memopt", &[]),
    ("burn-memopt-datasets", &["burn-memopt"]),
    ("burn-memopt-models", &["burn-memopt"]),
    (
        "burn-memopt-benches",
        &["burn-memopt", "burn-memopt-models", "burn-memopt-datasets"],
    ),
    ("xtask", &[]),
    (
        "burn-memopt-cli",
        &[
            "xtask",
            "burn-memopt",
            "burn-memopt-models",
            "burn-memopt-datasets",
            "burn-memopt-benches",
        ],
    ),
];

/// The crate that others add to theirs.
const LIBRARY: &str = "burn-memopt";
/// What it may depend on without a feature: all of it is in burn's own tree.
const LIGHT: [&str; 11] = [
    "burn",
    "burn-autodiff",
    "burn-backend",
    "burn-dispatch",
    "burn-pack",
    "bytemuck",
    "libc",
    "log",
    "rayon",
    "serde",
    "thiserror",
];
/// Features of burn that it may turn on without one of its own.
const LIGHT_BURN: [&str; 6] = ["autodiff", "extension", "optim", "rayon", "simd", "std"];

/// What `cargo metadata` says, as far as it is needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize, Default)]
struct Dependency {
    name: String,
    /// `None` if it is no build or test dependency.
    kind: Option<String>,
    optional: bool,
    features: Vec<String>,
}

impl Dependency {
    /// Whether it comes with the crate, whatever features are chosen.
    fn is_always_there(&self) -> bool {
        self.kind.is_none() && !self.optional
    }
}

/// Checks the dependencies of every crate of the workspace at `root`.
///
/// # Errors
/// If cargo cannot read the workspace.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root)
        .output()
        .context("cannot start cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .context("cannot read what cargo metadata printed")?;
    Ok(check_packages(&metadata.packages))
}

fn check_packages(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            let message = "is not in tidy's list of arrows; add what it may depend on";
            findings.push(Finding::error(&package.name, message));
            continue;
        };
        for dependency in &package.dependencies {
            let is_internal = packages.iter().any(|other| other.name == dependency.name);
            if is_internal && !allowed.contains(&dependency.name.as_str()) {
                let message = format!("must not depend on {}", dependency.name);
                findings.push(Finding::error(&package.name, message));
            }
        }
        if package.name == LIBRARY {
            findings.extend(check_weight(package));
        }
    }
    findings
}

/// Reports what the library brings without a feature and burn does not.
fn check_weight(library: &Package) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dependency in &library.dependencies {
        if !dependency.is_always_there() {
            continue;
        }
        let name = dependency.name.as_str();
        if !LIGHT.contains(&name) {
            let message = format!("must have {name} behind a feature: burn does not bring it");
            findings.push(Finding::error(LIBRARY, message));
        }
        let features = dependency.features.iter().filter(|_| name == "burn");
        for feature in features.filter(|feature| !LIGHT_BURN.contains(&feature.as_str())) {
            let message = format!("must have burn's {feature} behind a feature of its own");
            findings.push(Finding::error(LIBRARY, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies.iter().map(|name| Dependency {
            name: name.to_string(),
            ..Dependency::default()
        });
        Package {
            name: name.into(),
            dependencies: dependencies.collect(),
        }
    }

    #[test]
    fn a_reversed_arrow_is_an_error() {
        let mut library = package("burn-memopt", &["burn", "burn-memopt-models"]);
        library.dependencies[1].optional = true;
        let models = package("burn-memopt-models", &["burn", "burn-memopt"]);
        let findings = check_packages(&[library, models]);
        let lines: Vec<_> = findings.iter().map(Finding::to_string).collect();
        assert_eq!(
            lines,
            ["error: burn-memopt: must not depend on burn-memopt-models"]
        );
    }

    #[test]
    fn the_library_brings_nothing_heavy_without_a_feature() {
        let mut library = package("burn-memopt", &["burn", "image", "plotters", "tempfile"]);
        library.dependencies[0].features = vec!["optim".into(), "train".into()];
        library.dependencies[2].optional = true;
        library.dependencies[3].kind = Some("dev".into());
        let findings = check_packages(&[library, package("burn-memopt-benches", &["tiff"])]);
        let lines: Vec<_> = findings.iter().map(Finding::to_string).collect();
        assert_eq!(
            lines,
            [
                "error: burn-memopt: must have burn's train behind a feature of its own",
                "error: burn-memopt: must have image behind a feature: burn does not bring it",
            ]
        );
    }

    #[test]
    fn a_crate_without_arrows_is_an_error() {
        assert_eq!(check_packages(&[package("burn-memopt-new", &[])]).len(), 1);
    }
}
