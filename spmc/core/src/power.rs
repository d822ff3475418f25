//! Framework messages of EL3: the normal world's FFA_VERSION, and PSCI (FF-A 1.2, chapter 18; TF-A's SPMD).

use crate::{
    abi::{self, FfaError, Form, Route, SPMC_VERSION, Version, low},
    framework::Relay,
    id::EndpointId,
    machine::Machine,
    manifest::partition::PowerManagement,
    spmc::{Action, Attention, Pe, Spmc, refuse, reply},
};

/// x2 of a PSCI request from EL3.
const PSCI_REQUEST: u32 = 0x8000_0000;
/// x2 of a warm boot message from EL3.
const WARM_BOOT: u32 = 0x8000_0001;
/// x2 of our answer to either.
pub(crate) const POWER_RESPONSE: u64 = 0x8000_0002;
/// x2 of a FFA_VERSION request that EL3 passes on.
const VERSION_REQUEST: u32 = 0x8000_0008;
/// x2 of our answer.
const VERSION_RESPONSE: u64 = 0x8000_0009;

const PSCI_CPU_SUSPEND: u32 = 0x8400_0001;
const PSCI_CPU_OFF: u32 = 0x8400_0002;
/// PSCI DENIED, as a 32-bit register has it.
pub(crate) const PSCI_DENIED: u32 = 0xffff_fffd;
pub(crate) const PSCI_SUCCESS: u32 = 0;
/// PSCI NOT_SUPPORTED, as a 32-bit register has it.
const PSCI_NOT_SUPPORTED: u32 = 0xffff_ffff;

impl Spmc {
    /// A direct request that is a framework message: of the hypervisor to a partition, or of the SPMD to us. EL3 lets nobody
    /// else use its id.
    pub(crate) fn framework_message<'s, M: Machine>(
        &'s self,
        pe: &mut Pe<'s>,
        machine: &mut M,
        route: Route,
        form: Form,
    ) -> Action {
        let [_, _, x2, x3, x4, x5, x6, x7, ..] = pe.normal_world;
        if !route.source.is_secure() {
            return self.vm_message(pe, machine, route, form);
        }
        if route.source != EndpointId::SPMD || route.destination != EndpointId::SPMC || form != Form::Direct32 {
            return refuse(pe, FfaError::InvalidParameters);
        }
        match low(x2) {
            VERSION_REQUEST => {
                let version = self.negotiate_with_normal_world(low(x3));
                respond(pe, VERSION_RESPONSE, version)
            }
            // Contexts keep their registers in memory: nothing is to be done but to tell those that want to know.
            PSCI_REQUEST | WARM_BOOT => {
                if low(x2) == WARM_BOOT {
                    // The PE's timer has lost its deadline with its power.
                    self.set_timer(machine, pe.index);
                }
                let wanted = match (low(x2), low(x3)) {
                    (WARM_BOOT, _) => PowerManagement::CPU_RESUME,
                    (_, PSCI_CPU_OFF) => PowerManagement::CPU_OFF,
                    (_, PSCI_CPU_SUSPEND) => PowerManagement::CPU_SUSPEND,
                    _ => return respond(pe, POWER_RESPONSE, PSCI_NOT_SUPPORTED),
                };
                if wanted == PowerManagement::CPU_OFF {
                    pe.attention.insert(Attention::LEAVING);
                }
                let message = [x2, x3, x4, x5, x6, x7].map(low);
                self.relay_next(
                    pe,
                    machine,
                    Relay {
                        message,
                        status: PSCI_SUCCESS,
                        next: 0,
                        wanted,
                    },
                )
            }
            _ => refuse(pe, FfaError::InvalidParameters),
        }
    }

    fn negotiate_with_normal_world(&self, requested: u32) -> u32 {
        if compatible(requested).is_some_and(|version| self.negotiate_normal_world_version(version)) {
            u32::from(SPMC_VERSION)
        } else {
            low(abi::error_code(FfaError::NotSupported))
        }
    }
}

/// The version that an endpoint which asks for `requested` gets: the older of its and ours. `None` when there is none:
/// another major version, or bit 31 set (FF-A 1.2, section 13.2).
#[must_use]
pub fn compatible(requested: u32) -> Option<Version> {
    let version = Version::try_from(requested).ok()?;
    let Version(major, minor) = version;
    let Version(our_major, our_minor) = SPMC_VERSION;
    (major == our_major).then_some(Version(major, minor.min(our_minor)))
}

pub(crate) fn respond(pe: &mut Pe<'_>, kind: u64, value: u32) -> Action {
    let route = Route {
        source: EndpointId::SPMC,
        destination: EndpointId::SPMD,
    };
    reply(
        pe,
        Ok([
            abi::FFA_MSG_SEND_DIRECT_RESP_32,
            route.encode(),
            kind,
            u64::from(value),
            0,
            0,
            0,
            0,
        ]),
    )
}
