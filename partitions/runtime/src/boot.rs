//! What the program learns at entry: which context it is, and the boot information that the SPM left for it.

#![expect(
    unsafe_code,
    reason = "the boot information is memory that only a register points at"
)]

use core::fmt;

use arm_ffa::{FfaError, Version};
use dtoolkit::{Node, Property, fdt::Fdt};

use crate::{arch, entry, ffa};

/// First word of a boot information blob.
const SIGNATURE: u32 = 0x0ffa;
/// Bytes of the header, and of each descriptor (FF-A 1.1 and later).
const HEADER_SIZE: usize = 32;
const DESCRIPTOR_SIZE: usize = 32;
/// More than any manifest has: a blob or a device tree that claims more is not one.
const LARGEST: usize = 64 * 1024;
/// Boot information of the standard type "flattened device tree".
const TYPE_FDT: u8 = 0;
const FDT_MAGIC: u32 = 0xd00d_feed;

/// The entry state of one execution context.
#[derive(Debug)]
pub struct Boot {
    /// The number of this execution context; in the normal world of this core, in the order in which the driver started them.
    pub context: usize,
    /// Whether this is the first context to run: others start when the SPM or the driver starts them.
    pub is_first: bool,
    /// The bits that were set in any of x5-x30 at entry, which FF-A says are zero in a partition.
    pub leftovers: u64,
    registers: [u64; 4],
}

impl Boot {
    pub(crate) fn new(registers: [u64; 4], context: usize, is_first: bool, leftovers: u64) -> Self {
        Self {
            context,
            is_first,
            leftovers,
            registers,
        }
    }

    /// The boot information, if the manifest asked for it. Only the first context gets it.
    #[must_use]
    pub fn information(&self) -> Option<Information> {
        if arch::is_normal_world() || !self.is_first {
            return None;
        }
        // All registers but the chosen one are zero (and x4, which is not among these).
        self.registers
            .iter()
            .find_map(|&register| Information::at(usize::try_from(register).ok()?))
    }

    /// The version of FF-A that the manifest says the partition speaks, up to the one that this library does.
    pub(crate) fn manifest_version(&self) -> Option<Version> {
        let version = self.information()?.number("ffa-version")?;
        Some(Version::try_from(version).ok()?.min(ffa::VERSION))
    }

    /// Asks the SPM to start the further contexts of this partition at the runtime library's entry, from where they reach `main` too.
    ///
    /// # Errors
    ///
    /// What the SPM answers, for example that the partition has one context only.
    pub fn register_secondaries(&self) -> Result<(), ffa::Error> {
        ffa::SMC.secondary_ep_register(entry::secondary_entry())
    }
}

/// A blob of boot information: a list of descriptors of things that the SPM passes to the partition.
#[derive(Clone, Copy)]
pub struct Information {
    blob: &'static [u8],
    descriptors: &'static [u8],
    /// The FF-A version of the format.
    pub version: Version,
}

impl Information {
    fn at(address: usize) -> Option<Self> {
        if address == 0 || !address.is_multiple_of(8) {
            return None;
        }
        // SAFETY: the SPM put the address of a boot information blob in the register: FF-A says that the memory is the partition's, and the
        // partition never writes there. The header is read before anything that it claims.
        let header = unsafe { core::slice::from_raw_parts(address as *const u8, HEADER_SIZE) };
        if word(header, 0)? != SIGNATURE {
            return None;
        }
        let version = Version::try_from(word(header, 4)?).ok()?;
        let size = word(header, 8)? as usize;
        let descriptor_size = word(header, 12)? as usize;
        let count = word(header, 16)? as usize;
        let offset = word(header, 20)? as usize;
        if !(HEADER_SIZE..=LARGEST).contains(&size) || descriptor_size != DESCRIPTOR_SIZE {
            return None;
        }
        // SAFETY: as above, now with the size that the header states, which is bounded.
        let blob = unsafe { core::slice::from_raw_parts(address as *const u8, size) };
        let descriptors = blob.get(offset..offset.checked_add(count.checked_mul(DESCRIPTOR_SIZE)?)?)?;
        Some(Self {
            blob,
            descriptors,
            version,
        })
    }

    /// The bytes of the whole blob.
    #[must_use]
    pub fn size(&self) -> usize {
        self.blob.len()
    }

    /// The partition's own manifest, if it is among the boot information.
    #[must_use]
    pub fn manifest(&self) -> Option<Fdt<'static>> {
        self.descriptors.chunks_exact(DESCRIPTOR_SIZE).find_map(|descriptor| {
            if *descriptor.get(16)? != TYPE_FDT {
                return None;
            }
            let low = u64::from(word(descriptor, 24)?);
            let high = u64::from(word(descriptor, 28)?);
            device_tree(usize::try_from(high << 32 | low).ok()?)
        })
    }

    /// A number of one cell that the root of the manifest has as a property, such as `execution-ctx-count`.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.manifest()?.root().property(name)?.value_as().ok()
    }

    /// A string property of the root of the manifest, such as `description`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'static str> {
        self.manifest()?.root().property(name)?.value_as().ok()
    }

    /// The strings of a property of a node under the root of the manifest. A node whose name has a vendor's prefix, `vendor,name`, is for the
    /// partition itself.
    #[must_use]
    pub fn texts(&self, node: &str, property: &str) -> Option<impl Iterator<Item = &'static str> + use<>> {
        let mut nodes = self.manifest()?.root().children();
        let mut properties = nodes.find(|child| child.name() == node)?.properties();
        let property = properties.find(|candidate| candidate.name() == property)?;
        let text = core::str::from_utf8(property.value_as::<&'static [u8]>().ok()?).ok()?;
        Some(text.strip_suffix('\0')?.split('\0'))
    }
}

impl fmt::Debug for Information {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot information {} ({} bytes)", self.version, self.blob.len())
    }
}

/// The device tree at `address`.
fn device_tree(address: usize) -> Option<Fdt<'static>> {
    if address == 0 || !address.is_multiple_of(4) {
        return None;
    }
    // SAFETY: the address comes from a descriptor of boot information, so the memory there is the partition's and nobody writes it.
    let header = unsafe { core::slice::from_raw_parts(address as *const u8, 8) };
    if word(header, 0)?.swap_bytes() != FDT_MAGIC {
        return None;
    }
    let size = word(header, 4)?.swap_bytes() as usize;
    if size > LARGEST {
        return None;
    }
    // SAFETY: as above, with the bounded size that the header states.
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, size) };
    Fdt::new(bytes).ok()
}

/// The little-endian word at `offset`.
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Tells the SPM that this context can't be initialised. Does not return if the SPM obeys.
pub(crate) fn initialisation_failed() {
    ffa::SMC.error(FfaError::Aborted);
}
