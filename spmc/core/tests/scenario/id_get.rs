//! FFA_ID_GET (FF-A 1.2, section 13.10).

use crate::support::*;

#[test]
fn is_ones_own() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    system.forward(1, A, B);
    system.smc(1, &[ID_GET | 0xdead << 32, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((system.owner(1), system.regs(1)), (runs(B, 1), success(B)));
    system.hvc(1, &[ID_GET | 1 << 16]);
    assert_eq!((system.owner(1), system.regs(1)), (runs(B, 1), success(B)));
}

#[test]
fn of_the_normal_world_is_zero() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[ID_GET]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, success(0)));
    assert_eq!(system.all(0)[8..], System::upper_of_the_normal_world());
}
