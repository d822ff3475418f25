//! A shell in the normal world, in the place of a boot loader: FF-A calls by hand, each answer in words and in registers.
//!
//! | module | what |
//! | --- | --- |
//! | `editor` | a line, as somebody types it |
//! | `words` | numbers, UUIDs and names in a line |
//! | `peers` | the partitions that there are, and what they are called |
//! | `names` | what FF-A calls its functions, features and errors |
//! | `answer` | what a call returned, in words |
//! | `commands`, `memory`, `notify` | what can be said |
#![no_std]
#![no_main]

mod answer;
mod commands;
mod editor;
mod memory;
mod names;
mod notify;
mod peers;
mod words;

use tantalum_partition::{
    Boot, entry,
    ffa::{self, SMC},
    normal_world::{cores, gic},
    println,
};

entry!(main);

fn main(boot: Boot) -> ! {
    gic::init();
    if !boot.is_first {
        cores::work(boot.context);
    }
    println!("\ntantalum: normal world, a shell at EL2");
    if let Err(error) = SMC.version(ffa::VERSION) {
        println!("no FF-A here: {error}");
    }
    println!("{} core(s); these partitions:", cores::start());
    peers::discover();
    peers::print();
    println!("\nhelp says what can be said, off powers off");
    let mut editor = editor::Editor::new();
    loop {
        commands::run_line(editor.read("tantalum> "));
    }
}
