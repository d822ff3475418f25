//! Where the devices of the board are. Which board it is shows in where BL33 was loaded.

use crate::entry;

/// Addresses of devices.
#[derive(Debug)]
pub(super) struct Board {
    /// Memory of the normal world that nothing else uses, 16 MiB.
    pub(super) spare: u64,
    /// The PL011 that the firmware has set up.
    pub(super) uart: usize,
    /// The GICv3's distributor.
    pub(super) distributor: usize,
    /// Its first redistributor; the others follow.
    pub(super) redistributors: usize,
    /// QEMU's "firmware configuration" device, where there is one.
    pub(super) fw_cfg: Option<usize>,
}

/// QEMU's virt machine: TF-A loads BL33 to 0x60000000.
static QEMU: Board = Board {
    spare: 0x4800_0000,
    uart: 0x0900_0000,
    distributor: 0x0800_0000,
    redistributors: 0x080a_0000,
    fw_cfg: Some(0x0902_0000),
};

/// Arm's FVP Base RevC: TF-A loads BL33 to 0x88000000. Not tried, for want of an FVP.
static FVP: Board = Board {
    spare: 0x9000_0000,
    uart: 0x1c09_0000,
    distributor: 0x2f00_0000,
    redistributors: 0x2f10_0000,
    fw_cfg: None,
};

/// Memory of the FVP starts here; QEMU's machine has BL33 below.
const FVP_MEMORY: usize = 0x8000_0000;

/// The board that this program runs on.
pub(super) fn board() -> &'static Board {
    if entry::image_range().start < FVP_MEMORY {
        &QEMU
    } else {
        &FVP
    }
}

/// Memory of the normal world that nothing else uses, and that the manifests' `ns-memory` holds: the address of 16 MiB.
#[must_use]
pub fn spare_memory() -> u64 {
    board().spare
}
