//! Opening the device that was chosen.

use anyhow::{Context, Result, bail};
use burn::prelude::Device;
#[cfg(any(feature = "wgpu", feature = "vulkan"))]
use burn::prelude::DeviceKind;
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
use burn::tensor::DeviceType;

pub use xtask::device::{Backend, DEVICE_VARIABLE, DeviceChoice, DeviceList};

use crate::settings::UsageError;

/// Whether this binary can use the backend.
fn is_compiled_in(backend: Backend) -> bool {
    match backend {
        Backend::Flex => cfg!(feature = "flex"),
        Backend::Wgpu => cfg!(feature = "wgpu"),
        Backend::Vulkan => cfg!(feature = "vulkan"),
        Backend::Cuda => cfg!(feature = "cuda"),
    }
}

/// Replaces `auto` by the device the environment names, else by the first
/// backend compiled in.
///
/// # Errors
/// [`UsageError`] if the choice is not compiled in, or the variable holds no device.
pub fn resolve(mut choice: DeviceChoice) -> Result<DeviceChoice> {
    let variable = std::env::var(DEVICE_VARIABLE).ok();
    choice = choice
        .or_variable(variable.as_deref())
        .map_err(UsageError)?;
    let mut compiled = Backend::ALL
        .into_iter()
        .filter(|backend| is_compiled_in(*backend));
    match choice.backend {
        None => choice.backend = compiled.next(),
        Some(backend) if !is_compiled_in(backend) => {
            let names: Vec<_> = compiled.map(Backend::feature).collect();
            bail!(UsageError(format!(
                "this program was compiled for {}; to use --device {choice}, install it with \
                 --features {backend}, or give the flag to cargo xtask, which compiles it so",
                names.join(" and "),
            )));
        }
        Some(_) => {}
    }
    Ok(choice)
}

/// As [`resolve`], for each of several.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_all(list: &DeviceList) -> Result<DeviceList> {
    let all: Result<Vec<_>> = list.all().iter().map(|choice| resolve(*choice)).collect();
    Ok(DeviceList::new(all?))
}

/// Opens each of several devices, without autodiff.
///
/// # Errors
/// As [`open`].
pub fn open_list(list: &DeviceList) -> Result<Vec<Device>> {
    list.all().iter().map(|choice| open(*choice)).collect()
}

/// Opens the device, without autodiff.
///
/// # Errors
/// If it is not compiled in, or the machine has no such device.
pub fn open(choice: DeviceChoice) -> Result<Device> {
    let choice = resolve(choice)?;
    match choice.backend.context("no backend is compiled in")? {
        #[cfg(feature = "flex")]
        Backend::Flex => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => pick(choice, DeviceType::Wgpu, || {
            Device::wgpu(DeviceKind::DefaultDevice)
        }),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => pick(choice, DeviceType::Vulkan, || {
            Device::vulkan(DeviceKind::DefaultDevice)
        }),
        #[cfg(feature = "cuda")]
        Backend::Cuda => pick(choice, DeviceType::Cuda, || Device::cuda(0)),
        #[allow(unreachable_patterns, reason = "every backend may be compiled in")]
        backend => bail!("{backend} is not compiled in"),
    }
}

/// Opens every device of the backend, or the one of the index that was given.
///
/// # Errors
/// If the choice is not compiled in, or the machine has no such device.
pub fn open_all(choice: DeviceChoice) -> Result<Vec<Device>> {
    let choice = resolve(choice)?;
    let found = match choice.backend {
        _ if choice.index.is_some() => Vec::new(),
        #[cfg(feature = "wgpu")]
        Some(Backend::Wgpu) => Device::enumerate(DeviceType::Wgpu).to_vec(),
        #[cfg(feature = "vulkan")]
        Some(Backend::Vulkan) => Device::enumerate(DeviceType::Vulkan).to_vec(),
        #[cfg(feature = "cuda")]
        Some(Backend::Cuda) => Device::enumerate(DeviceType::Cuda).to_vec(),
        _ => Vec::new(),
    };
    if found.is_empty() {
        // The one of the index, the CPU, or an error that says why there is none.
        Ok(vec![open(choice)?])
    } else {
        Ok(found)
    }
}

/// The device of this index among those of `kind`, or `default` where no index was given.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
fn pick(
    choice: DeviceChoice,
    kind: DeviceType,
    default: impl FnOnce() -> Device,
) -> Result<Device> {
    let found = Device::enumerate(kind);
    match choice.index {
        _ if found.is_empty() => {
            bail!("no {choice} device was found; install its driver, or use --device flex, the CPU")
        }
        None => Ok(default()),
        Some(index) => found.get(index).cloned().with_context(|| {
            format!(
                "there is no device {choice}; the indices are 0 to {}",
                found.len() - 1
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_becomes_a_backend_that_is_compiled_in() {
        let backend = resolve(DeviceChoice::default()).unwrap().backend.unwrap();
        assert!(is_compiled_in(backend));
    }

    #[test]
    fn a_backend_that_is_not_compiled_in_is_refused_with_advice() {
        for backend in Backend::ALL
            .into_iter()
            .filter(|backend| !is_compiled_in(*backend))
        {
            let error = open(DeviceChoice::on(backend)).unwrap_err();
            assert!(error.is::<UsageError>());
            assert!(
                error.to_string().contains(&format!("--device {backend}")),
                "{error}"
            );
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(
            open(DeviceChoice::on(Backend::Flex)).unwrap(),
            Device::flex()
        );
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn an_index_no_card_has_is_refused() {
        let choice = DeviceChoice {
            backend: Some(Backend::Wgpu),
            index: Some(99),
        };
        let error = open(choice).unwrap_err().to_string();
        assert!(error.contains("wgpu:99"), "{error}");
    }
}
