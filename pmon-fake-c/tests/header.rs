//! The committed header is the one that the interface has.

use std::fs;
use std::path::Path;

/// The files of the interface, in the order of the header.
const SOURCES: &[&str] = &["kernel.rs", "processes.rs", "faults.rs"];

#[test]
fn the_header_matches_the_interface() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut builder = cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file(package.join("cbindgen.toml")).unwrap());
    for source in SOURCES {
        builder = builder.with_src(package.join("src/interface").join(source));
    }
    let mut generated = Vec::new();
    builder.generate().unwrap().write(&mut generated);
    let generated = String::from_utf8(generated).unwrap().replace('`', "");
    let header = package.join("include/pmon_fake.h");
    if std::env::var_os("PMON_UPDATE_HEADER").is_some() {
        fs::write(&header, &generated).unwrap();
    }
    let committed = fs::read_to_string(&header).unwrap();
    assert!(
        committed == generated,
        "{} is out of date: run `PMON_UPDATE_HEADER=1 cargo test -p pmon-fake-c --test header`",
        header.display()
    );
}
