//! Identifiers of partitions and their file systems, as guests ask for them.

use uuid::Uuid;

use super::fingerprint;
use crate::config::spec::{Ext4Spec, Filesystem, PartitionSpec, Piece, Spec};

/// What inline files may name, by the index of the partition.
#[derive(Debug, Clone, Default)]
pub struct Identifiers(Vec<OfPartition>);

#[derive(Debug, Clone)]
struct OfPartition {
    uuid: String,
    label: String,
    partition_uuid: String,
}

/// The UUID of a partition's file system or swap area.
#[must_use]
pub fn file_system_uuid(seed: &str, partition: &PartitionSpec) -> Uuid {
    if let Filesystem::Ext4(Ext4Spec {
        uuid: Some(uuid), ..
    }) = &partition.filesystem
    {
        return *uuid;
    }
    fingerprint::uuid(seed, &format!("file system {}", partition.label))
}

/// The PARTUUID that Linux gives the partition of a master boot record (kernel block/partitions/msdos.c): the disk
/// signature and the number of the entry, from 1.
#[must_use]
pub fn partition_uuid(disk_signature: u32, number: usize) -> String {
    format!("{disk_signature:08x}-{number:02x}")
}

impl Identifiers {
    /// Those of a config.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let signature = fingerprint::disk_signature(&spec.seed);
        let numbered = (1_usize..).zip(&spec.partitions);
        Self(
            numbered
                .map(|(number, partition)| OfPartition {
                    uuid: file_system_uuid(&spec.seed, partition).to_string(),
                    label: partition.volume_label().to_owned(),
                    partition_uuid: partition_uuid(signature, number),
                })
                .collect(),
        )
    }

    /// The bytes of an inline file.
    ///
    /// # Panics
    /// If a piece names a partition of another config.
    #[must_use]
    pub fn fill(&self, pieces: &[Piece]) -> Vec<u8> {
        let of = |index: &usize| {
            self.0
                .get(*index)
                .expect("pieces name partitions of the config")
        };
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend_from_slice(match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Uuid(index) => of(index).uuid.as_bytes(),
                Piece::Label(index) => of(index).label.as_bytes(),
                Piece::PartitionUuid(index) => of(index).partition_uuid.as_bytes(),
            });
        }
        bytes
    }
}
