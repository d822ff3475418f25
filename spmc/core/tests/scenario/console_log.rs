//! FFA_CONSOLE_LOG, 32 and 64 bits (FF-A 1.2, section 13.13).

use tantalum_core::machine::Machine;

use crate::support::*;

/// Registers of a call that logs `text`, `bytes_each` characters a register.
fn log(id: u64, text: &[u8], bytes_each: usize) -> Vec<u64> {
    let mut registers = vec![id, text.len() as u64];
    for chunk in text.chunks(bytes_each) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        registers.push(u64::from_le_bytes(bytes));
    }
    registers
}

fn logged(calls: &[Vec<u64>]) -> String {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.machine.take_console();
    for call in calls {
        system.smc(0, call);
        assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), success(0)));
    }
    system.machine.take_console()
}

#[test]
fn of_32_bits_has_24_characters() {
    let mut call = log(CONSOLE_LOG, b"abcdefghijklmnopqrstuvw\n", 4);
    assert_eq!(call.len(), 8);
    for register in &mut call {
        *register |= 0xdead_beef << 32;
    }
    assert_eq!(logged(&[call]), "[a 0x8001.0] abcdefghijklmnopqrstuvw\n");
}

#[test]
fn of_64_bits_has_128_characters() {
    let text: Vec<u8> = (b'a'..=b'z').cycle().take(127).chain([b'\n']).collect();
    let call = log(CONSOLE_LOG_64, &text, 8);
    assert_eq!(call.len(), 18);
    assert_eq!(
        logged(&[call]),
        format!("[a 0x8001.0] {}", String::from_utf8(text).expect("text"))
    );
}

#[test]
fn lines_are_put_together_per_context() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.ask(1, A);
    system.machine.take_console();
    system.smc(0, &log(CONSOLE_LOG, b"one", 4));
    system.smc(1, &log(CONSOLE_LOG, b"two", 4));
    system.smc(0, &log(CONSOLE_LOG, b" more\nand", 4));
    system.smc(1, &log(CONSOLE_LOG, b"\n", 4));
    // An empty line is none.
    system.smc(0, &log(CONSOLE_LOG, b"\n\n", 4));
    assert_eq!(
        system.machine.take_console(),
        "[a 0x8001.0] one more\n[a 0x8001.1] two\n[a 0x8001.0] and\n"
    );
}

#[test]
fn long_lines_are_broken() {
    let text = [b'x'; 128];
    let shown = logged(&[log(CONSOLE_LOG_64, &text, 8), log(CONSOLE_LOG_64, b"y\n", 8)]);
    assert_eq!(shown, format!("[a 0x8001.0] {}\n[a 0x8001.0] y\n", "x".repeat(128)));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let shown = logged(&[log(CONSOLE_LOG, b"a\x1b[2J\x07\x7f\x80\xff\0\r\tb\n", 4)]);
    assert_eq!(shown, "[a 0x8001.0] a?[2J???? b\n");
    let everything: Vec<u8> = (0..=255).collect();
    let shown = logged(&[
        log(CONSOLE_LOG_64, &everything[..128], 8),
        log(CONSOLE_LOG_64, &everything[128..], 8),
    ]);
    assert!(
        shown.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)),
        "{shown:?}"
    );
}

#[test]
fn too_few_or_many_characters_are_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for count in [0, 25, 128, 0xff, 0x100, 0x118, 1 << 31, 0xffff_ffff] {
        system.smc_fails(0, &[CONSOLE_LOG, count], INVALID_PARAMETERS);
    }
    for count in [0, 129, 0x100, 0x180, 0xffff_ffff] {
        system.smc_fails(0, &[CONSOLE_LOG_64, count], INVALID_PARAMETERS);
    }
    assert_eq!(system.machine.console.matches("[a ").count(), 0);
}

#[test]
fn is_there_from_ffa_1_1_on() {
    // FF-A has it since 1.2; older partitions written for other SPMCs use it all the same.
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| a.version(1, 1))
        .partition_with("b", |b| b.version(1, 0))
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &log(CONSOLE_LOG, b"x\n", 4));
    assert_eq!(system.regs(0), success(0));
    // Six registers, not sixteen.
    system.smc(0, &log(CONSOLE_LOG_64, &[b'x'; 48], 8));
    assert_eq!(system.regs(0), success(0));
    system.smc_fails(0, &log(CONSOLE_LOG_64, &[b'x'; 49], 8), INVALID_PARAMETERS);
    system.respond(0, A, 0);
    system.ask(0, B);
    system.smc_fails(0, &log(CONSOLE_LOG, b"x\n", 4), NOT_SUPPORTED);
}

#[test]
fn by_the_normal_world_is_not_supported() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &log(CONSOLE_LOG, b"x\n", 4), NOT_SUPPORTED);
    system.nwd_fails(0, &log(CONSOLE_LOG_64, b"x\n", 8), NOT_SUPPORTED);
}

#[test]
fn works_while_initialising() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc(0, &log(CONSOLE_LOG, b"hello\n", 4));
    assert_eq!(system.machine.take_console(), "[a 0x8001.0] hello\n");
}

#[test]
fn budget_of_a_partition_is_used_up_and_comes_back() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let text = [b'x'; 128];
    let mut calls = 0;
    loop {
        system.smc(0, &log(CONSOLE_LOG_64, &text, 8));
        if system.regs(0)[0] != 0x8400_0061 {
            break;
        }
        calls += 1;
        assert!(calls < 1000, "there is an end to it");
    }
    assert_eq!(system.regs(0)[2], 0xffff_fff9, "RETRY");
    // Another partition has its own.
    system.ask(1, B);
    system.smc(1, &log(CONSOLE_LOG_64, &text, 8));
    assert_eq!(system.regs(1), success(0));
    // Time brings it back.
    let second = system.machine.frequency();
    system.machine.advance(second);
    system.smc(0, &log(CONSOLE_LOG_64, &text, 8));
    assert_eq!(system.regs(0), success(0));
}
