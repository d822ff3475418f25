//! The partition's side: carries out commands.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tantalum_partition::{
    Boot, Information, arch,
    context::{self, MAX_CONTEXTS},
    ffa::{self, Client, Error, FuncId, HVC, Outcome, Registers, Request, Response, SMC, Uuid, UuidHelper, registers},
    interrupts, measure, mmu,
    mmu::Attributes,
    println,
    probe::{
        self,
        simd::Simd,
        state::{PARTITION, Register},
    },
};

use crate::{Borrower, Command, DONE, FAILED, alarm, attack, device};

/// A partition that echoes messages and carries out the commands among them.
#[derive(Debug)]
pub struct Agent {
    name: &'static str,
    own_id: u16,
    context: usize,
    information: Option<Information>,
    messages: u64,
    /// What was left in general registers at entry.
    leftovers: u64,
    /// A mask of SIMD registers that were not zero when the partition began to use them.
    foreign_simd: u64,
    /// What the registers of [`PARTITION`] held after they were filled.
    state: [u64; 32],
    /// Whether commands that end the partition are obeyed.
    dangerous: bool,
    /// How the partition calls the SPM to wait and to respond.
    client: Client,
    borrower: Borrower,
}

/// A mask of general registers that a response has changed, for each context.
static CHANGED: [AtomicU32; MAX_CONTEXTS] = [const { AtomicU32::new(0) }; MAX_CONTEXTS];
/// What each context knows of framework messages.
static FRAMEWORK: [Framework; MAX_CONTEXTS] = [const { Framework::new() }; MAX_CONTEXTS];
/// The boot information, for the contexts that do not get it: its size, and that of the manifest.
static INFORMATION_SIZE: AtomicU64 = AtomicU64::new(0);
static MANIFEST_SIZE: AtomicU64 = AtomicU64::new(0);
/// No framework message is answered.
static DEAF: AtomicBool = AtomicBool::new(false);
static SECONDARIES_REGISTERED: AtomicBool = AtomicBool::new(false);

/// Framework messages that a context has got, and how it answers them. A context that is turned off and on again starts with what it had.
#[derive(Debug)]
struct Framework {
    count: AtomicU64,
    /// w2-w7 of the last one.
    last: [AtomicU64; 6],
    status: AtomicU64,
}

impl Framework {
    const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            last: [const { AtomicU64::new(0) }; 6],
            status: AtomicU64::new(0),
        }
    }

    /// Takes note of a framework message, if that is what has come.
    fn note(&self, event: &Registers) {
        if is_framework(event, FuncId::MsgSendDirectReq32) {
            self.count.fetch_add(1, Ordering::Relaxed);
            for (slot, word) in self.last.iter().zip(&event[2..]) {
                slot.store(*word, Ordering::Relaxed);
            }
        }
    }

    /// The response to send instead of one that agrees.
    fn answer(&self, response: &Registers) -> Registers {
        let mut response = *response;
        if is_framework(&response, FuncId::MsgSendDirectResp32) {
            if DEAF.load(Ordering::Relaxed) {
                probe::spin_forever();
            }
            response[3] = self.status.load(Ordering::Relaxed);
        }
        response
    }
}

/// Whether registers hold a direct message of this kind that is a framework message.
fn is_framework(registers: &Registers, function: FuncId) -> bool {
    registers[0] == function as u64 && registers[2] >> 31 & 1 != 0
}

impl Agent {
    /// An agent that calls itself on the console what the manifest's `description` says, or `name` if it does not get its manifest.
    #[must_use]
    pub fn new(name: &'static str, boot: &Boot) -> Self {
        let information = boot.information();
        let name = information
            .and_then(|information| information.text("description"))
            .unwrap_or(name);
        if boot.is_first {
            let manifest = information.and_then(|information| information.manifest());
            let size = manifest.map_or(0, |tree| tree.data().len());
            INFORMATION_SIZE.store(
                information.map_or(0, |information| information.size() as u64),
                Ordering::Relaxed,
            );
            MANIFEST_SIZE.store(size as u64, Ordering::Relaxed);
        }
        let own_id = SMC.id_get().unwrap_or(0);
        let version = information.and_then(|information| information.number("ffa-version"));
        Self {
            name,
            own_id,
            context: boot.context,
            information,
            messages: 0,
            leftovers: boot.leftovers,
            foreign_simd: Simd::read().difference(&Simd::ZERO),
            state: [0; 32],
            dangerous: false,
            client: SMC,
            borrower: Borrower::new(own_id).speaking(version.unwrap_or(0x1_0002) & 0xffff),
        }
    }

    /// The `description` in the manifest, if the boot information holds the manifest.
    #[must_use]
    pub fn description(&self) -> Option<&'static str> {
        self.information?.text("description")
    }

    /// Registers the entry point of further contexts, if the manifest says that there are any.
    #[must_use]
    pub fn with_secondaries(self, boot: &Boot) -> Self {
        let contexts = self
            .information
            .and_then(|information| information.number("execution-ctx-count"));
        if boot.is_first && contexts.is_some_and(|contexts| contexts > 1) {
            match boot.register_secondaries() {
                Ok(()) => SECONDARIES_REGISTERED.store(true, Ordering::Relaxed),
                Err(error) => println!("{}: no secondary entry point: {error}", self.name),
            }
        }
        self
    }

    /// Obeys commands that end the partition, too.
    #[must_use]
    pub fn dangerous(self) -> Self {
        Self {
            dangerous: true,
            ..self
        }
    }

    /// Waits and responds by hypervisor calls.
    #[must_use]
    pub fn by_hvc(self) -> Self {
        Self { client: HVC, ..self }
    }

    /// Serves messages forever.
    pub fn serve(mut self) -> ! {
        if self.context == 0 {
            println!("{}: ready, id {:#x}", self.name, self.own_id);
        }
        let (context, client) = (self.context, self.client);
        ffa::serve_with(
            |response| {
                // A pattern in x18-x30 that must still be there when the next message comes.
                let seed = arch::counter();
                let response = FRAMEWORK[context].answer(response);
                let (event, changed) = probe::call_checking_gprs(client, &response, seed);
                CHANGED[context].fetch_or(changed, Ordering::Relaxed);
                FRAMEWORK[context].note(&event);
                alarm::note(&event);
                event
            },
            |request| self.handle(request),
        )
    }

    fn handle(&mut self, request: &Request) -> Response {
        self.messages += 1;
        let payload = request.payload();
        let Some(command) = Command::from_word(payload[0]) else {
            return request.echo();
        };
        let mut arguments = [0; 13];
        arguments[..payload.len() - 1].copy_from_slice(&payload[1..]);
        let mut answer = [0; 14];
        self.obey(command, &arguments, payload.len(), &mut answer);
        request.respond(&answer)
    }

    /// Carries out a command whose message has `words` words, and fills in the answer.
    fn obey(&mut self, command: Command, arguments: &[u64; 13], words: usize, answer: &mut [u64; 14]) {
        let [first, second, third, fourth, ..] = *arguments;
        answer[0] = DONE;
        match command {
            Command::Call => {
                let client = if first == 0 { SMC } else { HVC };
                let result = client.call(&registers(&arguments[1..words - 1]));
                answer.copy_from_slice(&result[..14]);
            }
            Command::Spin => {
                answer[1] = spin(first);
                answer[2] = arch::counter();
            }
            Command::Status => self.status(answer),
            Command::SimdFill => Simd::pattern(first).write(),
            Command::SimdCheck => answer[1] = Simd::read().difference(&Simd::pattern(first)),
            Command::StateFill => self.fill_state(first),
            Command::StateCheck => answer[1] = self.check_state(),
            Command::Read => answer[..5].copy_from_slice(&attack::read(first).words()),
            Command::Write => answer[..5].copy_from_slice(&attack::write(first, second).words()),
            Command::Read32 => answer[..5].copy_from_slice(&attack::read32(first).words()),
            Command::Write32 => answer[..5].copy_from_slice(&attack::write32(first, second).words()),
            Command::Execute => answer[..5].copy_from_slice(&attack::execute(first).words()),
            Command::SystemRegister => attack::system_register(first, answer),
            Command::Die if self.dangerous => attack::die(first, self.name),
            Command::Die => *answer = refusal(0),
            Command::Borrow => self.borrow([first, second, third], answer),
            Command::Discover => discover(UuidHelper::from_u64_regs([first, second]), answer),
            Command::Forward => self.forward(first, &arguments[1..words - 1], answer),
            Command::Map => {
                if map(first, second, third, fourth).is_none() {
                    *answer = refusal(0);
                }
            }
            Command::Measure => measure(self.own_id, first, answer),
            Command::MeasureNotification => measure_notification(self.own_id, [first, second], answer),
            Command::Sleep => arch::wait_for_interrupt(),
            Command::Framework => self.framework(first, answer),
            Command::Listen => device::listen(first, second != 0, third, fourth, answer),
            Command::Heard => device::heard(answer),
            Command::Route => {
                answer[1] = u64::from(interrupts::route((first & 0xffff) as u32, (second & 0xff) as usize))
            }
            Command::Stick if first == 0 => device::stick(),
            Command::Stick => DEAF.store(true, Ordering::Relaxed),
            Command::Alarm => alarm::obey(first, second, third, answer),
            Command::Print => println!("{}: you said {first:#x}", self.name),
        }
    }

    fn borrow(&mut self, arguments: [u64; 3], answer: &mut [u64; 14]) {
        let buffers = self.borrower.buffers();
        if arch::exception_level() == 0 || map(buffers, buffers, 0x2000, 0).is_none() {
            *answer = refusal(0);
            return;
        }
        self.borrower.obey(arguments, answer);
    }

    fn status(&self, answer: &mut [u64; 14]) {
        answer[1] = self.context as u64;
        answer[2] = arch::mpidr();
        answer[3] = self.messages;
        answer[4] = u64::from(CHANGED[context::index()].load(Ordering::Relaxed));
        answer[5] = INFORMATION_SIZE.load(Ordering::Relaxed);
        answer[6] = u64::from(self.own_id);
        answer[7] = arch::exception_level();
        answer[8] = MANIFEST_SIZE.load(Ordering::Relaxed);
        answer[10] = self.leftovers;
        answer[11] = self.foreign_simd;
        answer[9] = u64::from(SECONDARIES_REGISTERED.load(Ordering::Relaxed));
    }

    fn framework(&self, status: u64, answer: &mut [u64; 14]) {
        let known = &FRAMEWORK[self.context];
        known.status.store(status, Ordering::Relaxed);
        answer[1] = known.count.load(Ordering::Relaxed);
        answer[2..8]
            .iter_mut()
            .zip(&known.last)
            .for_each(|(slot, word)| *slot = word.load(Ordering::Relaxed));
    }

    fn fill_state(&mut self, seed: u64) {
        for (index, register) in PARTITION.iter().enumerate() {
            register.write(register.pattern(seed, index));
        }
        // What the processor keeps of a pattern is its business: compare with what it kept.
        self.state
            .iter_mut()
            .zip(PARTITION.iter().map(Register::read))
            .for_each(|(slot, value)| *slot = value);
    }

    fn check_state(&self) -> u64 {
        let held = PARTITION.iter().map(Register::read).zip(&self.state);
        held.enumerate()
            .fold(0, |mask, (index, (now, then))| mask | u64::from(now != *then) << index)
    }

    fn forward(&self, to: u64, words: &[u64], answer: &mut [u64; 14]) {
        let mut payload = [0; 5];
        payload.iter_mut().zip(words).for_each(|(slot, word)| *slot = *word);
        let mut result = SMC.direct_req64(self.own_id, (to & 0xffff) as u16, payload);
        // Whoever asks lends its time: one that yields or is interrupted on its behalf is for it to run again.
        while let Ok(Outcome::Yielded { partition, context } | Outcome::Interrupted { partition, context }) = result {
            if device::is_to_leave() {
                *answer = refusal(3);
                return;
            }
            result = SMC.run(partition, context);
        }
        match result {
            Ok(Outcome::Response(response)) => {
                answer
                    .iter_mut()
                    .zip(response.payload())
                    .for_each(|(slot, word)| *slot = *word);
            }
            Ok(_) => *answer = refusal(1),
            Err(Error::Ffa(code)) => *answer = refusal(i64::from(i32::from(code)).cast_unsigned()),
            Err(Error::Unexpected(_)) => *answer = refusal(2),
        }
    }
}

/// The answer that says: it was not done.
fn refusal(why: u64) -> [u64; 14] {
    let mut answer = [0; 14];
    answer[..2].copy_from_slice(&[FAILED, why]);
    answer
}

/// Spins, and returns how many ticks it took.
fn spin(milliseconds: u64) -> u64 {
    let start = arch::counter();
    let end = start + arch::ticks(milliseconds);
    loop {
        let now = arch::counter();
        if now >= end || device::is_to_leave() {
            return now - start;
        }
        core::hint::spin_loop();
    }
}

fn discover(uuid: Uuid, answer: &mut [u64; 14]) {
    for partition in SMC.partitions(uuid) {
        match partition {
            Ok(partition) => {
                if answer[1] == 0 {
                    answer[2] = u64::from(partition.id);
                    answer[3] = u64::from(partition.contexts);
                }
                answer[1] += 1;
            }
            Err(Error::Ffa(code)) => *answer = refusal(i64::from(i32::from(code)).cast_unsigned()),
            Err(Error::Unexpected(_)) => *answer = refusal(2),
        }
    }
}

fn map(va: u64, pa: u64, size: u64, attributes: u64) -> Option<()> {
    if arch::exception_level() == 0 {
        // Stage 1 is the SPM's, and has each address where it is.
        return (va == pa).then_some(());
    }
    let attributes = match attributes {
        0 => Attributes::Memory,
        1 => Attributes::ReadOnly,
        2 => Attributes::NonSecure,
        _ => Attributes::Device,
    };
    let [va, pa, size] = [va, pa, size].map(|word| usize::try_from(word).ok());
    mmu::map(va?, pa?, size?, attributes).ok()
}

/// How often a call is made before it is measured.
const WARM_UP: usize = 8;

/// Carries out [`Command::Measure`] for partition `own_id`: measures messages to partition `to`.
pub fn measure(own_id: u16, to: u64, answer: &mut [u64; 14]) {
    answer[0] = DONE;
    let message = registers(&[0x8400_006f, ffa::ids(own_id, (to & 0xffff) as u16)]);
    let id_get = registers(&[0x8400_0069]);
    for _ in 0..=WARM_UP {
        answer[1] = measure::partition_call(&message).0;
        answer[2] = measure::partition_call(&id_get).0;
    }
    answer[3] = measure::partition_call(&message).1[0];
}

/// Carries out [`Command::MeasureNotification`] for partition `own_id`.
pub fn measure_notification(own_id: u16, [peer, step]: [u64; 2], answer: &mut [u64; 14]) {
    const BIT: u64 = 1;
    /// The schedule receiver interrupt waits until the partition is done: it would preempt it.
    const DELAY: u64 = 1 << 1;
    const FROM_PARTITIONS: u64 = 1;
    let peer = (peer & 0xffff) as u16;
    let call = registers(&match step {
        0 => [0x8400_007f, ffa::ids(peer, own_id), 0, BIT],
        1 => [0x8400_0081, ffa::ids(own_id, peer), DELAY, BIT],
        _ => [0x8400_0082, u64::from(own_id), FROM_PARTITIONS, 0],
    });
    let (ticks, result) = measure::partition_call(&call);
    answer[..4].copy_from_slice(&[DONE, ticks, result[0], result[2]]);
}
