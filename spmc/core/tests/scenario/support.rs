//! What all tests speak of.

pub use tantalum_core::machine::fake::{Builder, Owner, PartitionBuilder, System};
use tantalum_core::{
    machine::fake::FakeMachine,
    manifest::partition::MessagingMethod,
    spmc::{Exit, Spmc},
};

/// The partitions of most tests, as they are in w1.
pub const A: u64 = 0x8001;
pub const B: u64 = 0x8002;
pub const C: u64 = 0x8003;
/// The SPMC and the SPMD.
pub const SPMC: u64 = 0x8000;
pub const SPMD: u64 = 0xffff;

pub const ERROR: u64 = 0x8400_0060;
pub const SUCCESS: u64 = 0x8400_0061;
pub const SUCCESS_64: u64 = 0xc400_0061;
pub const INTERRUPT: u64 = 0x8400_0062;
pub const VERSION: u64 = 0x8400_0063;
pub const FEATURES: u64 = 0x8400_0064;
pub const ID_GET: u64 = 0x8400_0069;
pub const MSG_WAIT: u64 = 0x8400_006b;
pub const YIELD: u64 = 0x8400_006c;
pub const RUN: u64 = 0x8400_006d;
pub const REQ: u64 = 0x8400_006f;
pub const REQ_64: u64 = 0xc400_006f;
pub const RESP: u64 = 0x8400_0070;
pub const RESP_64: u64 = 0xc400_0070;
pub const MEM_RETRIEVE_REQ: u64 = 0x8400_0074;
pub const MEM_RETRIEVE_RESP: u64 = 0x8400_0075;
pub const NORMAL_WORLD_RESUME: u64 = 0x8400_007c;
pub const SPM_ID_GET: u64 = 0x8400_0085;
pub const SECONDARY_EP_REGISTER: u64 = 0xc400_0087;
pub const CONSOLE_LOG: u64 = 0x8400_008a;
pub const CONSOLE_LOG_64: u64 = 0xc400_008a;
pub const PARTITION_INFO_GET_REGS: u64 = 0xc400_008b;
pub const REQ2: u64 = 0xc400_008d;
pub const RESP2: u64 = 0xc400_008e;
pub const ABORT: u64 = 0x8400_0090;

pub const NOT_SUPPORTED: i32 = -1;
pub const INVALID_PARAMETERS: i32 = -2;
pub const NO_MEMORY: i32 = -3;
pub const BUSY: i32 = -4;
pub const DENIED: i32 = -6;
pub const RETRY: i32 = -7;
pub const ABORTED: i32 = -8;

/// x0-x7 of FFA_ERROR: the code is in w2, zero-extended.
pub fn error(code: i32) -> [u64; 8] {
    [ERROR, 0, u64::from(code.cast_unsigned()), 0, 0, 0, 0, 0]
}

/// x0-x7 of FFA_SUCCESS with a value in w2.
pub fn success(w2: u64) -> [u64; 8] {
    [SUCCESS, 0, w2, 0, 0, 0, 0, 0]
}

/// w1 of a message.
pub fn route(source: u64, destination: u64) -> u64 {
    source << 16 | destination
}

/// w1 that names a context.
pub fn target(partition: u64, vcpu: u64) -> u64 {
    partition << 16 | vcpu
}

/// The context `vcpu` of `partition` has the PE.
pub fn runs(partition: u64, vcpu: u16) -> Owner {
    Owner::Partition(u16::try_from(partition).expect("an id"), vcpu)
}

/// Nobody but the normal world has the PE.
pub const NWD: Owner = Owner::NormalWorld;

/// Three pinned partitions on two PEs.
pub fn three() -> (Spmc, FakeMachine) {
    Builder::new(2).partition("a").partition("b").partition("c").build()
}

/// Everything that direct messages may be used for, but `without`.
pub fn all_but(without: MessagingMethod) -> MessagingMethod {
    let all = MessagingMethod::DIRECT_REQ_RECEIVE
        | MessagingMethod::DIRECT_REQ_SEND
        | MessagingMethod::DIRECT_REQ2_RECEIVE
        | MessagingMethod::DIRECT_REQ2_SEND;
    all - without
}

/// A request with the payload 3, 4, 5, 6, 7.
pub fn request(source: u64, destination: u64) -> [u64; 8] {
    [REQ, route(source, destination), 0, 3, 4, 5, 6, 7]
}

/// A response with the payload 13, 14, 15, 16, 17.
pub fn response(source: u64, destination: u64) -> [u64; 8] {
    [RESP, route(source, destination), 0, 13, 14, 15, 16, 17]
}

/// An interrupt of the normal world.
pub const NS_INTERRUPT: Exit = Exit::Fiq;

/// Moves that many tests begin with.
pub trait Moves {
    /// The normal world asks `to`, which runs then.
    fn ask(&mut self, pe: usize, to: u64);
    /// The partition `from`, which has the PE, asks `to`, which runs then.
    fn forward(&mut self, pe: usize, from: u64, to: u64);
    /// The partition `from`, which has the PE, responds to `to`.
    fn respond(&mut self, pe: usize, from: u64, to: u64);
    /// The normal world makes a call that fails with `code`.
    #[track_caller]
    fn nwd_fails(&mut self, pe: usize, registers: &[u64], code: i32);
    /// The partition that has the PE makes a call that fails with `code`, and goes on.
    #[track_caller]
    fn smc_fails(&mut self, pe: usize, registers: &[u64], code: i32);
}

impl Moves for System<'_> {
    #[track_caller]
    fn ask(&mut self, pe: usize, to: u64) {
        let Owner::Partition(id, _) = self.nwd(pe, &request(0, to)) else {
            panic!("{:x?}", self.regs(pe))
        };
        assert_eq!(u64::from(id), to);
        assert_eq!(self.regs(pe), request(0, to));
    }

    #[track_caller]
    fn forward(&mut self, pe: usize, from: u64, to: u64) {
        let Owner::Partition(id, _) = self.smc(pe, &request(from, to)) else {
            panic!("{:x?}", self.regs(pe))
        };
        assert_eq!(u64::from(id), to, "{:x?}", self.regs(pe));
        assert_eq!(self.regs(pe), request(from, to));
    }

    #[track_caller]
    fn respond(&mut self, pe: usize, from: u64, to: u64) {
        self.smc(pe, &response(from, to));
        assert_eq!(self.regs(pe), response(from, to));
    }

    fn nwd_fails(&mut self, pe: usize, registers: &[u64], code: i32) {
        self.nwd(pe, registers);
        assert_eq!((self.owner(pe), self.regs(pe)), (NWD, error(code)));
    }

    fn smc_fails(&mut self, pe: usize, registers: &[u64], code: i32) {
        let before = self.owner(pe);
        self.smc(pe, registers);
        assert_eq!((self.owner(pe), self.regs(pe)), (before, error(code)));
    }
}

/// A synchronous exception with the syndrome `esr`, far and hpfar being 0.
pub fn synchronous(esr: u64) -> Exit {
    Exit::Synchronous { esr, far: 0, hpfar: 0 }
}

/// The normal world's FFA_VERSION, as the SPMD passes it on.
pub trait Negotiate {
    /// What x3 of the answer is.
    fn negotiate(&mut self, pe: usize, version: u64) -> u64;
}

impl Negotiate for System<'_> {
    #[track_caller]
    fn negotiate(&mut self, pe: usize, version: u64) -> u64 {
        self.nwd(pe, &[REQ, route(SPMD, SPMC), 0x8000_0008, version]);
        let [x0, x1, x2, x3, rest @ ..] = self.regs(pe);
        assert_eq!(([x0, x1, x2], rest), ([RESP, route(SPMC, SPMD), 0x8000_0009], [0; 4]));
        x3
    }
}
