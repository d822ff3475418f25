//! A few partitions and a normal world on the fake machine.

use std::cell::Cell;

use arm_ffa::FuncId;
use spin::mutex::TicketMutex;
use tantalum_core::{
    abi::{FfaError, V1_2, Version},
    addr::{PageRange, PhysAddr, World as Side},
    context::Stage2Roots,
    id::EndpointId,
    machine::fake::FakeMachine,
    manifest::spmc::{MemoryKind, MemoryRange},
    memory::{Buffer, Buffers, Caller, Limits, MemoryManager, Partitions, Reply, Space},
    partition::Stage2Tables,
};
use tantalum_stage2::{
    Access, Attributes, Entry, Execute, Granule, Ipa, IpaRange, IpaSize, MemoryType, OutputAddress, Ownership, Tables,
};

use crate::message::{Form, Message, relinquish};

pub type Registers = [u64; 8];

/// Id of the first partition.
pub const SP1: u16 = 0x8001;
pub const SP2: u16 = 0x8002;
pub const SP3: u16 = 0x8003;
/// The normal world's only OS.
pub const NWD: u16 = 0;
/// Start of the normal world's memory, of which the first pages exist.
pub const NS: u64 = 0x4000_0000;
/// Pages of it that are declared.
pub const NS_PAGES: u64 = 0x8000;
/// Pages of it that exist.
pub const NS_REAL: u64 = 64;
/// More of it, above what a partition can address.
pub const NS_HIGH: u64 = 1 << 40;
/// A device of the normal world.
pub const NS_DEVICE: u64 = 0x0900_0000;
/// Pages of a partition that are its own, read, write and execute.
pub const SP_PAGES: u64 = 16;

pub fn page(base: u64, number: u64) -> u64 {
    base + number * 4096
}

/// First page of a partition's memory. Page 16 is read-only, page 17 a device, pages 18 and 19 are not mapped.
pub fn sp_base(id: u16) -> u64 {
    0x0e40_0000 + u64::from(id - SP1) * 0x20_0000
}

/// A page of the normal world's that is a partition's by its manifest.
pub fn sp_ns(id: u16) -> u64 {
    page(NS, 0x1000 + u64::from(id - SP1))
}

fn range(base: u64, pages: u64) -> PageRange {
    PageRange::new(PhysAddr::new(base), pages).unwrap()
}

/// A partition.
pub struct Sp {
    pub id: u16,
    pub tables: TicketMutex<Stage2Tables>,
    pub roots: Stage2Roots,
    pub stopped: Cell<bool>,
}

pub struct Sps(pub Vec<Sp>);

impl Partitions for Sps {
    fn space(&self, id: EndpointId) -> Option<Space<'_>> {
        let sp = self.0.iter().find(|sp| EndpointId::new(sp.id) == id)?;
        Some(Space {
            id,
            tables: &sp.tables,
            roots: sp.roots,
            stopped: sp.stopped.get(),
            at_el0: false,
        })
    }
}

/// Everything.
pub struct World {
    pub machine: FakeMachine,
    pub sps: Sps,
    pub manager: MemoryManager,
    /// Versions of the normal world and the partitions.
    pub versions: Vec<Version>,
    /// Whether each owns its RX buffer.
    pub rx_full: Vec<bool>,
    /// Pages of each buffer.
    pub buffer_pages: u64,
    checks: Cell<usize>,
}

impl World {
    pub fn new(partitions: u16) -> Self {
        Self::with(partitions, Limits::default())
    }

    pub fn with(partitions: u16, limits: Limits) -> Self {
        let mut machine = FakeMachine::new(1);
        let sps = Sps((0..partitions).map(|index| sp(&mut machine, SP1 + index)).collect());
        machine.memory.add(Side::NonSecure, range(NS, NS_REAL));
        machine.memory.add(Side::NonSecure, range(NS_DEVICE, 1));
        let declared = [
            MemoryRange {
                kind: MemoryKind::NsMemory,
                range: range(NS, NS_PAGES),
            },
            MemoryRange {
                kind: MemoryKind::NsMemory,
                range: range(NS_HIGH, 16),
            },
            MemoryRange {
                kind: MemoryKind::NsDeviceMemory,
                range: range(NS_DEVICE, 16),
            },
            MemoryRange {
                kind: MemoryKind::Memory,
                range: range(0x0e10_0000, 0xf00),
            },
        ];
        let taken = (0..partitions).map(|index| range(sp_ns(SP1 + index), 1));
        let manager = MemoryManager::new(&mut machine.tables, &declared, taken, limits).unwrap();
        let parties = usize::from(partitions) + 1;
        for party in 0..parties {
            for base in [tx_base(party), rx_base(party)] {
                let side = if party == 0 { Side::NonSecure } else { Side::Secure };
                machine.memory.add(side, range(base, 4));
            }
        }
        Self {
            machine,
            sps,
            manager,
            versions: vec![V1_2; parties],
            rx_full: vec![false; parties],
            buffer_pages: 1,
            checks: Cell::new(0),
        }
    }

    pub fn form(&self, id: u16) -> Form {
        let Version(_, minor) = self.versions[party(id)];
        Form::ALL[usize::from(minor)]
    }

    pub fn speaks(&mut self, id: u16, form: Form) {
        self.versions[party(id)] = form.version();
    }

    pub fn buffers(&self, id: u16) -> Buffers {
        let party = party(id);
        let world = if party == 0 { Side::NonSecure } else { Side::Secure };
        Buffers {
            tx: Buffer {
                world,
                range: range(tx_base(party), self.buffer_pages),
            },
            rx: Buffer {
                world,
                range: range(rx_base(party), self.buffer_pages),
            },
            rx_full: self.rx_full[party],
        }
    }

    pub fn caller(&self, id: u16) -> Caller {
        let party = party(id);
        Caller {
            id: EndpointId::new(if party == 0 { 0 } else { id }),
            version: self.versions[party],
        }
    }

    /// A call as the SPMC makes it.
    pub fn call(&mut self, id: u16, function: FuncId, registers: [u64; 4]) -> Result<Registers, FfaError> {
        let [x1, x2, x3, x4] = registers;
        let registers = [function as u64, x1, x2, x3, x4, 0, 0, 0];
        let (caller, buffers) = (self.caller(id), self.buffers(id));
        let reply = self.manager.call(
            &mut self.machine,
            &self.sps,
            caller,
            function,
            &registers,
            Some(buffers),
        );
        let Reply { registers, fills_rx } = reply?;
        self.rx_full[party(id)] |= fills_rx;
        Ok(registers)
    }

    pub fn put_tx(&mut self, id: u16, bytes: &[u8]) {
        let Buffer { world, range } = self.buffers(id).tx;
        self.machine.memory.write(world, range.base(), bytes).unwrap();
    }

    pub fn get_rx(&mut self, id: u16, bytes: usize) -> Vec<u8> {
        let Buffer { world, range } = self.buffers(id).rx;
        let mut into = vec![0; bytes];
        self.machine.memory.read(world, range.base(), &mut into).unwrap();
        into
    }

    /// Sends a descriptor in fragments of at most `most` bytes. The handle.
    pub fn send_by(&mut self, id: u16, function: FuncId, bytes: &[u8], most: usize) -> Result<u64, FfaError> {
        let mut sent = bytes.len().min(most);
        self.put_tx(id, &bytes[..sent]);
        let mut reply = self.call(id, function, [bytes.len() as u64, sent as u64, 0, 0])?;
        while reply[0] == 0x8400_007a {
            assert_eq!(reply[3], sent as u64, "bytes received");
            let length = (bytes.len() - sent).min(most);
            self.put_tx(id, &bytes[sent..sent + length]);
            sent += length;
            reply = self.call(id, FuncId::MemFragTx, [reply[1], reply[2], length as u64, 0])?;
        }
        assert_eq!((reply[0], reply[1], sent), (0x8400_0061, 0, bytes.len()));
        assert_eq!(&reply[4..], [0; 4]);
        Ok(reply[2] | reply[3] << 32)
    }

    pub fn send(&mut self, id: u16, function: FuncId, message: &Message) -> Result<u64, FfaError> {
        self.send_by(id, function, &message.bytes(), 4096)
    }

    /// Retrieves, with all fragments; releases RX after each.
    pub fn retrieve(&mut self, id: u16, request: &Message) -> Result<Message, FfaError> {
        let bytes = request.bytes();
        self.put_tx(id, &bytes);
        let length = bytes.len() as u64;
        let reply = self.call(id, FuncId::MemRetrieveReq32, [length, length, 0, 0])?;
        assert_eq!((reply[0], &reply[3..]), (0x8400_0075, &[0; 5][..]));
        let mut response = self.get_rx(id, reply[2] as usize);
        self.rx_full[party(id)] = false;
        let (low, high) = (request.handle & 0xffff_ffff, request.handle >> 32);
        while (response.len() as u64) < reply[1] {
            let more = self.call(id, FuncId::MemFragRx, [low, high, response.len() as u64, 0])?;
            assert_eq!((more[0], more[1], more[2]), (0x8400_007b, low, high));
            response.extend(self.get_rx(id, more[3] as usize));
            self.rx_full[party(id)] = false;
        }
        Ok(Message::parse(request.form, &response))
    }

    /// [`World::retrieve`] with a request and a response that are longer than a page.
    pub fn put_and_retrieve(&mut self, id: u16, request: &Message) -> Result<(), FfaError> {
        let bytes = request.bytes();
        self.put_tx(id, &bytes);
        let length = bytes.len() as u64;
        self.call(id, FuncId::MemRetrieveReq64, [length, length, 0, 0])
            .map(drop)
    }

    pub fn relinquish(&mut self, id: u16, handle: u64, flags: u32) -> Result<Registers, FfaError> {
        self.put_tx(id, &relinquish(handle, flags, &[id]));
        self.call(id, FuncId::MemRelinquish, [0; 4])
    }

    pub fn reclaim(&mut self, id: u16, handle: u64, flags: u32) -> Result<Registers, FfaError> {
        self.call(
            id,
            FuncId::MemReclaim,
            [handle & 0xffff_ffff, handle >> 32, flags.into(), 0],
        )
    }

    fn sp(&self, id: u16) -> &Sp {
        self.sps.0.iter().find(|sp| sp.id == id).unwrap()
    }

    /// What a partition has of a page.
    pub fn entry(&self, id: u16, side: Side, address: u64) -> Entry {
        let tables = self.sp(id).tables.lock();
        let tables = if side == Side::Secure {
            &tables.secure
        } else {
            &tables.non_secure
        };
        tables.entry(&self.machine, Ipa(address))
    }

    /// Letters for what a partition may do with a page, and how it has it.
    pub fn access(&self, id: u16, side: Side, address: u64) -> String {
        let Entry::Mapped(output, attributes) = self.entry(id, side, address) else {
            return "-".into();
        };
        assert_eq!(output.0, address);
        let access = match attributes.access() {
            Access::ReadWrite => "rw",
            Access::ReadOnly => "r",
            _ => "?",
        };
        let execute = if attributes.execute() == Execute::Always {
            "x"
        } else {
            ""
        };
        format!("{access}{execute} {:?}", attributes.ownership())
    }

    pub fn fill(&mut self, side: Side, address: u64, byte: u8) {
        self.machine
            .memory
            .write(side, PhysAddr::new(address), &[byte; 4096])
            .unwrap();
    }

    pub fn is_filled(&mut self, side: Side, address: u64, byte: u8) -> bool {
        let mut into = [0; 4096];
        self.machine
            .memory
            .read(side, PhysAddr::new(address), &mut into)
            .unwrap();
        into == [byte; 4096]
    }

    /// The invariants; `kept` pages of the normal world were donated.
    pub fn check(&self, kept: u64) {
        let kept = kept + self.sps.0.len() as u64;
        if let Err(what) = self.manager.check_invariants(&self.machine, &self.sps, &[], kept) {
            panic!("{what}");
        }
        // Slow, and no more than the tables' own tests do.
        self.checks.set(self.checks.get() + 1);
        if !self.checks.get().is_multiple_of(16) {
            return;
        }
        for sp in &self.sps.0 {
            let tables = sp.tables.lock();
            self.machine.tables.check_one(&tables.secure).unwrap();
            self.machine.tables.check_one(&tables.non_secure).unwrap();
        }
    }

    /// Nothing is left of any share: no table pages but the marks' and those that splits and spares have left.
    pub fn assert_idle(&self) {
        assert_eq!(self.manager.shares(), 0);
        let tables = |sp: &Sp| {
            let tables = sp.tables.lock();
            tables.secure.table_count() + tables.non_secure.table_count()
        };
        let known = self.manager.table_pages() + self.sps.0.iter().map(tables).sum::<usize>();
        assert_eq!(self.machine.tables.live(), known, "pages leaked");
    }

    /// All that a failed call must not change.
    pub fn snapshot(&self) -> Vec<String> {
        let mut all = vec![format!("{} shares", self.manager.shares())];
        for sp in &self.sps.0 {
            let tables = sp.tables.lock();
            for tables in [&tables.secure, &tables.non_secure] {
                let everything = IpaRange::new(Ipa(0), 0x8_0000).unwrap();
                let _ = tables.walk(&self.machine, everything, |run| {
                    all.push(format!("{:x} {run:?}", sp.id));
                    std::ops::ControlFlow::Continue(())
                });
            }
        }
        all
    }
}

fn party(id: u16) -> usize {
    if id < 0x8000 { 0 } else { usize::from(id - 0x8000) }
}

fn tx_base(party: usize) -> u64 {
    if party == 0 {
        page(NS, 0x20000)
    } else {
        0x0f00_0000 + 0x10_0000 * party as u64
    }
}

fn rx_base(party: usize) -> u64 {
    tx_base(party) + 0x8_0000
}

fn sp(machine: &mut FakeMachine, id: u16) -> Sp {
    let mut secure = Tables::new(machine, IpaSize::Bits39).unwrap();
    let mut non_secure = Tables::new(machine, IpaSize::Bits39).unwrap();
    let mut map = |tables: &mut Tables, base, pages, kind, access, execute| {
        let attributes = Attributes::new(kind, access, execute, Ownership::Owned);
        let ipas = IpaRange::new(Ipa(base), pages).unwrap();
        tables
            .map(machine, ipas, OutputAddress(base), attributes, Granule::Blocks)
            .unwrap();
    };
    let base = sp_base(id);
    let normal = MemoryType::NormalWriteBack;
    map(&mut secure, base, SP_PAGES, normal, Access::ReadWrite, Execute::Always);
    map(&mut secure, page(base, 16), 1, normal, Access::ReadOnly, Execute::Never);
    map(
        &mut secure,
        page(base, 17),
        1,
        MemoryType::DeviceNGnRnE,
        Access::ReadWrite,
        Execute::Never,
    );
    map(&mut non_secure, sp_ns(id), 1, normal, Access::ReadWrite, Execute::Never);
    machine.memory.add(Side::Secure, range(base, 18));
    machine.memory.add(Side::NonSecure, range(sp_ns(id), 1));
    let roots = Stage2Roots {
        secure: PhysAddr::new(secure.root().0),
        non_secure: PhysAddr::new(non_secure.root().0),
        vmid: id - 0x8000,
    };
    Sp {
        id,
        tables: TicketMutex::new(Stage2Tables::new(secure, non_secure)),
        roots,
        stopped: Cell::new(false),
    }
}
