//! Which crate of the workspace may depend on which.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Finding;

/// Internal dependencies each crate may have, for building or testing. Anything
/// else is an error.
const ARROWS: &[(&str, &[&str])] = &[
    ("burn-memopt", &[]),
    ("burn-memopt-datasets", &[]),
    ("burn-memopt-models", &["burn-memopt"]),
    (
        "burn-memopt-benches",
        &["burn-memopt", "burn-memopt-models", "burn-memopt-datasets"],
    ),
    (
        "xtask",
        &[
            "burn-memopt",
            "burn-memopt-models",
            "burn-memopt-datasets",
            "burn-memopt-benches",
        ],
    ),
];

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

#[derive(Deserialize)]
struct Dependency {
    name: String,
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
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies.iter().map(|name| Dependency {
            name: name.to_string(),
        });
        Package {
            name: name.into(),
            dependencies: dependencies.collect(),
        }
    }

    #[test]
    fn a_reversed_arrow_is_an_error() {
        let library = package("burn-memopt", &["burn", "burn-memopt-models"]);
        let models = package("burn-memopt-models", &["burn", "burn-memopt"]);
        let findings = check_packages(&[library, models]);
        let lines: Vec<_> = findings.iter().map(Finding::to_string).collect();
        assert_eq!(
            lines,
            ["error: burn-memopt: must not depend on burn-memopt-models"]
        );
    }

    #[test]
    fn a_crate_without_arrows_is_an_error() {
        assert_eq!(check_packages(&[package("burn-memopt-new", &[])]).len(), 1);
    }
}
