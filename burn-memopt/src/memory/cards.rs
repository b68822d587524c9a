//! What NVIDIA's management library says of the cards.

use super::Bytes;

/// Total and free memory of a card.
#[derive(Debug, Clone, Copy)]
pub(super) struct CardMemory {
    pub total: Bytes,
    pub free: Bytes,
}

/// The management library, where the feature `tools` is on and the library is installed.
#[derive(Debug)]
pub(super) struct Cards {
    #[cfg(feature = "tools")]
    library: Option<nvml_wrapper::Nvml>,
}

#[cfg(feature = "tools")]
impl Cards {
    /// Loads the library only if there is a card that it could know.
    pub(super) fn open(has_card: bool) -> Self {
        let library = has_card.then(|| nvml_wrapper::Nvml::init().ok()).flatten();
        Self { library }
    }

    /// Memory of the card at this PCI address, `None` if unknown.
    pub(super) fn memory(&self, pci_address: &str) -> Option<CardMemory> {
        let card = self
            .library
            .as_ref()?
            .device_by_pci_bus_id(pci_address)
            .ok()?;
        let memory = card.memory_info().ok()?;
        Some(CardMemory {
            total: Bytes::new(memory.total),
            free: Bytes::new(memory.free),
        })
    }
}

#[cfg(not(feature = "tools"))]
impl Cards {
    pub(super) fn open(_has_card: bool) -> Self {
        Self {}
    }

    pub(super) fn memory(&self, _pci_address: &str) -> Option<CardMemory> {
        None
    }
}
