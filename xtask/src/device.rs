//! `--device`: which backend computes, and which card.
//!
//! The front end reads it to know which backend to compile, the program to open
//! the device, so both agree by construction.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Names the device where no `--device` is given, as in `BURN_MEMOPT_DEVICE=cuda`.
pub const DEVICE_VARIABLE: &str = "BURN_MEMOPT_DEVICE";

/// A backend the program can be compiled with; each is a cargo feature of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Pure-Rust CPU; needs nothing installed.
    Flex,
    /// Any GPU through wgpu, with the graphics API it chooses.
    Wgpu,
    /// Any GPU through Vulkan and SPIR-V.
    Vulkan,
    /// NVIDIA GPUs.
    Cuda,
}

impl Backend {
    /// Every backend, in the order `auto` prefers them among those compiled in.
    pub const ALL: [Self; 4] = [Self::Flex, Self::Cuda, Self::Vulkan, Self::Wgpu];

    /// The cargo feature of the program that compiles this backend in.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.feature())
    }
}

/// A device as the user names it: `auto`, or a backend with an optional index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct DeviceChoice {
    /// The backend; `None` stands for `auto`.
    pub backend: Option<Backend>,
    /// The index of the card; `None` leaves the choice to the backend.
    pub index: Option<usize>,
}

impl DeviceChoice {
    /// The first card of `backend`.
    pub fn on(backend: Backend) -> Self {
        Self {
            backend: Some(backend),
            index: None,
        }
    }

    /// Replaces `auto` by the device the environment names, if it names one.
    ///
    /// `variable` is the value of [`DEVICE_VARIABLE`].
    ///
    /// # Errors
    /// If the variable holds no device.
    pub fn or_variable(self, variable: Option<&str>) -> Result<Self, String> {
        match (self.backend, variable) {
            (None, Some(text)) if !text.is_empty() => text
                .parse()
                .map_err(|reason| format!("{DEVICE_VARIABLE}: {reason}")),
            _ => Ok(self),
        }
    }

    /// The backend to compile for this choice: `auto` means flex, which works on
    /// every machine and builds fastest.
    pub fn backend_to_build(self) -> Backend {
        self.backend.unwrap_or(Backend::Flex)
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::default());
        }
        if text.contains(',') {
            return Err(format!("one device is taken here, got {text:?}"));
        }
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index)),
            None => (text, None),
        };
        let backend = Backend::ALL
            .into_iter()
            .find(|backend| backend.feature() == name)
            .ok_or_else(|| {
                format!("device must be auto, flex, wgpu, vulkan, cuda or cuda:N, got {text:?}")
            })?;
        let index = match index {
            None => None,
            Some(_) if backend == Backend::Flex => {
                return Err(format!("flex is the CPU and takes no index, got {text:?}"));
            }
            Some(index) => Some(index.parse().map_err(|_| {
                format!("device index must be a number, as in {name}:0, got {text:?}")
            })?),
        };
        Ok(Self {
            backend: Some(backend),
            index,
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.backend, self.index) {
            (None, _) => f.write_str("auto"),
            (Some(backend), None) => write!(f, "{backend}"),
            (Some(backend), Some(index)) => write!(f, "{backend}:{index}"),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// Devices that work together, as in `cuda:0,cuda:1`. The first one is the main one; one may be there several
/// times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct DeviceList(Vec<DeviceChoice>);

impl DeviceList {
    /// These.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(all: Vec<DeviceChoice>) -> Self {
        assert!(
            !all.is_empty(),
            "a list of devices needs one at least, got none"
        );
        Self(all)
    }

    /// The first one.
    pub fn main(&self) -> DeviceChoice {
        self.0[0]
    }

    /// All of them, at least one.
    pub fn all(&self) -> &[DeviceChoice] {
        &self.0
    }
}

impl Default for DeviceList {
    fn default() -> Self {
        DeviceChoice::default().into()
    }
}

impl From<DeviceChoice> for DeviceList {
    fn from(choice: DeviceChoice) -> Self {
        Self(vec![choice])
    }
}

impl FromStr for DeviceList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all: Result<Vec<_>, _> = text.split(',').map(str::trim).map(str::parse).collect();
        let all: Vec<DeviceChoice> = all?;
        if all.len() > 1 && all.contains(&DeviceChoice::default()) {
            return Err(format!(
                "auto stands for one device, got {text:?}; name each of them"
            ));
        }
        Ok(Self(all))
    }
}

impl fmt::Display for DeviceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(DeviceChoice::to_string).collect();
        f.write_str(&names.join(","))
    }
}

impl From<DeviceList> for String {
    fn from(list: DeviceList) -> Self {
        list.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_they_are_read() {
        for text in ["auto", "flex", "wgpu", "wgpu:1", "vulkan", "cuda", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_devices_are_refused_with_the_choices() {
        let error = "cude".parse::<DeviceChoice>().unwrap_err();
        assert!(
            error.contains("cude") && error.contains("cuda:N"),
            "{error}"
        );
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
        assert!("flex:0".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn lists_of_devices_are_written_as_they_are_read() {
        let list: DeviceList = "cuda:0, cuda:1,flex".parse().unwrap();
        assert_eq!(list.to_string(), "cuda:0,cuda:1,flex");
        assert_eq!((list.main().index, list.all().len()), (Some(0), 3));
        for wrong in ["", "flex,", "flex,auto", "flex;flex"] {
            assert!(wrong.parse::<DeviceList>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_variable_decides_only_for_auto() {
        let auto = DeviceChoice::default();
        let cuda = DeviceChoice::on(Backend::Cuda);
        assert_eq!(auto.or_variable(None), Ok(auto));
        assert_eq!(auto.or_variable(Some("cuda")), Ok(cuda));
        assert_eq!(cuda.or_variable(Some("wgpu")), Ok(cuda));
        assert!(
            auto.or_variable(Some("gpu"))
                .unwrap_err()
                .contains(DEVICE_VARIABLE)
        );
    }
}
