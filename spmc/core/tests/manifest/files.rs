//! The manifests in `manifests/bad` and `manifests/compat`: each gets exactly the diagnostics that it says.
//!
//! A file says so in comments: `// kind: spmc` or `// kind: partition`, and a line `// expect: <diagnostic>` for each.
//! In a folder, `spmc.dts` is the manifest of a whole system; its `// expect:` lines are for all of it, and `// boots:
//! a b` says which partitions boot, in their order. With `TANTALUM_BLESS=1` in the environment the `// expect:` lines
//! of all files are written anew; read the difference before you commit it.

use crate::support::{boot, check_manifest, check_spmc, comments, compile, entries, manifests, shown, sources, stem};
use std::path::Path;
use std::{env, fs};
use tantalum_core::manifest::{PartitionManifest, Report, SpmcManifest};

/// Reads the single manifest `source`. Returns whether it was accepted.
fn parse(source: &Path, report: &mut Report) -> bool {
    let blob = compile(source);
    match comments(source, "kind").first().map(String::as_str) {
        Some("spmc") => {
            let manifest = SpmcManifest::parse(&blob, report);
            manifest.iter().for_each(check_spmc);
            manifest.is_some()
        }
        Some("partition") => {
            let manifest = PartitionManifest::parse(stem(source), &blob, report);
            manifest.iter().for_each(check_manifest);
            manifest.is_some()
        }
        other => panic!("{}: kind {other:?}", source.display()),
    }
}

/// Compares what `source` expects with `found`, or writes it anew.
fn compare(source: &Path, found: &[String], problems: &mut Vec<String>) {
    let expected = comments(source, "expect");
    if expected == found {
        return;
    }
    if env::var_os("TANTALUM_BLESS").is_some() {
        let text = fs::read_to_string(source).unwrap();
        let rest = text
            .lines()
            .filter(|line| !line.starts_with("// expect: "))
            .map(|line| format!("{line}\n"));
        let lines = found.iter().map(|line| format!("// expect: {line}\n"));
        fs::write(source, lines.chain(rest).collect::<String>()).unwrap();
    }
    problems.push(format!(
        "{}\n  expected {expected:#?}\n  found {found:#?}",
        source.display()
    ));
}

/// Runs all single manifests of `folder` and all systems below it; returns how many there were.
fn run(folder: &Path, accepted: impl Fn(&Path) -> bool) -> usize {
    let mut problems = Vec::new();
    let singles = sources(folder);
    for source in &singles {
        let mut report = Report::new();
        let parsed = parse(source, &mut report);
        compare(source, &shown(report.diagnostics()), &mut problems);
        assert_eq!(
            parsed,
            accepted(source),
            "{}: {:#?}",
            source.display(),
            shown(report.diagnostics())
        );
        assert!(
            parsed || report.errors() != 0,
            "{}: refused without an error",
            source.display()
        );
    }
    let systems = entries(folder, |path| path.join("spmc.dts").exists());
    for system in &systems {
        let mut report = Report::new();
        let booted = boot(system, &mut report);
        let source = system.join("spmc.dts");
        compare(&source, &shown(report.diagnostics()), &mut problems);
        let names: Vec<_> = booted
            .iter()
            .flat_map(|(_, list)| list)
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(comments(&source, "boots"), [names.join(" ")], "{}", source.display());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    singles.len() + systems.len()
}

/// A broken manifest is refused, unless what is wrong concerns single partitions of an SPMC manifest.
#[test]
fn bad_manifests_get_their_messages() {
    let partial = |source: &Path| comments(source, "accepted").first().is_some_and(|text| text == "yes");
    let count = run(&manifests().join("bad"), partial);
    assert!(count >= 40, "{count} bad manifests");
}

/// Manifests in the shapes that users of Hafnium, OP-TEE and TF-A have are accepted.
#[test]
fn manifests_of_others_are_accepted() {
    let count = run(&manifests().join("compat"), |_| true);
    assert!(count >= 6, "{count} manifests");
}

/// A manifest's `id` is obeyed; the others have 0x8000 + N, or where that is taken an id that is nobody's.
#[test]
fn ids_are_those_of_the_manifests() {
    let (_, partitions) = boot(&manifests().join("compat/system-ids"), &mut Report::new()).unwrap();
    let ids: Vec<_> = partitions.iter().map(|one| (one.vm + 1, one.id.as_u16())).collect();
    assert_eq!(ids, [(1, 0x8003), (2, 0x8002), (3, 0x8005), (4, 0x8104)]);
}

/// The manifests that the tree's own scenarios boot with: everything boots, and nothing is said that is not expected.
#[test]
fn manifests_of_the_tree_are_accepted() {
    let boards = ["qemu", "fvp"].map(|board| entries(&manifests().join(board), |path| path.join("spmc.dts").exists()));
    assert!(boards.iter().all(|systems| !systems.is_empty()));
    for system in boards.into_iter().flatten() {
        let mut report = Report::new();
        let (spmc, partitions) = boot(&system, &mut report).unwrap();
        let expected = comments(&system.join("spmc.dts"), "expect");
        assert_eq!(shown(report.diagnostics()), expected, "{}", system.display());
        assert_eq!(partitions.len(), spmc.partitions.len(), "{}", system.display());
    }
}
