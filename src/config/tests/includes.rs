use std::error::Error as _;
use std::fs;

use super::*;

#[test]
fn included_files_come_first_and_keep_their_directory() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("shared/data")).unwrap();
    let shared = "[vm]\ncpus = 4\nmemory = '2GiB'\n[[partition]]\nlabel = 'first'\nsize = '8MiB'\n\
                  copy = [{ from = 'data' }]";
    fs::write(lab.path("shared/base.toml"), shared).unwrap();
    let text = "include = ['shared/base.toml']\n[vm]\ncpus = 1\n[[partition]]\nlabel = 'second'";
    let loaded = lab.load(text).unwrap();
    let labels: Vec<_> = loaded
        .spec
        .partitions
        .iter()
        .map(|partition| partition.label.as_str())
        .collect();
    assert_eq!(labels, ["first", "second"]);
    assert_eq!(loaded.spec.vm.cpus, 1);
    assert_eq!(loaded.spec.vm.memory, 2 * GIB);
    let data = lab.path("shared/data").canonicalize().unwrap();
    assert_eq!(loaded.spec.partitions[0].copies[0].from, data);
    assert_eq!(
        loaded.files,
        [lab.path("lab.toml"), lab.path("shared/base.toml")]
    );
}

#[test]
fn mistakes_in_included_files_are_located_there() {
    let lab = Lab::new();
    fs::write(lab.path("base.toml"), "# é\n[vm]\n  cpu = 4\n").unwrap();
    let error = lab.load("include = ['base.toml']").unwrap_err();
    assert_eq!(
        lab.strip(&error.to_string()),
        "base.toml:3:3: unknown key `cpu` in [vm]"
    );
}

#[test]
fn a_file_included_twice_counts_once() {
    let lab = Lab::new();
    fs::write(lab.path("a.toml"), "include = ['c.toml']").unwrap();
    fs::write(lab.path("b.toml"), "include = ['c.toml']").unwrap();
    fs::write(lab.path("c.toml"), "[[partition]]").unwrap();
    let loaded = lab.load("include = ['a.toml', 'b.toml']").unwrap();
    assert_eq!(loaded.spec.partitions.len(), 1);
    assert_eq!(loaded.files.len(), 4);
}

#[test]
fn cycles_and_missing_includes_are_errors() {
    let lab = Lab::new();
    let text = "include = ['a.toml']";
    fs::write(lab.path("lab.toml"), text).unwrap();
    fs::write(lab.path("a.toml"), "\ninclude = [ 'lab.toml' ]").unwrap();
    let error = lab.load(text).unwrap_err();
    assert_eq!(
        lab.strip(&error.to_string()),
        "a.toml:2:13: include of `lab.toml` closes a cycle"
    );
    let error = lab.load("include = ['none.toml']").unwrap_err();
    assert_eq!(
        lab.strip(&error.to_string()),
        "lab.toml:1:12: none.toml: cannot be read"
    );
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .starts_with("No such file")
    );
    assert_eq!(
        error.hint().unwrap(),
        "relative paths start at the directory of the config file that names them"
    );
}

#[test]
fn a_config_that_cannot_be_read_has_no_place() {
    let lab = Lab::new();
    let error = super::super::load(&lab.path("absent.toml")).unwrap_err();
    assert_eq!(lab.strip(&error.to_string()), "absent.toml: cannot be read");
    let hint = error.hint().unwrap();
    assert_eq!(hint, "`miragefs init` writes a starter config");
    let error = super::super::load(&lab.path("boot")).unwrap_err();
    let hint = error.hint().unwrap();
    assert_eq!(
        hint,
        "name the config in the directory, such as miragefs.toml"
    );
}
