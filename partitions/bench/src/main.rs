//! The smallest partition that answers messages, for counting instructions: some five of its own a message, and no MMU.
//!
//! The commands that it knows are to measure messages to another partition and notifications, to borrow memory, to spin, and to handle the clock's
//! interrupts.
#![no_std]
#![no_main]

use tantalum_agent::{Borrower, CLOCK_DEVICE, Command, DONE, measure, measure_notification, quench};
use tantalum_partition::{
    Boot, arch, entry,
    ffa::{FuncId, Registers, Request, SMC, registers},
    interrupts::{self, Kind},
    measure::answer_until_command,
};

entry!(main, mmu = off);

fn main(_: Boot) -> ! {
    let own_id = SMC.id_get().unwrap_or(0);
    let wait = registers(&[FuncId::MsgWait32 as u64]);
    let mut borrower = Borrower::new(own_id);
    let mut event = answer_until_command(&wait);
    loop {
        let response = Request::from_registers(&event).map_or(wait, |request| obey(own_id, &mut borrower, &request));
        event = answer_until_command(&response);
    }
}

/// Handles an interrupt of the clock.
fn handle(_: Kind) {
    if let Some(id) = interrupts::take() {
        quench(CLOCK_DEVICE.0 + 0x1c, 1);
        interrupts::deactivate(id);
    }
}

/// Carries out a command; any other message goes back as it came.
fn obey(own_id: u16, borrower: &mut Borrower, request: &Request) -> Registers {
    let [command, peer, third, ..] = *request.payload() else {
        return request.echo().registers;
    };
    let mut answer = [0; 14];
    match Command::from_word(command) {
        Some(Command::Measure) => measure(own_id, peer, &mut answer),
        Some(Command::MeasureNotification) => measure_notification(own_id, [peer, third], &mut answer),
        Some(Command::Borrow) => borrower.obey([peer, third, 0], &mut answer),
        Some(Command::Spin) => {
            let end = arch::counter() + arch::ticks(peer);
            while arch::counter() < end {}
        }
        Some(Command::Listen) => {
            interrupts::enable(CLOCK_DEVICE.1, true, Kind::Irq);
            interrupts::listen(handle);
            answer[0] = DONE;
        }
        _ => return request.echo().registers,
    }
    request.respond(&answer).registers
}
