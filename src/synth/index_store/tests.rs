//! Stores that were cut off, damaged or belong to something else.

use super::*;

fn grain(number: u32) -> IndexedGrain {
    IndexedGrain {
        len: number + 1,
        crc: number,
    }
}

fn key(number: u32) -> GrainKey {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.to_le_bytes());
    key
}

const ID: StoreId = StoreId([7; 16]);

/// A store of ten grains, closed again, and its file.
fn filled(directory: &Path) -> PathBuf {
    let store = GrainStore::open(directory, ID);
    for number in 0..10 {
        store.insert(key(number), grain(number));
    }
    directory.join(ID.file_name("grains"))
}

#[test]
fn grains_are_there_after_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(&directory.path().join("deep/er"));
    let store = GrainStore::open(path.parent().unwrap(), ID);
    assert_eq!(store.len(), 10);
    for number in 0..10 {
        assert_eq!(store.get(&key(number)), Some(grain(number)));
    }
    assert_eq!(store.get(&key(10)), None);
    assert!(!store.is_empty() && GrainStore::in_memory().is_empty());
}

#[test]
fn a_file_that_was_cut_off_keeps_its_whole_records() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let len = fs::metadata(&path).unwrap().len();
    for cut in [1, 31, 32, 33] {
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(len - cut)
            .unwrap();
        let store = GrainStore::open(directory.path(), ID);
        assert_eq!(to_u64(store.len()), 10 - cut.div_ceil(32), "{cut}");
        for number in 0..10 {
            store.insert(key(number), grain(number));
        }
        drop(store);
        assert_eq!(GrainStore::open(directory.path(), ID).len(), 10);
        filled(&directory.path().join("other"));
    }
}

#[test]
fn damage_costs_the_records_that_it_hit() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let sound = fs::read(&path).unwrap();
    for at in HEADER_LEN..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let store = GrainStore::open(directory.path(), ID);
        assert_eq!(store.len(), 9, "byte {at}");
    }
}

#[test]
fn foreign_files_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let sound = fs::read(&path).unwrap();
    for at in 0..HEADER_LEN {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(GrainStore::open(directory.path(), ID).is_empty(), "{at}");
        assert_eq!(fs::read(&path).unwrap(), sound[..HEADER_LEN]);
    }
    fs::write(&path, "something else").unwrap();
    let store = GrainStore::open(directory.path(), ID);
    store.insert(key(1), grain(1));
    drop(store);
    assert_eq!(GrainStore::open(directory.path(), ID).len(), 1);
    assert!(GrainStore::open(directory.path(), StoreId([8; 16])).is_empty());
}

#[test]
fn the_second_process_keeps_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let first = GrainStore::open(directory.path(), ID);
    let second = GrainStore::open(directory.path(), ID);
    second.insert(key(1), grain(1));
    assert_eq!(second.get(&key(1)), Some(grain(1)));
    first.insert(key(2), grain(2));
    drop((first, second));
    let third = GrainStore::open(directory.path(), ID);
    assert_eq!(
        (third.get(&key(1)), third.get(&key(2))),
        (None, Some(grain(2)))
    );
}

#[test]
fn a_place_that_cannot_be_written_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    let store = GrainStore::open(&file, ID);
    store.insert(key(1), grain(1));
    assert_eq!(store.len(), 1);
    let digests = DigestStore::new(&file, ID, [1; 32]);
    digests.put("00");
    assert_eq!(digests.get(2), None);
}

#[test]
fn digests_hold_for_their_content_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = |key| DigestStore::new(directory.path(), ID, [key; 32]);
    let digest = "ab".repeat(32);
    assert_eq!(store(1).get(64), None);
    store(1).put(&digest);
    assert_eq!(store(1).get(64), Some(digest));
    assert_eq!(store(1).get(40), None);
    assert_eq!(store(2).get(64), None);
    let path = directory.path().join(ID.file_name("digest"));
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(store(1).get(64), None, "byte {at}");
    }
    assert_eq!(StoreId::of(&[b"a", b"bc"]), StoreId::of(&[b"a", b"bc"]));
    assert_ne!(StoreId::of(&[b"ab", b"c"]), StoreId::of(&[b"a", b"bc"]));
}

#[test]
fn what_nobody_wants_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(ID.file_name("grains"));
    let store = GrainStore::open(directory.path(), ID);
    for number in 0..3000 {
        store.insert(key(number), grain(number));
    }
    store.compact();
    assert_eq!(store.len(), 3000);
    drop(store);
    let store = GrainStore::open(directory.path(), ID);
    for number in 0..100 {
        assert!(store.get(&key(number)).is_some());
    }
    store.compact();
    store.insert(key(5000), grain(1));
    assert_eq!(store.len(), 101);
    drop(store);
    let len = HEADER_LEN + 101 * RECORD_LEN;
    assert_eq!(fs::metadata(&path).unwrap().len(), to_u64(len));
    let store = GrainStore::open(directory.path(), ID);
    assert_eq!(store.len(), 101);
    assert_eq!(store.get(&key(99)), Some(grain(99)));
    // Few records are not worth it.
    store.compact();
    assert_eq!(store.len(), 101);
}

#[test]
fn files_of_old_configs_go() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..=FILES_MAX {
        let path = directory.path().join(format!("{number}.digest"));
        fs::write(&path, "x").unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(to_u64(number));
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    fs::write(directory.path().join("notes"), "not ours").unwrap();
    drop(GrainStore::open(directory.path(), ID));
    assert!(!directory.path().join("0.digest").exists());
    assert!(!directory.path().join("255.digest").exists());
    assert!(directory.path().join("256.digest").exists());
    assert!(directory.path().join("notes").exists());
}
