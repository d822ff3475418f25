//! RX/TX buffer pairs, of the normal world and of partitions: mapped while a test holds them, unmapped when it ends, however it does.

use tantalum_agent::{Command, Probe};
use tantalum_partition::{ffa::Partition, probe};

use crate::{
    report::{Outcome, expect_eq, fail},
    talk::{Conduit, RX_RELEASE, RXTX_MAP64, RXTX_UNMAP, ask, call_from, command, expect_success, smc},
};

/// Bytes in a page.
pub const PAGE: u64 = 0x1000;
/// Memory of the normal world that the SPMC's manifest lists and that nothing else uses.
pub const NORMAL_WORLD: u64 = 0x4800_0000;
/// Where the manifests put the echo partition.
pub const ECHO_BASE: u64 = 0x0e20_0000;
/// Where the manifests put the forwarding partition.
pub const FORWARD_BASE: u64 = 0x0e30_0000;
/// Where the manifests put the second forwarding partition.
pub const RELAY_BASE: u64 = 0x0e40_0000;
/// Where the manifests put the attacking partition.
pub const ATTACK_BASE: u64 = 0x0e60_0000;
/// Where the manifest puts the partition at S-EL0.
pub const USER_BASE: u64 = 0x0e80_0000;
/// In a partition's memory: pages that its program does not use.
pub const FREE: u64 = tantalum_agent::FREE;

/// So many bytes at the start of RX are all ones when it has just been mapped.
const FILLED: u64 = 256;

/// Whose buffers, and who reads and writes them.
#[derive(Clone, Copy, Debug)]
enum Owner {
    NormalWorld,
    /// A virtual machine, for which the hypervisor speaks.
    Vm(u64),
    Partition(Partition),
}

/// A pair of one page each, one behind the other: TX, RX.
#[derive(Debug)]
pub struct Pair {
    owner: Owner,
    tx: u64,
}

impl Pair {
    /// Maps a pair of the normal world.
    pub fn of_normal_world() -> Outcome<Self> {
        let pair = Self {
            owner: Owner::NormalWorld,
            tx: NORMAL_WORLD,
        };
        pair.map()
    }

    /// Maps a pair of a virtual machine: the hypervisor describes it in its own TX and passes it on.
    pub fn of_vm(hypervisor: &Self, vm: u64) -> Outcome<Self> {
        let pair = Self {
            owner: Owner::Vm(vm),
            tx: NORMAL_WORLD + vm * 2 * PAGE,
        };
        pair.fill()?;
        hypervisor.describe(vm, pair.tx, pair.rx())?;
        expect_success(
            &hypervisor.call(&[RXTX_MAP64])?,
            "FFA_RXTX_MAP of the buffers of a virtual machine",
        )?;
        Ok(pair)
    }

    /// Writes the endpoint RX/TX descriptor of a virtual machine into TX: its id, and two composite descriptors of one page each.
    pub fn describe(&self, vm: u64, tx: u64, rx: u64) -> Outcome {
        let (rx_at, tx_at) = (16, 48);
        let words = [vm | rx_at << 32, tx_at, 1 | 1 << 32, 0, rx, 1, 1 | 1 << 32, 0, tx, 1];
        self.send(&words)
    }

    /// Writes words into TX, from its start.
    pub fn send(&self, words: &[u64]) -> Outcome {
        for (offset, word) in (0..).step_by(8).zip(words) {
            self.write(self.tx + offset, *word)?;
        }
        Ok(())
    }

    /// Has a partition map a pair in its memory, which starts at `base`.
    pub fn of_partition(partition: Partition, base: u64) -> Outcome<Self> {
        let tx = base + FREE;
        command(partition, Command::Map, &[tx, tx, 2 * PAGE, 0])?;
        Self::of_partition_at_s_el0(partition, base)
    }

    /// The same for a partition that has no stage 1 of its own.
    pub fn of_partition_at_s_el0(partition: Partition, base: u64) -> Outcome<Self> {
        let pair = Self {
            owner: Owner::Partition(partition),
            tx: base + FREE,
        };
        pair.map()
    }

    /// What an earlier test left there is not what this one expects.
    fn fill(&self) -> Outcome {
        for offset in (0..FILLED).step_by(8) {
            self.write(self.rx() + offset, u64::MAX)?;
        }
        Ok(())
    }

    fn map(self) -> Outcome<Self> {
        self.fill()?;
        expect_success(
            &self.call(&[RXTX_MAP64, self.tx, self.rx(), 1])?,
            "FFA_RXTX_MAP of two pages of one's own",
        )?;
        Ok(self)
    }

    fn rx(&self) -> u64 {
        self.tx + PAGE
    }

    /// Has the owner make a call; returns its x0 and up.
    pub fn call(&self, values: &[u64]) -> Outcome<[u64; 14]> {
        match self.owner {
            Owner::NormalWorld | Owner::Vm(_) => {
                let mut answer = [0; 14];
                answer.copy_from_slice(&smc(values)[..14]);
                Ok(answer)
            }
            Owner::Partition(partition) => call_from(partition, Conduit::Smc, values),
        }
    }

    /// The 8 bytes of RX at an offset.
    pub fn received(&self, offset: u64) -> Outcome<u64> {
        let address = self.rx() + offset;
        match self.owner {
            Owner::NormalWorld | Owner::Vm(_) => match probe::read64(address) {
                Ok(value) => Ok(value),
                Err(fault) => fail!("the normal world can't read its RX: {fault}"),
            },
            Owner::Partition(partition) => match Probe::from_words(&ask(partition, Command::Read.words(&[address]))?) {
                Some(Probe::Passed(value)) => Ok(value),
                other => fail!("partition {:#x} can't read its RX: {other:x?}", partition.id),
            },
        }
    }

    fn write(&self, address: u64, value: u64) -> Outcome {
        match self.owner {
            Owner::NormalWorld | Owner::Vm(_) => {
                if let Err(fault) = probe::write64(address, value) {
                    fail!("the normal world can't write its buffers: {fault}");
                }
            }
            Owner::Partition(partition) => {
                let written = Probe::from_words(&ask(partition, Command::Write.words(&[address, value]))?);
                expect_eq!(written, Some(Probe::Passed(0)), "a write of a partition to its buffers");
            }
        }
        Ok(())
    }

    /// Gives RX back.
    pub fn release(&self) -> Outcome {
        expect_success(&self.call(&[RX_RELEASE, self.vm()])?, "FFA_RX_RELEASE of a full RX")
    }

    /// The id of the virtual machine, 0 for anybody else: who calls speaks for itself.
    pub fn vm(&self) -> u64 {
        match self.owner {
            Owner::Vm(id) => id,
            Owner::NormalWorld | Owner::Partition(_) => 0,
        }
    }

    /// The owner's id.
    pub fn id(&self) -> u64 {
        match self.owner {
            Owner::NormalWorld => 0,
            Owner::Vm(id) => id,
            Owner::Partition(partition) => u64::from(partition.id),
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.call(&[RXTX_UNMAP, self.vm() << 16]);
    }
}
